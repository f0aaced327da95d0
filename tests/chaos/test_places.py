"""A place harms only itself: whatever is done to some namespaces, the others go on, and the broken ones recover."""

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace

import pytest

from tests.chaos.customers import Customers
from tests.chaos.places import GUESTS, KINDS, RESOURCES, TEAM, Breakages, Place
from tests.chaos.programs import CREDENTIALS
from tests.chaos.promises import kept
from tests.chaos.stage import Stage
from tests.chaos.waiting import until, until_none

pytestmark = [pytest.mark.controlplane, pytest.mark.asyncio(loop_scope="package")]

Say = Callable[[str], None]


async def new_passwords(customers: Customers, places: list[Place], count: int) -> None:
    """Waits until customers were granted access with so many passwords more in each place, and nobody was refused."""
    await until(lambda: all(place in customers.seen for place in places), "each place was visited")
    before = {place: len(customers.seen[place]) for place in places}

    async def behind() -> list[str]:
        assert [str(refusal) for refusal in customers.refused] == []
        return [str(place) for place in places if len(customers.seen[place]) < before[place] + count]

    await until_none(behind, "places that get no new passwords")


@dataclass(frozen=True)
class Case:
    """What fails, by namespace, and how many new passwords the healthy places are to get meanwhile."""

    faults: Mapping[str, str]
    resources: Sequence[str]
    count: int


CASES = {
    "guests": Case(dict(zip(GUESTS[1:], KINDS[:5], strict=True)), RESOURCES[-1], 1),
    # Every token has a place that hangs, and for so long that its old password comes to its end there.
    "own namespace and guests": Case(dict(zip((TEAM, *GUESTS[:4]), KINDS[5:], strict=True)), RESOURCES[-1], 2),
    "service accounts": Case({TEAM: "webhook", GUESTS[0]: "hanging", GUESTS[3]: "refused"}, ["serviceaccounts"], 1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_broken_places_harm_only_themselves(stage: Stage, case: Case, say: Say) -> None:
    chance = random.Random(1)
    async with kept(stage) as customers:
        await stage.storm()
        broken = stage.place_faults()
        async with AsyncExitStack() as stack:
            for namespace, kind in case.faults.items():
                await stack.enter_async_context(broken.broken(namespace, kind, chance, resources=case.resources))
            healthy = [place for place in stage.tokens.places if place.namespace not in case.faults]
            await new_passwords(customers, healthy, case.count)
        await until_none(stage.tokens.behind, "places without the current password")
        say(
            f"{customers.logins} logins, {customers.in_broken_places} of them with what broken places held, "
            f"{customers.ended} of these past the end of their password"
        )


@pytest.mark.parametrize("kind", ["hanging", "webhook"])
async def test_records_that_cannot_be_written_refuse_nobody(stage: Stage, kind: str) -> None:
    async with kept(stage) as customers:
        await stage.storm()
        async with stage.place_faults().broken(CREDENTIALS, kind, random.Random(1)):
            before = customers.logins
            await until(lambda: customers.logins > before + 300, "customers are served")
        await new_passwords(customers, stage.tokens.places, 1)


@pytest.mark.parametrize("resource", ["events", "registrytokens"])
async def test_news_that_hangs_refuses_nobody(stage: Stage, resource: str) -> None:
    """Events and statuses tell of passwords, and whoever waits for them lets passwords come to their end."""
    async with kept(stage) as customers:
        await stage.storm()
        news = replace(stage.place_faults(), breakages=Breakages())  # no place is broken by that
        async with news.broken(TEAM, "hanging", random.Random(1), resources=[resource]):
            await new_passwords(customers, stage.tokens.places, 6)
