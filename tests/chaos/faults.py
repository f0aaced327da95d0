"""What can happen to a cluster. Each fault comes, lasts a while, and is over when it returns.

Faults that take the Lease from an operator return how long nobody worked: the seconds until another one, or the same
one started anew, sent its first write.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.chaos.places import KINDS, RESOURCES
from tests.chaos.places import NAMESPACES as PLACES
from tests.chaos.programs import CREDENTIALS
from tests.chaos.proxy import Cut, Disturbance
from tests.chaos.replicas import Operator, TokenServer
from tests.chaos.stage import Stage
from tests.chaos.waiting import until

SHORT_SECONDS, LONG_SECONDS = (3.0, 25.0), (45.0, 90.0)
"""How long places are broken: while every password lives on, and for longer than the shortest of them."""

Fault = Callable[[Stage, random.Random], Awaitable[float | None]]


async def kill_operator(stage: Stage, chance: random.Random) -> float:
    """The leader dies and is started anew, with the same identity."""
    leader = await stage.leader()
    begun = _now()
    leader.kill()
    return await work_after(stage, begun)


async def lose_operator(stage: Stage, chance: random.Random) -> float:
    """The leader dies and stays away until another one leads."""
    leader = await stage.leader()
    leader.let_end()
    begun = _now()
    leader.kill()
    await stage.other_leader(leader)
    seconds = await work_after(stage, begun, but=leader)
    leader.keep()
    return seconds


async def stop_operator(stage: Stage, chance: random.Random) -> float:
    """The leader is told to stop, as by an upgrade."""
    leader = await stage.leader()
    leader.program.terminate()
    await leader.end()
    return await work_after(stage, _now())


async def kill_standby(stage: Stage, chance: random.Random) -> None:
    """An operator that does not lead dies."""
    leader = await stage.leader()
    for operator in stage.operators:
        if operator is not leader:
            operator.kill()
    await asyncio.sleep(chance.uniform(0, 5))


async def pause_operator(stage: Stage, chance: random.Random) -> float:
    """The leader stands still until another one leads, and then goes on as if nothing had been."""
    leader = await stage.leader()
    begun = _now()
    leader.pause()
    await stage.other_leader(leader)
    seconds = await work_after(stage, begun, but=leader)
    leader.resume()
    return seconds


async def slow_operator(stage: Stage, chance: random.Random) -> None:
    """The leader stands still for so long that it may lose the Lease, or not."""
    leader = await stage.leader()
    leader.pause()
    await asyncio.sleep(chance.uniform(1, 16))
    leader.resume()


async def partition_operator(stage: Stage, chance: random.Random) -> float:
    """The leader does not reach the API server until another one leads; then all it has sent arrives, or nothing."""
    leader = await stage.leader()
    begun = _now()
    leader.proxy.cut(chance.choice([Cut.REFUSE, Cut.HANG]))
    await stage.other_leader(leader)
    seconds = await work_after(stage, begun, but=leader)
    leader.proxy.heal(deliver=chance.random() < 0.5)
    return seconds


async def kill_token_server(stage: Stage, chance: random.Random) -> None:
    """A token server dies, and is started anew."""
    chance.choice(stage.servers).kill()


async def stop_token_server(stage: Stage, chance: random.Random) -> None:
    """A token server is told to stop, and is started anew."""
    server = chance.choice(stage.servers)
    server.program.terminate()
    await until(lambda: not server.program.alive, f"{server.name} ends")


async def pause_token_server(stage: Stage, chance: random.Random) -> None:
    """A token server stands still, for a moment or until nobody is led to it any more."""
    server: TokenServer = chance.choice(stage.servers)
    server.pause()
    if chance.random() < 0.5:
        await asyncio.sleep(chance.uniform(0.5, 5))
    else:
        await until(lambda: not server.ready, f"{server.name} is taken out")
        await asyncio.sleep(chance.uniform(0, 5))
    server.resume()


async def freeze_token_server(stage: Stage, chance: random.Random) -> None:
    """A token server stands still with all that is around it, is taken out, and then hears of the API server late."""
    server: TokenServer = chance.choice(stage.servers)
    server.pause()
    server.proxy.cut(chance.choice([Cut.REFUSE, Cut.HANG]))
    await until(lambda: not server.ready, f"{server.name} is taken out")
    await asyncio.sleep(chance.uniform(0, 5))
    server.resume()
    await asyncio.sleep(chance.uniform(0, 4))
    server.proxy.heal()


async def partition_token_server(stage: Stage, chance: random.Random) -> None:
    """A token server hears nothing of the API server, and answers on."""
    server: TokenServer = chance.choice(stage.servers)
    server.proxy.cut(chance.choice([Cut.REFUSE, Cut.HANG]))
    await asyncio.sleep(chance.uniform(2, 15))
    server.proxy.heal(deliver=chance.random() < 0.5)


async def cut_watches(stage: Stage, chance: random.Random) -> None:
    """Every watch breaks, some times over."""
    for _ in range(chance.randrange(1, 4)):
        for replica in stage.replicas:
            replica.proxy.cut_watches()
        await asyncio.sleep(chance.uniform(0, 3))


async def expire_watches(stage: Stage, chance: random.Random) -> None:
    """Watches and lists that go on are told that they are too old."""
    for replica in stage.replicas:
        in_stream = chance.random() < 0.8
        replica.proxy.page = 5
        replica.proxy.disturbances = (
            Disturbance(0.5, 410, to=lambda r: r.watch, in_stream=in_stream),
            Disturbance(0.2, 410, to=lambda r: r.page),
        )
        replica.proxy.cut_watches()
    await asyncio.sleep(chance.uniform(3, 10))
    _calm(stage)


async def disturb(stage: Stage, chance: random.Random) -> None:
    """The API server is slow, overloaded and partly broken; some writes are done and nobody is told."""
    for replica in stage.replicas:
        share = chance.uniform(0.05, 0.2)
        replica.proxy.delay = chance.uniform(0, 0.5)
        replica.proxy.disturbances = (
            Disturbance(share, 409, to=lambda r: r.works),
            Disturbance(share, 429, retry_after=chance.choice([0, 1, 2])),
            Disturbance(share, chance.choice([500, 503])),
            Disturbance(share, 0),
            Disturbance(share, chance.choice([0, 500]), to=lambda r: r.changes, forwarded=True),
        )
    await asyncio.sleep(chance.uniform(5, 15))
    _calm(stage)


async def break_places(stage: Stage, chance: random.Random) -> None:
    """Some namespaces with pull secrets are broken, each in a way of its own and for a time of its own."""
    await _break_some(stage, chance, LONG_SECONDS if chance.random() < 0.3 else SHORT_SECONDS)


async def break_places_briefly(stage: Stage, chance: random.Random) -> None:
    """As `break_places`, over before any password comes to its end."""
    await _break_some(stage, chance, SHORT_SECONDS)


async def _break_some(stage: Stage, chance: random.Random, seconds: tuple[float, float]) -> None:
    faults = stage.place_faults()

    async def break_one(namespace: str) -> None:
        kind, resources = chance.choice(KINDS), chance.choice(RESOURCES)
        async with faults.broken(namespace, kind, chance, resources=resources):
            await asyncio.sleep(chance.uniform(*seconds))

    broken = chance.sample(PLACES, chance.randrange(1, len(PLACES)))
    await asyncio.gather(*(break_one(namespace) for namespace in broken))


async def break_credentials(stage: Stage, chance: random.Random) -> None:
    """No record can be written, nor leaf; what was published goes on."""
    async with stage.place_faults().broken(CREDENTIALS, chance.choice(KINDS), chance):
        await asyncio.sleep(chance.uniform(*SHORT_SECONDS))


async def stop_api_server(stage: Stage, chance: random.Random) -> None:
    """The API server fails and comes back."""
    await asyncio.to_thread(stage.cluster.stop_api_server)
    try:
        await asyncio.sleep(chance.uniform(0, 5))
    finally:
        await asyncio.to_thread(stage.cluster.start_api_server)


async def stop_etcd(stage: Stage, chance: random.Random) -> None:
    """etcd fails and comes back."""
    await asyncio.to_thread(stage.cluster.stop_etcd)
    try:
        await asyncio.sleep(chance.uniform(0, 5))
    finally:
        await asyncio.to_thread(stage.cluster.start_etcd)


ALL: tuple[Fault, ...] = (
    kill_operator,
    lose_operator,
    stop_operator,
    kill_standby,
    pause_operator,
    slow_operator,
    partition_operator,
    kill_token_server,
    stop_token_server,
    pause_token_server,
    freeze_token_server,
    partition_token_server,
    cut_watches,
    expire_watches,
    disturb,
    break_places,
    break_places,
    break_places,
    break_credentials,
    stop_api_server,
    stop_etcd,
)
"""In the proportion that they come in."""


BRIEF: tuple[Fault, ...] = (
    kill_operator,
    stop_operator,
    kill_standby,
    kill_token_server,
    stop_token_server,
    pause_token_server,
    cut_watches,
    expire_watches,
    disturb,
    break_places_briefly,
    break_credentials,
)
"""Those that are over soon."""


OF_PLACES: tuple[Fault, ...] = (break_places, break_places_briefly, break_credentials)
"""Those that break places, or what all places need."""


async def work_after(stage: Stage, moment: float, *, but: Operator | None = None) -> float:
    """Waits for the first write that an operator sent after `moment`; the seconds from the one to the other."""

    def first() -> float | None:
        sent = [
            request.at - moment
            for operator in stage.operators
            if operator is not but
            for request in operator.proxy.requests[-1000:]
            if request.works and request.at > moment and request.stored
        ]
        return min(sent, default=None)

    return await until(first, "an operator writes again")


def _calm(stage: Stage) -> None:
    for replica in stage.replicas:
        replica.proxy.calm()


def _now() -> float:
    return asyncio.get_running_loop().time()
