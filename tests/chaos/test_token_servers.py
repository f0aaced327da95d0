"""The token servers' processes: one that is ready knows what is published, and what is dead stays dead."""

import asyncio
import itertools
from collections.abc import Callable

import aiohttp
import pytest

from tests.chaos.customers import granted
from tests.chaos.promises import kept
from tests.chaos.proxy import Cut
from tests.chaos.replicas import TokenServer
from tests.chaos.revocations import WAYS
from tests.chaos.stage import Stage
from tests.chaos.waiting import until

pytestmark = [pytest.mark.controlplane, pytest.mark.asyncio(loop_scope="package")]

Say = Callable[[str], None]


async def rotations(stage: Stage, count: int) -> None:
    """Waits for some rotations more."""
    wanted = stage.ledger.rotations + count
    await until(lambda: stage.ledger.rotations >= wanted, f"{count} rotations more")


async def test_a_server_that_starts_is_not_ready_before_it_knows_what_is_published(stage: Stage) -> None:
    async with kept(stage):
        await stage.tokens.storm()
        server = stage.servers[0]
        # Its first list takes a while, and passwords are replaced meanwhile.
        server.proxy.page, server.proxy.delay = 2, 0.6
        server.kill()
        answers = await answers_until_ready(stage, server)
        assert set(answers) <= {"HTTP 503", "away"}, "it decided on half of the facts"
        assert "HTTP 503" in answers, "it was ready at once, so this test has shown nothing"
        for name in stage.tokens.names:
            login = await stage.tokens.read(name)
            assert await granted(stage.endpoints.session, server.url, login, "chaos/app") == ""
        await stage.all_ready()


async def answers_until_ready(stage: Stage, server: TokenServer) -> list[str]:
    """What it answers to good passwords until it says that it is ready."""
    answers: list[str] = []
    session = stage.endpoints.session
    for name in itertools.cycle(stage.tokens.names):
        login = await stage.tokens.read(name)
        try:
            answer = await granted(session, server.url, login, "chaos/app")
            async with session.get(f"{server.management_url}/readyz") as probe:
                if probe.status == 200:
                    return answers
        except (aiohttp.ClientError, TimeoutError, OSError):
            answer = "away"
        answers.append(answer)
        await asyncio.sleep(0.05)
    raise AssertionError


async def test_a_server_that_stood_still_and_does_not_hear_of_the_api_server_yet(stage: Stage) -> None:
    """Passwords were published without it, as it was not ready. So it must not be ready before it knows of them."""
    async with kept(stage) as customers:
        await stage.tokens.storm()
        server = stage.servers[1]
        server.pause()
        server.proxy.cut(Cut.REFUSE)
        await until(lambda: not server.ready, "the server is taken out")
        await rotations(stage, len(stage.tokens.names))
        server.resume()
        before = customers.logins
        await until(lambda: server.ready or customers.logins > before + 100, "some time has passed")
        await until(lambda: customers.logins > before + 200, "some more time has passed")
        server.proxy.heal()
        await stage.all_ready()
        assert customers.refused == []


async def test_a_server_that_does_not_hear_of_the_api_server(stage: Stage) -> None:
    """It answers on, and is asked whether it knows a new password before that is published."""
    async with kept(stage) as customers:
        await stage.tokens.storm()
        server = stage.servers[2]
        server.proxy.cut(Cut.HANG)
        await until(lambda: len(stage.tokens.rotating()) == len(stage.tokens.names), "every rotation waits")
        before = customers.logins
        await until(lambda: customers.logins > before + 50, "customers are served")
        assert server.ready
        server.proxy.heal()


async def test_access_ends_at_every_server_and_does_not_come_back(stage: Stage, say: Say) -> None:
    async with kept(stage):
        await stage.tokens.storm()
        revoker = stage.revoker()
        revoking = [asyncio.create_task(revoker.revoke(way)) for way in WAYS]
        done = await asyncio.gather(*revoking)
        seen = [seconds for revocation in done for seconds in revocation.seconds.values()]
        say(f"from the end of access to the last refusal: {max(seen):.2f} s")
        assert [revocation.regranted for revocation in done] == [[]] * len(WAYS)


async def test_access_that_ends_while_a_server_hears_nothing_ends_there_too(stage: Stage) -> None:
    async with kept(stage):
        deaf, dying, _ = stage.servers
        revoker = stage.revoker()
        revoking = asyncio.create_task(revoker.revoke("disable", before=lambda: deaf.proxy.cut(Cut.REFUSE)))
        others = len(stage.servers) - 1
        await until(lambda: revoker.revocations and len(revoker.revocations[-1].seconds) == others, "the others refuse")
        dying.kill()
        deaf.proxy.heal()
        revocation = await revoking
        assert revocation.seconds.keys() == {server.name for server in stage.servers}
        assert revocation.regranted == []
