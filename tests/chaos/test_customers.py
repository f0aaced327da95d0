"""A customer tells a broken promise from a server that is away and from a password that came too late."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.chaos.api import Api
from tests.chaos.customers import Customers
from tests.chaos.endpoints import Endpoints
from tests.chaos.ledger import Account, Ledger
from tests.chaos.places import RECOVERY_SECONDS, TEAM, Breakages, Place
from tests.chaos.replicas import TokenServer
from tests.chaos.tokens import Login, Tokens
from tests.cluster import ports

OVERLAP = 10.0
PLACE = Place("token", "guest")


@dataclass
class Server:
    """A token server that answers as it is told."""

    name: str = "server-0"
    url: str = ""
    changes: int = 0
    status: int = 200
    actions: tuple[str, ...] = ("pull",)
    leaves: bool = False
    program: Any = None

    async def handle(self, request: web.Request) -> web.Response:
        self.changes += self.leaves
        if self.status != 200:
            return web.Response(status=self.status)
        name = request.query["scope"].split(":")[1]
        access = [{"type": "repository", "name": name, "actions": list(self.actions)}]
        payload = base64.urlsafe_b64encode(json.dumps({"access": access}).encode()).decode().rstrip("=")
        return web.json_response({"token": f"head.{payload}.signature"})


@dataclass
class World:
    """What a customer sees: one server, one token, and what its pull secret holds now."""

    server: Server
    customers: Customers
    ledger: Ledger = field(default_factory=lambda: Ledger(cast(Api, None)))
    breakages: Breakages = field(default_factory=Breakages)
    current: str = "a"
    places: list[Place] = field(default_factory=lambda: [PLACE])
    overlaps: dict[str, float] = field(default_factory=lambda: {"token": OVERLAP})

    async def read(self, name: str, namespace: str, *, seconds: float = 0) -> Login:
        return login(self.current)

    def ready(self) -> list[Server]:
        return [self.server]

    async def visit(self, *, id_: str = "a", seconds_ago: float = 0) -> Customers:
        """Comes with what stood in the secret some time ago."""
        clock = asyncio.get_running_loop().time
        await self.customers._visit(PLACE, clock() - seconds_ago, login(id_))
        return self.customers


def login(id_: str) -> Login:
    return Login("team.token", f"text of {id_}", id_)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    server = Server()
    app = web.Application()
    app.router.add_get("/token", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    made = World(server, cast(Customers, None))
    there: Any = made
    made.customers = Customers(
        cast(Api, None), cast(Endpoints[TokenServer], there), cast(Tokens, there), made.ledger, made.breakages
    )
    async with aiohttp.ClientSession() as session:
        made.customers._session = session
        yield made
    await runner.cleanup()


async def test_a_login_that_is_granted(world: World) -> None:
    customers = await world.visit()
    assert (customers.logins, customers.refused, customers.unserved) == (1, [], 0)


async def test_refused_though_it_still_stands_there(world: World) -> None:
    world.server.status = 401
    customers = await world.visit(seconds_ago=100)
    assert "still stands" in str(customers.refused[0])
    assert customers.unserved == 0


async def test_refused_though_it_was_read_within_the_overlap(world: World) -> None:
    world.server.status, world.current = 401, "b"
    customers = await world.visit(seconds_ago=OVERLAP / 2)
    assert "replaced meanwhile by b" in str(customers.refused[0])


async def test_refused_because_the_customer_was_too_slow(world: World) -> None:
    world.server.status, world.current = 401, "b"
    customers = await world.visit(seconds_ago=OVERLAP * 2)
    assert (customers.refused, customers.late) == ([], 1)


async def test_refused_by_a_server_that_has_left_meanwhile(world: World) -> None:
    world.server.status, world.server.leaves = 401, True
    customers = await world.visit()
    assert customers.refused == []


async def test_granted_without_the_right_to_pull(world: World) -> None:
    world.server.actions = ()
    customers = await world.visit()
    assert "no right to pull" in str(customers.refused[0])


def ends(world: World, end: timedelta) -> None:
    """Password a ends by its lifetime so long from now."""
    world.ledger.accounts[f"{TEAM}/token"] = Account(ends={"a": datetime.now(UTC) + end})


@pytest.mark.parametrize(("end", "refused"), [(timedelta(seconds=9), 1), (timedelta(seconds=-1), 0)])
async def test_what_stands_in_a_broken_place_is_good_until_its_own_end(
    world: World, end: timedelta, refused: int
) -> None:
    world.server.status = 401
    ends(world, end)
    with world.breakages.broken(PLACE.namespace, "refused"):
        customers = await world.visit()
    assert (len(customers.refused), customers.ended, customers.in_broken_places) == (refused, 1 - refused, 1)


async def test_what_stands_in_a_healthy_place_must_not_come_to_its_end(world: World) -> None:
    world.server.status = 401
    ends(world, timedelta(seconds=-1))
    with world.breakages.broken("another", "refused"):
        customers = await world.visit()
    assert "in a healthy place" in str(customers.refused[0])


def test_a_place_is_healthy_again_when_it_had_time_to_recover() -> None:
    seconds = [0.0]
    breakages = Breakages(monotonic=lambda: seconds[0])
    assert breakages.healthy("guest")
    with breakages.broken("guest", "refused"), breakages.broken("guest", "cut"):
        seconds[0] += 10 * RECOVERY_SECONDS
        assert not breakages.healthy("guest")
        assert breakages.healthy("another")
    seconds[0] += RECOVERY_SECONDS
    assert not breakages.healthy("guest")
    seconds[0] += 1
    assert breakages.healthy("guest")
    assert breakages.kinds == {"refused": 1, "cut": 1}


async def test_busy(world: World) -> None:
    world.server.status = 503
    customers = await world.visit()
    assert (customers.busy, customers.refused, customers.unserved) == (1, [], 1)


async def test_away(world: World) -> None:
    world.server.url = f"http://127.0.0.1:{ports.free()}"
    customers = await world.visit()
    assert (customers.unreachable, customers.logins, customers.unserved) == (1, 0, 1)


def test_no_password_is_shown() -> None:
    assert "text of" not in repr(login("a"))
