"""How both processes do with little processor time: 50, 100 and 500 thousandths of a processor.

For each of these, a token server and then the operator is started anew over tokens, as many ScopeMaps and some of the
largest ScopeMaps, and is starved from its start on. Once the token server is ready, clients log in over new connections
while the large maps are edited.

BENCH_TOKENS, BENCH_NAMESPACES, BENCH_LARGE_MAPS, BENCH_MILLICORES (with commas) and BENCH_PRESS_SECONDS say how much of
it.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator

from tests.bench import figures
from tests.bench.figures import Figure
from tests.bench.fleet import Fleet
from tests.bench.population import Population
from tests.chaos.large import LargeMaps
from tests.chaos.pressing import Clients
from tests.chaos.starving import starved
from tests.cluster import progress

TOKENS = int(os.environ.get("BENCH_TOKENS", "20000"))
NAMESPACES = int(os.environ.get("BENCH_NAMESPACES", "500"))
LARGE_MAPS = int(os.environ.get("BENCH_LARGE_MAPS", "200"))
MILLICORES = [int(text) for text in os.environ.get("BENCH_MILLICORES", "500,100,50").split(",")]
PRESS_SECONDS = float(os.environ.get("BENCH_PRESS_SECONDS", "60"))
WRITES = 300
LOGINS = 200
"""Tokens that clients log in with."""
LONG = 2 * 3600.0
"""Seconds of the longest wait."""


def run() -> Iterator[Figure]:
    """Measures and yields the figures."""
    return figures.run(measure())


async def measure() -> AsyncGenerator[Figure, None]:
    """All of it, one after the other, on a cluster of its own."""
    async with Fleet.open(1, WRITES) as fleet:
        population, large = Population(fleet.api, TOKENS, NAMESPACES), LargeMaps(fleet.api, LARGE_MAPS)
        with progress.step(f"{TOKENS} tokens and {LARGE_MAPS} large maps: making them"):
            await population.create()
            (server,) = fleet.servers
            server.program.start()
            fleet.operator.start()
            await fleet.settled(TOKENS, seconds=LONG)
            await large.create()
        for millicores in MILLICORES:
            async for figure in _token_server(fleet, population, large, millicores):
                yield figure
        for millicores in MILLICORES:
            fleet.operator.kill()
            fleet.operator.start()
            with starved(fleet.operator, millicores), progress.step(f"the operator starts with {millicores}m"):
                seconds = await fleet.settled(TOKENS, seconds=LONG)
            yield Figure(f"starved_{millicores}m_operator_settled", seconds, "s")


async def _token_server(
    fleet: Fleet, population: Population, large: LargeMaps, millicores: int
) -> AsyncGenerator[Figure, None]:
    (server,) = fleet.servers
    logins = [await population.login(number) for number in range(min(LOGINS, TOKENS))]
    server.program.kill()
    server.program.start()
    with starved(server.program, millicores):
        with progress.step(f"a token server starts with {millicores}m"):
            yield Figure(f"starved_{millicores}m_ready", await fleet.ready(server, seconds=LONG), "s")
        editing = asyncio.create_task(large.edit())
        async with Clients(server.url, logins) as clients:
            with progress.step("clients log in while the large maps are edited"):
                await asyncio.sleep(PRESS_SECONDS)
        editing.cancel()
        await asyncio.gather(editing, return_exceptions=True)
    for result in ("answered", "refused", "waiting"):
        yield Figure(f"starved_{millicores}m_logins_{result}", clients.results[result], "logins")
    yield Figure(f"starved_{millicores}m_logins_cut_off", clients.results["cut off"], "logins", goal=0, at="most")
