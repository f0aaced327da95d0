"""What always holds, whatever fails: checked over a whole test or run."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.chaos.customers import Customers
from tests.chaos.stage import Stage
from tests.chaos.traffic import usurped


def broken(stage: Stage, customers: Customers) -> list[str]:
    """Every break of a promise so far, in words."""
    return [
        *map(str, customers.refused),
        *(f"a second password for one rotation: {wasted}" for wasted in stage.ledger.wasted()),
        *(f"a write without the Lease: {request}" for request in usurped(stage.requests())),
    ]


@asynccontextmanager
async def kept(stage: Stage) -> AsyncIterator[Customers]:
    """Customers log in while the context lasts. At its end everything settles, and no promise was broken.

    What was broken before does not count. Beyond what `broken` says: each token ends with one published password,
    which its pull secret holds, its status names, and every token server accepts.
    """
    try:
        stage.restore()
        await stage.settled()
        async with stage.customers() as customers:
            before = broken(stage, customers)
            yield customers
            stage.restore()
            await stage.tokens.calm()
            await stage.settled()
            await customers.round()
            found = [text for text in broken(stage, customers) if text not in before]
            assert not found, "\n".join(found)
            assert customers.logins > 0, "no customer has logged in"
    except AssertionError:
        stage.keep_logs()
        raise
