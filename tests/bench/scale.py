"""What both processes take with tens of thousands of tokens, over a real API server without nodes.

In turn: the operator makes all passwords; it is restarted, and idles; all token servers start at once; access is taken
away; the one map that all use is edited; all passwords are due at once, while customers log in; all tokens are deleted.

BENCH_TOKENS, BENCH_NAMESPACES, BENCH_KILLS, BENCH_IDLE_SECONDS and BENCH_WRITES (per second, for the operator) say how
much of it. The default is the size that is promised, and takes most of an hour on two cores.
"""

import asyncio
import itertools
import os
import random
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import aiohttp

from tests.bench import figures
from tests.bench.figures import Figure
from tests.bench.fleet import Fleet, Server
from tests.bench.population import RULES, Population
from tests.chaos.api import PAUSE, ApiError, secrets_of, written
from tests.chaos.customers import granted
from tests.chaos.programs import SYSTEM
from tests.chaos.tokens import Login
from tests.chaos.waiting import cancel, eventually
from tests.cluster import progress

TOKENS = int(os.environ.get("BENCH_TOKENS", "20000"))
NAMESPACES = int(os.environ.get("BENCH_NAMESPACES", "500"))
KILLS = int(os.environ.get("BENCH_KILLS", "150"))
IDLE_SECONDS = float(os.environ.get("BENCH_IDLE_SECONDS", "120"))
WRITES = int(os.environ.get("BENCH_WRITES", "300"))
SERVERS = 3
CUSTOMERS = 4
REPOSITORY = "bench/app"
SHARED = "shared"
LONG = 4 * 3600.0
"""Seconds of the longest wait; a benchmark does not fail for being slow."""
WINDOW = 10.0
"""Seconds over which writes are counted."""


def run() -> Iterator[Figure]:
    """Measures and yields the figures."""
    return figures.run(measure())


async def measure() -> AsyncGenerator[Figure, None]:
    """All of it, one after the other, on a cluster of its own."""
    async with Fleet.open(SERVERS, WRITES) as fleet:
        population = Population(fleet.api, TOKENS, NAMESPACES)
        with progress.step(f"{TOKENS} tokens: making them"):
            await population.create()
        for part in (_first, _restart, _storm, _kills, _shared, _rotation, _deletion):
            async for figure in part(fleet, population):
                yield figure


async def _first(fleet: Fleet, population: Population) -> AsyncIterator[Figure]:
    for server in fleet.servers:
        server.program.start()
    with progress.step("every token gets its first password"):
        fleet.operator.start()
        took = await fleet.settled(TOKENS, seconds=LONG)
    ready = len(await population.ids())
    yield Figure("scale_tokens_ready", ready, "tokens", goal=TOKENS)
    yield Figure("scale_first_passwords", took, "s")
    yield Figure("scale_operator_memory_after_first_passwords", fleet.operator.mebibytes(), "MiB", goal=400, at="most")


async def _restart(fleet: Fleet, population: Population) -> AsyncIterator[Figure]:
    fleet.operator.stop()
    before = written(await fleet.api.metrics())
    fleet.operator.start()
    with progress.step("the operator is restarted, and idles"):
        yield Figure("scale_operator_settled_after_restart", await fleet.settled(TOKENS, seconds=LONG), "s", 60, "most")
        await asyncio.sleep(IDLE_SECONDS)
    writes = written(await fleet.api.metrics()) - before
    yield Figure("scale_writes_after_restart_and_idle", writes, "writes", goal=0, at="most")
    yield Figure("scale_operator_memory", fleet.operator.mebibytes(), "MiB", goal=400, at="most")
    yield Figure("scale_operator_peak_memory", fleet.operator.peak_mebibytes(), "MiB")


async def _storm(fleet: Fleet, population: Population) -> AsyncIterator[Figure]:
    one, *_ = fleet.servers
    one.program.kill()
    one.program.start()
    yield Figure("scale_token_server_ready", await fleet.ready(one, seconds=LONG), "s", goal=30, at="most")
    for server in fleet.servers:
        server.program.kill()
    for server in fleet.servers:
        server.program.start()
    with progress.step("all token servers start at once"):
        yield Figure("scale_all_token_servers_ready", await fleet.ready(*fleet.servers, seconds=LONG), "s")
    most = max(server.program.mebibytes() for server in fleet.servers)
    yield Figure("scale_token_server_memory", most, "MiB", goal=400, at="most")
    yield Figure("scale_token_server_peak_memory", max(s.program.peak_mebibytes() for s in fleet.servers), "MiB")


async def _kills(fleet: Fleet, population: Population) -> AsyncIterator[Figure]:
    """From the answer to the write until each token server has refused."""
    api = fleet.api
    kinds: dict[str, Callable[[int], Awaitable[Any]]] = {
        "disable": lambda number: api.merge(population.path(number), {"spec": {"enabled": False}}),
        "delete": lambda number: api.delete(population.path(number)),
        "descope": lambda number: api.merge(
            population.map_path(f"map-{number}"),
            {"spec": {"rules": [{"repositories": ["bench/other"], "actions": ["content/read"]}]}},
        ),
    }
    chosen = random.Random(0).sample(range(TOKENS), min(KILLS, TOKENS // 2))
    seconds: list[float] = []
    async with aiohttp.ClientSession() as session:
        with progress.step(f"access is taken away {len(chosen)} times"):
            for count, number in enumerate(chosen):
                login = await population.login(number)
                watching = [asyncio.create_task(_refused(session, server, login)) for server in fleet.servers]
                await asyncio.sleep(PAUSE)
                await list(kinds.values())[count % len(kinds)](number)
                dead = time.monotonic()
                seconds += [max(0.0, at - dead) for at in await asyncio.gather(*watching)]
    # Deleted ones come anew, with a password anew, so that later parts find all of them.
    for number in chosen:
        await population.restore(number)
    await fleet.settled(TOKENS, seconds=LONG)
    seconds.sort()
    yield Figure("scale_kill_latency_p50", _quantile(seconds, 0.5), "s")
    yield Figure("scale_kill_latency_p99", _quantile(seconds, 0.99), "s", goal=1, at="most")


async def _refused(session: aiohttp.ClientSession, server: Server, login: Login) -> float:
    """Logs in again and again; when the first login that was refused had its answer."""

    async def asked() -> bool:
        return bool(await granted(session, server.url, login, REPOSITORY))

    await eventually(asked, f"{server.name} refuses", every=0.01)
    return time.monotonic()


async def _shared(fleet: Fleet, population: Population) -> AsyncIterator[Figure]:
    with progress.step("all tokens come to use one map"):
        await population.share(SHARED)
        await fleet.settled(TOKENS, seconds=LONG)
    login = await population.login(0)
    before = written(await fleet.api.metrics())
    narrowed = [*RULES, {"repositories": ["bench/more"], "actions": ["content/read"]}]
    async with aiohttp.ClientSession() as session:
        with progress.step("the map that all tokens use is edited"):
            begun = time.monotonic()
            await fleet.api.merge(population.map_path(SHARED), {"spec": {"rules": narrowed}})
            for server in fleet.servers:
                await _granted(session, server, login, "bench/more")
            yield Figure("scale_shared_map_edit_seen_by_all_token_servers", time.monotonic() - begun, "s")
            await asyncio.sleep(1)
            await fleet.settled(TOKENS, seconds=LONG)
            yield Figure("scale_shared_map_edit_seen_by_operator", time.monotonic() - begun, "s")
    writes = written(await fleet.api.metrics()) - before
    yield Figure("scale_shared_map_edit_writes", writes - 1, "writes", goal=0, at="most")


async def _granted(session: aiohttp.ClientSession, server: Server, login: Login, repository: str) -> None:
    async def asked() -> bool:
        return not await granted(session, server.url, login, repository)

    await eventually(asked, f"{server.name} grants {repository}", every=0.01)


async def _rotation(fleet: Fleet, population: Population) -> AsyncIterator[Figure]:
    """A lost seed makes every password due at the same moment."""
    old = await population.ids()
    fleet.operator.stop()
    await fleet.api.delete(f"{secrets_of(SYSTEM)}/pullpass-seed")
    fleet.operator.start()
    counts: list[tuple[float, float]] = []
    memory: list[float] = []
    async with Customers(fleet, population) as customers:
        with progress.step("all passwords are due at once"):
            sampling = asyncio.create_task(_sample(fleet, counts, memory))
            took = await fleet.settled(TOKENS, seconds=LONG)
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
    new = await population.ids()
    yield Figure("scale_rotated", sum(new[name] != id_ for name, id_ in old.items() if name in new), "tokens", TOKENS)
    yield Figure("scale_rotation_of_everything", took, "s")
    yield Figure("scale_rotation_logins", customers.logins, "logins")
    yield Figure("scale_rotation_failed_logins", customers.failed, "logins", goal=0, at="most")
    rates = [(b - a) / (t - s) for (s, a), (t, b) in itertools.pairwise(counts)]
    yield Figure("scale_rotation_writes_per_second", max(rates, default=0), "writes/s", goal=WRITES * 1.1, at="most")
    yield Figure("scale_rotation_operator_memory_at_begin", memory[min(2, len(memory) - 1)], "MiB")
    yield Figure("scale_rotation_operator_memory", max(memory), "MiB", goal=400, at="most")


async def _sample(fleet: Fleet, counts: list[tuple[float, float]], memory: list[float]) -> None:
    """Notes the count of writes and the operator's memory, again and again."""
    while True:
        counts.append((time.monotonic(), written(await fleet.api.metrics())))
        memory.append(fleet.operator.mebibytes())
        await asyncio.sleep(WINDOW)


class Customers:
    """Log in with whatever stands in pull secrets, at any ready token server."""

    def __init__(self, fleet: Fleet, population: Population) -> None:
        self._fleet = fleet
        self._population = population
        self._random = random.Random(0)
        self.logins = 0
        self.failed = 0

    async def __aenter__(self) -> "Customers":
        self._session = aiohttp.ClientSession()
        self._tasks = [asyncio.create_task(self._buy()) for _ in range(CUSTOMERS)]
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await cancel(self._tasks)
        finally:
            await self._session.close()

    async def _buy(self) -> None:
        while True:
            number = self._random.randrange(TOKENS)
            try:
                login = await self._population.login(number)
            except ApiError:
                await asyncio.sleep(PAUSE)
                continue
            for server in self._fleet.endpoints.ready():
                self.logins += 1
                self.failed += bool(await granted(self._session, server.url, login, REPOSITORY))
            await asyncio.sleep(PAUSE)


async def _deletion(fleet: Fleet, population: Population) -> AsyncIterator[Figure]:
    begun = time.monotonic()
    with progress.step("all tokens are deleted"):
        await population.delete()
        deleted = time.monotonic() - begun

        async def nothing_left() -> bool:
            return await population.left() == (0, 0)

        await eventually(nothing_left, "no records and no entries are left", seconds=LONG, every=2)
    yield Figure("scale_deletion_of_all_tokens", deleted, "s")
    yield Figure("scale_all_swept_up", time.monotonic() - begun, "s")
    yield Figure("scale_operator_memory_after_deletion", fleet.operator.mebibytes(), "MiB", goal=400, at="most")


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]
