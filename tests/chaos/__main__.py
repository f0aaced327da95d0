"""`make chaos`: a thousand rotations while operators, token servers and the API server fail at random.

Prints figures as the benchmarks do, and ends with 1 if one does not reach its goal. CHAOS_SEED and CHAOS_ROTATIONS
say which run, and how long.
"""

import asyncio
import os
import signal
import statistics
import sys
from collections.abc import Iterator

from tests.bench.figures import Figure
from tests.chaos.run import Outcome, run
from tests.chaos.stage import Stage

ROTATIONS = int(os.environ.get("CHAOS_ROTATIONS", "1000"))
SEED = int(os.environ.get("CHAOS_SEED", "1"))
TOKENS = 24


def main() -> int:
    """Runs it and prints the figures."""
    try:
        outcome = asyncio.run(_run())
    except (KeyboardInterrupt, asyncio.CancelledError):
        _say("interrupted; what was started is stopped")
        return 130
    reached = not outcome.broken
    for figure in figures(outcome):
        figure.show()
        reached = reached and figure.ok
    return 0 if reached else 1


async def _run() -> Outcome:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    _say(f"{ROTATIONS} rotations, CHAOS_SEED={SEED}")
    async with Stage.open("chaos", tokens=TOKENS, seed=SEED) as stage:
        return await run(stage, ROTATIONS, SEED, _say)


def figures(outcome: Outcome) -> Iterator[Figure]:
    """What the run has shown."""
    yield Figure("chaos_rotations", outcome.rotations, "rotations", goal=ROTATIONS)
    yield Figure("chaos_logins", outcome.logins, "logins")
    yield Figure("chaos_failed_logins", outcome.refused, "logins", goal=0, at="most")
    yield Figure("chaos_logins_in_broken_places", outcome.in_broken_places, "logins")
    yield Figure("chaos_logins_in_broken_places_past_their_end", outcome.ended, "logins")
    yield Figure("chaos_visits_unserved", outcome.unserved, "visits", goal=0, at="most")
    yield Figure("chaos_second_passwords", outcome.wasted, "passwords", goal=0, at="most")
    yield Figure("chaos_broken_promises", len(outcome.broken), "breaks", goal=0, at="most")
    yield Figure("chaos_logins_too_late", outcome.late, "logins")
    yield Figure("chaos_servers_not_there", outcome.unreachable, "logins")
    yield Figure("chaos_servers_busy", outcome.busy, "logins")
    for kind, count in sorted(outcome.faults.items()):
        yield Figure(f"chaos_fault_{kind}", count, "faults")
    for kind, count in sorted(outcome.place_faults.items()):
        yield Figure(f"chaos_place_fault_{kind}", count, "places")
    for name, seconds in (("failover", outcome.failovers), ("places_recovery", outcome.recoveries)):
        if seconds:
            yield Figure(f"chaos_{name}_p50", statistics.median(seconds), "s")
            yield Figure(f"chaos_{name}_max", max(seconds), "s")
    for name, disturbed in (("calm", False), ("disturbed", True)):
        seen = [s for r in outcome.revocations if r.disturbed is disturbed for s in r.seconds.values()]
        if seen:
            yield Figure(f"chaos_revocation_{name}_p50", statistics.median(seen), "s")
            yield Figure(f"chaos_revocation_{name}_max", max(seen), "s")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
