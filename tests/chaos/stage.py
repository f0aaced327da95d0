"""Everything together: a control plane, operators, token servers, tokens, and who keeps the books."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field

from tests.chaos import endpoints
from tests.chaos.address import own_address
from tests.chaos.api import NAMESPACES, Api, ApiError
from tests.chaos.customers import Customers
from tests.chaos.endpoints import Endpoints
from tests.chaos.ledger import Ledger
from tests.chaos.places import GUESTS, TEAM, Breakages, PlaceFaults
from tests.chaos.programs import REGISTRY_HOST, SECOND, SYSTEM
from tests.chaos.replicas import Operator, Replica, TokenServer
from tests.chaos.revocations import Revoker
from tests.chaos.tokens import Tokens
from tests.chaos.traffic import Request
from tests.chaos.waiting import eventually, until, until_none
from tests.cluster import ControlPlane, install, places, provider, start_control_plane
from tests.cluster.toolchain import Kubernetes

LEASE = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases/pullpass-operator"
STORM_SECONDS = 121.0
"""No password of a storm lives longer."""
RECOVERED_SECONDS = 30.0
"""What is left of every password's life once the operator keeps up again."""


@dataclass
class Stage:
    """A running stage. Make it with `Stage.open()`."""

    cluster: ControlPlane
    api: Api
    operators: list[Operator]
    servers: list[TokenServer]
    endpoints: Endpoints[TokenServer]
    ledger: Ledger
    tokens: Tokens
    breakages: Breakages = field(default_factory=Breakages)
    failing: int = 0
    """How many faults there are at this moment."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        name: str = "chaos",
        *,
        operators: int = 2,
        servers: int = 3,
        tokens: int = 24,
        seed: int = 0,
        kubernetes: Kubernetes = "newest",
    ) -> AsyncIterator["Stage"]:
        """Starts all of it on a cluster of its own, with the tokens settled, and ends all of it.

        The chart is installed, and its ServiceAccounts are those of the processes. Its own pods wait for a node.
        """
        address = own_address()
        # What an earlier run has left, where that was killed.
        await asyncio.to_thread(provider.stop, name)
        try:
            cluster = await asyncio.to_thread(start_control_plane, name, kubernetes=kubernetes)
            async with AsyncExitStack() as stack:
                api = await stack.enter_async_context(Api.connect(cluster.kubeconfig))
                await _furnish(cluster, api)
                of_operator, of_server = [
                    await stack.enter_async_context(
                        Api.connect(cluster.kubeconfig, token=await _token(cluster, account))
                    )
                    for account in (install.OPERATOR, install.TOKEN_SERVER)
                ]
                ledger = Ledger(api)
                service = endpoints.SERVICE
                seeds = iter(range(seed * 100, seed * 100 + 100))
                stage = cls(
                    cluster,
                    api,
                    [Operator(cluster, of_operator, f"operator-{n}", service, next(seeds)) for n in range(operators)],
                    [TokenServer(cluster, of_server, f"server-{n}", address, next(seeds)) for n in range(servers)],
                    Endpoints(api, []),
                    ledger,
                    Tokens(api, ledger, tokens),
                )
                stage.endpoints = Endpoints(api, stage.servers)
                async with stage._running():
                    yield stage
        finally:
            await asyncio.to_thread(provider.stop, name)

    @asynccontextmanager
    async def _running(self) -> AsyncIterator[None]:
        keeping = self.ledger.task()
        try:
            for replica in self.replicas:
                await replica.start()
            await self.endpoints.start()
            await self.tokens.create()
            await self.settled()
            yield
        finally:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await self.endpoints.stop()
            for replica in self.replicas:
                await replica.stop()

    @property
    def replicas(self) -> list[Replica]:
        """Operators and token servers."""
        return [*self.operators, *self.servers]

    def requests(self) -> list[Request]:
        """Everything that the operators have asked of the API server."""
        return [request for operator in self.operators for request in operator.proxy.requests]

    def customers(self, *, seed: int = 0) -> Customers:
        """Customers for these tokens."""
        return Customers(self.api, self.endpoints, self.tokens, self.ledger, self.breakages, seed=seed)

    def place_faults(self) -> PlaceFaults:
        """Breaks places for the operators."""
        return PlaceFaults(self.api, [operator.proxy for operator in self.operators], self.breakages)

    def revoker(self) -> Revoker:
        """Takes access away from tokens of its own."""
        return Revoker(self.api, self.endpoints, self.tokens, lambda: self.failing > 0)

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Something is failing while the context lasts."""
        self.failing += 1
        try:
            yield
        finally:
            self.failing -= 1

    async def holder(self) -> Operator | None:
        """The operator that holds the Lease, as far as the API server knows."""
        try:
            identity = (await self.api.get(LEASE))["spec"].get("holderIdentity")
        except ApiError:
            return None
        return next((operator for operator in self.operators if operator.name == identity), None)

    async def leader(self) -> Operator:
        """Waits until an operator holds the Lease and works; that one."""

        async def working() -> Operator | None:
            operator = await self.holder()
            if operator is None or not operator.program.alive or operator.paused:
                return None
            metrics = await operator.metrics(self.endpoints.session)
            return operator if metrics.get("pullpass_operator_leader") == 1 else None

        return await eventually(working, "an operator leads")

    async def other_leader(self, than: Operator) -> Operator:
        """Waits until another operator than this one leads."""

        async def other() -> Operator | None:
            holder = await self.holder()
            return holder if holder is not than else None

        return await eventually(other, f"another operator than {than.name} leads")

    def restore(self) -> None:
        """Nothing fails from now on, and whoever is away comes back."""
        for replica in self.replicas:
            replica.resume()
            replica.proxy.calm()
            replica.keep()

    def keep_logs(self) -> None:
        """Keeps what the processes have said, the only trace of why something did not come about."""
        kept = places.clusters().parent / "failed" / self.cluster.name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(self.cluster.directory / "logs", kept)
        print(f"the logs are kept in {kept}", file=sys.stderr)

    async def all_ready(self) -> None:
        """Waits until every token server is ready."""
        await until(lambda: len(self.endpoints.ready()) == len(self.servers), "every token server is ready")

    async def settled(self, *, retired: bool = False) -> None:
        """Waits until somebody leads, every token server is ready and every token is as it should be."""
        await self.leader()
        await self.all_ready()
        await until_none(lambda: self.tokens.unsettled(retired=retired), "tokens that have not settled")

    async def storm(self, *, others: int = 0) -> None:
        """Begins a storm of rotations, and waits until no password is left that would last beyond it."""
        await self.tokens.storm(others=others)
        await until(lambda: self.tokens.longest_left() < STORM_SECONDS, "every password is one of the storm")

    async def recovered(self) -> None:
        """Waits until nothing fails any more, every place has the current password, and rotations keep up."""
        await self.leader()
        await self.all_ready()
        await until_none(self.tokens.behind, "places without the current password")
        await until(lambda: self.tokens.seconds_left() > RECOVERED_SECONDS, "rotations keep up")


async def _furnish(cluster: ControlPlane, api: Api) -> None:
    second = json.dumps([SECOND.model_dump(mode="json", by_alias=True, include={"name", "hosts", "service"})])
    values = [f"--set=registryHosts={{{REGISTRY_HOST}}}", f"--set-json=registries={second}"]
    chart = ["upgrade", "--install", install.NAME, str(install.CHART), "--create-namespace", *values]
    await asyncio.to_thread(install.helm, cluster, *chart)
    await asyncio.to_thread(cluster.kubectl, "wait", "--for=condition=Established", "crd", "--all")
    await api.create(NAMESPACES, {"metadata": {"name": TEAM}})
    consent = {"pullpass.dev/accept-pull-secrets-from": TEAM}
    for namespace in GUESTS:
        await api.create(NAMESPACES, {"metadata": {"name": namespace, "annotations": consent}})


async def _token(cluster: ControlPlane, account: str) -> str:
    """A token of this ServiceAccount that outlasts every run."""
    create = ["create", "token", account, f"--namespace={SYSTEM}", "--duration=24h"]
    return (await asyncio.to_thread(cluster.kubectl, *create)).stdout
