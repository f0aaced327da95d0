"""Stands in for kubelet and endpoint slice controller: probes each token server and says who is ready.

One EndpointSlice for each server, as they are all on one machine and differ in their ports.
"""

import asyncio
from typing import Any, Generic, Protocol, TypeVar

import aiohttp

from pullpass.api import acceptance
from tests.chaos.api import Api, ApiError
from tests.chaos.programs import SYSTEM

SERVICE = "pullpass-token-server-management"
COLLECTION = f"/apis/discovery.k8s.io/v1/namespaces/{SYSTEM}/endpointslices"
PERIOD_SECONDS = 2.0
TIMEOUT_SECONDS = 2.0
FAILURES = 2
"""The readiness probe of the chart."""


class Probed(Protocol):
    """A token server. Whether it is `ready` is what its EndpointSlice says."""

    name: str
    address: str
    management_port: int
    ready: bool
    changes: int

    @property
    def management_url(self) -> str:
        """Where its management port is."""
        ...


P = TypeVar("P", bound=Probed)


class Endpoints(Generic[P]):
    """The EndpointSlices of the token servers' management Service."""

    def __init__(self, api: Api, servers: list[P]) -> None:
        self._api = api
        self._servers = servers
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Probes from now on."""
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
        self.session = aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(force_close=True))
        for server in self._servers:
            await self._api.create(COLLECTION, _slice(server, False))
            self._tasks.append(asyncio.create_task(self._follow(server)))

    async def stop(self) -> None:
        """Probes no more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.session.close()

    def ready(self) -> list[P]:
        """The servers that customers are led to."""
        return [server for server in self._servers if server.ready]

    async def _follow(self, server: P) -> None:
        failures = 0
        while True:
            failures = 0 if await self._probe(server) else failures + 1
            seen = failures == 0 or (server.ready and failures < FAILURES)
            if seen != server.ready:
                await self._say(server, seen)
            await asyncio.sleep(PERIOD_SECONDS)

    async def _probe(self, server: P) -> bool:
        try:
            async with self.session.get(f"{server.management_url}/readyz") as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def _say(self, server: P, ready: bool) -> None:
        try:
            await self._api.request("PUT", f"{COLLECTION}/{server.name}", _slice(server, ready))
        except ApiError:
            return  # said again after the next probe
        server.ready = ready
        server.changes += 1


def _slice(server: Probed, ready: bool) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": SERVICE, "endpointslice.kubernetes.io/managed-by": "tests"}
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": server.name, "namespace": SYSTEM, "labels": labels},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [server.address], "conditions": {"ready": ready}}],
        "ports": [{"name": acceptance.PORT_NAME, "port": server.management_port, "protocol": "TCP"}],
    }
