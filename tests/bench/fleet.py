"""A control plane with one operator and some token servers, as processes that reach it directly."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp

from tests.chaos import endpoints, programs
from tests.chaos.address import own_address
from tests.chaos.api import NAMESPACES, Api
from tests.chaos.endpoints import Endpoints
from tests.chaos.programs import CREDENTIALS, SYSTEM, Program
from tests.chaos.waiting import eventually
from tests.cluster import ControlPlane, places, ports, provider, start_control_plane

NAME = "bench"


@dataclass
class Server:
    """A token server. `ready` is what its EndpointSlice says."""

    name: str
    address: str
    port: int
    management_port: int
    program: Program
    ready: bool = False
    changes: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self.address}:{self.port}"

    @property
    def management_url(self) -> str:
        """Where its management port is."""
        return f"http://{self.address}:{self.management_port}"


class Fleet:
    """Make it with `Fleet.open()`; nothing is started yet but the control plane."""

    def __init__(self, cluster: ControlPlane, api: Api, servers: int, writes: int) -> None:
        address, self._metrics_port = own_address(), ports.free()
        arguments = programs.operator("operator", ports.free(), self._metrics_port, endpoints.SERVICE)
        self.api = api
        self.operator = Program(cluster, "operator", [*arguments, f"--writes-per-second={writes}"], cluster.kubeconfig)
        self.servers = [self._server(cluster, f"server-{number}", address) for number in range(servers)]
        self.endpoints = Endpoints(api, self.servers)

    @staticmethod
    def _server(cluster: ControlPlane, name: str, address: str) -> Server:
        port, management_port = ports.free(), ports.free()
        arguments = programs.token_server(port, management_port)
        return Server(name, address, port, management_port, Program(cluster, name, arguments, cluster.kubeconfig))

    @classmethod
    @asynccontextmanager
    async def open(cls, servers: int, writes: int) -> AsyncIterator["Fleet"]:
        """Ends all of it at the end."""
        await asyncio.to_thread(provider.stop, NAME)
        try:
            cluster = await asyncio.to_thread(start_control_plane, NAME)
            async with Api.connect(cluster.kubeconfig) as api:
                await asyncio.to_thread(cluster.kubectl, "apply", "-f", str(places.ROOT / "crds"))
                await asyncio.to_thread(cluster.kubectl, "wait", "--for=condition=Established", "crd", "--all")
                for namespace in (SYSTEM, CREDENTIALS):
                    await api.create(NAMESPACES, {"metadata": {"name": namespace}})
                fleet = cls(cluster, api, servers, writes)
                await fleet.endpoints.start()
                try:
                    yield fleet
                finally:
                    await fleet.endpoints.stop()
                    for program in (fleet.operator, *(server.program for server in fleet.servers)):
                        program.kill()
        finally:
            await asyncio.to_thread(provider.stop, NAME)

    async def ready(self, *servers: Server, seconds: float) -> float:
        """Waits until these token servers are ready; how long the last one took from its start, in seconds."""
        took = 0.0
        for server in servers:

            async def answers(server: Server = server) -> bool:
                try:
                    async with self.endpoints.session.get(f"{server.management_url}/readyz") as answer:
                        return answer.status == 200
                except (aiohttp.ClientError, TimeoutError, OSError):
                    return False

            await eventually(answers, f"{server.name} is ready", seconds=seconds, every=0.05)
            took = max(took, server.program.age())
        return took

    async def settled(self, tokens: int, *, seconds: float) -> float:
        """Waits until the operator leads, has looked at all tokens and has nothing to do; its age then, in seconds."""

        async def idle() -> bool:
            metrics = await self._metrics()
            return (
                metrics.get("pullpass_operator_leader") == 1
                and metrics.get("pullpass_operator_registry_tokens") == tokens
                and metrics.get("pullpass_operator_reconciles_total", 0) >= tokens
                and metrics.get("pullpass_operator_queue_length") == 0
            )

        await eventually(idle, "the operator has nothing to do", seconds=seconds, every=0.2)
        return self.operator.age()

    async def _metrics(self) -> dict[str, float]:
        """What the operator says of itself, summed up over labels; empty where it does not answer."""
        try:
            async with self.endpoints.session.get(f"http://127.0.0.1:{self._metrics_port}/metrics") as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return {}
        sums: defaultdict[str, float] = defaultdict(float)
        for line in text.splitlines():
            if not line.startswith("#"):
                name, _, value = line.rpartition(" ")
                sums[name.partition("{")[0]] += float(value)
        return dict(sums)
