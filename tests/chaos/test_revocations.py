"""Whoever takes access away notices when it comes back."""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import pytest_asyncio
from aiohttp import web

from tests.chaos import revocations
from tests.chaos.api import Api
from tests.chaos.endpoints import Endpoints
from tests.chaos.replicas import TokenServer
from tests.chaos.revocations import WAYS, Revoker, Way
from tests.chaos.test_customers import Server, login
from tests.chaos.tokens import Login, Tokens


@dataclass
class Program:
    """A process."""

    begun: float = 0.0


@dataclass
class Cluster:
    """An API with nothing behind it, and a server that answers as it is told once something is taken away."""

    server: Server = field(default_factory=Server)
    afterwards: list[int] = field(default_factory=lambda: [401])
    """The statuses of its answers then; the last one stays."""
    ended: bool = False
    deleted: list[str] = field(default_factory=list)

    async def create(self, path: str, *bodies: Any) -> None:
        """Makes nothing."""

    async def merge(self, path: str, body: Any) -> None:
        self.ended = True

    async def delete(self, *paths: str) -> None:
        self.ended = True
        self.deleted += paths

    async def read(self, name: str) -> Login:
        return login("a")

    def ready(self) -> list[Server]:
        return [self.server]

    async def handle(self, request: web.Request) -> web.Response:
        if self.ended:
            self.server.status = self.afterwards.pop(0) if len(self.afterwards) > 1 else self.afterwards[0]
        return await self.server.handle(request)


@pytest_asyncio.fixture
async def cluster(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cluster]:
    monkeypatch.setattr(revocations, "VIGIL_SECONDS", 0.3)
    made = Cluster()
    made.server.program = Program()
    app = web.Application()
    app.router.add_get("/token", made.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


def revoker(cluster: Cluster, *, failing: bool = False) -> Revoker:
    there: Any = cluster
    return Revoker(cast(Api, there), cast(Endpoints[TokenServer], there), cast(Tokens, there), lambda: failing)


@pytest.mark.parametrize("way", WAYS)
async def test_access_that_ends_for_good(cluster: Cluster, way: Way) -> None:
    done = await revoker(cluster).revoke(way)
    assert done.regranted == []
    assert done.seconds.keys() == {"server-0"}
    assert not done.disturbed
    assert [path.rpartition("/")[2] for path in cluster.deleted[-2:]] == ["victim-0", "victim-0"]


async def test_access_that_ends_a_little_later(cluster: Cluster) -> None:
    cluster.afterwards = [200, 200, 401]
    assert (await revoker(cluster).revoke("disable")).regranted == []


async def test_access_that_comes_back(cluster: Cluster) -> None:
    cluster.afterwards = [401, 200, 401]
    assert (await revoker(cluster).revoke("disable")).regranted == ["server-0"]


async def test_a_server_that_was_started_after_the_end_and_grants(cluster: Cluster) -> None:
    cluster.afterwards = [200, 401]
    cluster.server.program = Program(begun=time.monotonic() + 3600)
    assert (await revoker(cluster).revoke("disable")).regranted == ["server-0"]


async def test_an_answer_that_says_nothing_is_no_refusal(cluster: Cluster) -> None:
    cluster.afterwards = [503, 200, 401]
    assert (await revoker(cluster).revoke("disable")).regranted == []


async def test_what_fails_meanwhile_is_noted(cluster: Cluster) -> None:
    assert (await revoker(cluster, failing=True).revoke("disable")).disturbed
