"""A run of random faults, by seed, over tokens that rotate all the time."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos import faults, promises
from tests.chaos.faults import Fault
from tests.chaos.revocations import WAYS, Revocation, Revoker
from tests.chaos.stage import Stage

CALM_SECONDS = 5.0
"""How long nothing fails between two faults, at most."""


@dataclass
class Outcome:
    """What has happened, and what was broken."""

    rotations: int = 0
    logins: int = 0
    in_broken_places: int = 0
    ended: int = 0
    refused: int = 0
    late: int = 0
    unreachable: int = 0
    busy: int = 0
    unserved: int = 0
    wasted: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    place_faults: Counter[str] = field(default_factory=Counter)
    """Broken namespaces, by the kind of fault."""
    recoveries: list[float] = field(default_factory=list)
    """Seconds from the end of a fault of places until every place has the current password."""
    failovers: list[float] = field(default_factory=list)
    """Seconds without a working operator, once for each time that the Lease was taken from one."""
    revocations: list[Revocation] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    """Every break of a promise, in words."""


async def run(
    stage: Stage,
    rotations: int,
    seed: int,
    say: Callable[[str], None],
    *,
    kinds: tuple[Fault, ...] = faults.ALL,
    others: int = 4,
) -> Outcome:
    """Lets faults happen, one after the other, until so many rotations are done; then lets everything settle.

    Each kind comes once before any comes again. Where something does not recover, the run ends there.
    """
    chance = random.Random(seed)
    outcome = Outcome()
    revoker = stage.revoker()
    before, begun = stage.ledger.rotations, time.monotonic()
    async with stage.customers(seed=seed) as customers:
        await stage.storm(others=others)
        revoking = asyncio.create_task(_revoke(revoker, random.Random(seed)))
        deck: list[Fault] = []
        try:
            while (done := stage.ledger.rotations - before) < rotations:
                deck = deck or chance.sample(kinds, len(kinds))
                fault = deck.pop()
                outcome.faults[fault.__name__] += 1
                say(
                    f"{time.monotonic() - begun:6.0f} s, {done:5} rotations, {customers.logins:6} logins: "
                    f"{fault.__name__}"
                )
                with stage.fault():
                    seconds = await fault(stage, chance)
                    ended = time.monotonic()
                    await stage.recovered()
                    if fault in faults.OF_PLACES:
                        outcome.recoveries.append(time.monotonic() - ended)
                if seconds is not None:
                    outcome.failovers.append(seconds)
                _note(outcome, promises.broken(stage, customers), say)
                await asyncio.sleep(chance.uniform(0, CALM_SECONDS))
                if revoking.done():
                    revoking.result()
            revoking.cancel()
            await asyncio.gather(revoking, return_exceptions=True)
            await stage.tokens.calm()
            await stage.settled()
            await customers.round()
        except AssertionError as error:
            stage.keep_logs()
            _note(outcome, [f"no recovery: {error}"], say)
        finally:
            revoking.cancel()
            await asyncio.gather(revoking, return_exceptions=True)
        regranted = [f"{server} after '{r.way}'" for r in revoker.revocations for server in r.regranted]
        _note(outcome, [*promises.broken(stage, customers), *(f"access came back: {text}" for text in regranted)], say)
        outcome.rotations = stage.ledger.rotations - before
        outcome.logins, outcome.late = customers.logins, customers.late
        outcome.in_broken_places, outcome.ended = customers.in_broken_places, customers.ended
        outcome.place_faults = stage.breakages.kinds
        outcome.refused, outcome.unserved = len(customers.refused), customers.unserved
        outcome.unreachable, outcome.busy = customers.unreachable, customers.busy
        outcome.wasted = len(stage.ledger.wasted())
        outcome.revocations = revoker.revocations
    return outcome


def _note(outcome: Outcome, broken: list[str], say: Callable[[str], None]) -> None:
    for text in broken:
        if text not in outcome.broken:
            outcome.broken.append(text)
            say(f"BROKEN: {text}")


async def _revoke(revoker: Revoker, chance: random.Random) -> None:
    while True:
        await revoker.revoke(chance.choice(WAYS))
        await asyncio.sleep(chance.uniform(0, 5))
