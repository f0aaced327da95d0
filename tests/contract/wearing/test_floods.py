"""Floods of wrong credentials: they are refused cheaply, and no good login is refused because of them.

None of it is timed: what is asserted is that good logins get through in between, and what the flood may cost at most.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from pullpass.api import acceptance
from pullpass.controller.replicas import NotConfirmedError, Replicas
from pullpass.controller.settings import OperatorSettings
from pullpass.kube.client import Kube
from pullpass.tokenserver import limits, reuse
from tests.contract.wearing.served import GOOD, USER, Served, get, guess, post, stray
from tests.registries import ONE
from tests.unit.tokenserver.world import password

CROWD = 40
"""Requests under way at the same time."""
PER_SENDER, PER_USER = limits.PER_SENDER.failures, limits.PER_USER.failures


async def flood(served: Served, requests: list[bytes], source: str = "127.0.0.2") -> Counter[int]:
    """Sends all of them, with a good login after each crowd, and counts the answers' statuses."""
    statuses: Counter[int] = Counter()
    for begin in range(0, len(requests), CROWD):
        answers = await asyncio.gather(
            *(served.ask(request, source) for request in requests[begin : begin + CROWD]), served.ask(get(USER, GOOD))
        )
        assert answers.pop().status == 200
        statuses.update(answer.status for answer in answers)
        # So that the next good login does not get the access token of this one.
        served.world.now += timedelta(seconds=reuse.SECONDS)
    return statuses


FLOODS = {
    "wrong passwords of one user": [get(USER, stray(n)) for n in range(600)],
    "guesses at a password whose id is known": [get(USER, guess(n)) for n in range(600)],
    "unknown users": [get(f"web.user{n}", stray(n)) for n in range(600)],
    "one password for many users": [get(f"web.user{n}", GOOD) for n in range(600)],
    "malformed passwords": [get(USER, f"secret-{n}") for n in range(600)],
    "malformed passwords of unknown users": [get(f"u{n}", f"secret-{n}") for n in range(600)],
    "forms": [post(USER, stray(n)) for n in range(600)],
}


@pytest.mark.parametrize("requests", FLOODS.values(), ids=FLOODS.keys())
async def test_good_logins_go_on_during_a_flood(served: Served, requests: list[bytes]) -> None:
    statuses = await flood(served, requests)
    assert set(statuses) <= {401, 429, 503}
    assert statuses.total() == len(requests)
    assert served.server.checks.side.under_way == served.server.checks.main.under_way == 0


@pytest.mark.parametrize("name", [name for name in FLOODS if name != "guesses at a password whose id is known"])
async def test_a_flood_from_one_sender_costs_no_more_checks_than_its_allowance(served: Served, name: str) -> None:
    statuses = await flood(served, FLOODS[name])
    assert statuses[429] >= len(FLOODS[name]) - PER_SENDER
    assert served.server.checks.count <= 1 + PER_SENDER


async def test_a_flood_from_many_senders_at_one_user_is_limited_by_the_user(served: Served) -> None:
    for number in range(3 * PER_USER):
        await served.ask(get(USER, stray(number)), f"127.0.1.{number + 1}")
    assert served.server.checks.count <= PER_USER
    assert await served.login(stray(9999), source="127.0.2.1") == 429
    # The first login of a good password, which nobody has verified yet.
    assert await served.login(source="127.0.2.2") == 200


async def exhaust(served: Served, source: str = "127.0.0.2", user: str | None = None) -> None:
    """Fails until the sender is over its limit, or the user if one is named."""
    for number in range(PER_SENDER if user is None else PER_USER):
        assert await served.login(stray(number), user or f"web.user{number}", source) == 401


async def test_a_refusal_says_when_to_come_back_and_then_it_is_over(served: Served) -> None:
    await exhaust(served)
    for form in (False, True):
        request = post(USER, stray(7000)) if form else get(USER, stray(7000))
        answer = await served.ask(request, "127.0.0.2")
        assert (answer.status, answer.code) == (429, "TOOMANYREQUESTS")
        assert answer.headers["cache-control"] == "no-store"
        assert "www-authenticate" not in answer.headers
        assert answer.json.get("error") == ("slow_down" if form else None)
    served.time += int(answer.headers["retry-after"])
    assert await served.login(stray(7000), source="127.0.0.2") == 401
    assert await served.login(stray(7001), source="127.0.0.2") == 429
    served.time += 3600
    await exhaust(served)


async def test_a_limit_is_one_senders_own(served: Served) -> None:
    await exhaust(served, "127.0.0.2")
    assert await served.login(stray(7000), source="127.0.0.2") == 429
    assert await served.login(stray(7000), source="127.0.0.3") == 401


@pytest.mark.parametrize("secret", [stray(1), guess(1), "mistyped"])
async def test_the_same_wrong_password_is_one_failure_however_it_is_sent(served: Served, secret: str) -> None:
    """As a kubelet has it: containerd asks by POST and then by GET, and again for as long as the pod is there."""
    for _ in range(PER_SENDER):
        assert (await served.ask(post(USER, secret))).status == 401
        assert await served.login(secret) == 401
    assert await served.login(stray(2)) == 401
    shown = await served.metrics()
    assert 'over_limit{by="sender"} 0.0' in shown
    assert 'over_limit{by="user"} 0.0' in shown


async def test_a_remembered_refusal_is_given_past_a_limit(served: Served) -> None:
    assert await served.login(stray(5000), source="127.0.0.2") == 401
    for number in range(PER_SENDER):
        await served.login(stray(number), f"web.user{number}", "127.0.0.2")
    assert await served.login(stray(5001), source="127.0.0.2") == 429
    assert await served.login(stray(5000), source="127.0.0.2") == 401


# Who must not suffer


@pytest.mark.parametrize("form", [False, True])
async def test_a_good_first_login_behind_the_address_of_a_guesser(served: Served, form: bool) -> None:
    await exhaust(served)
    request = post(USER, GOOD) if form else get(USER, GOOD)
    assert (await served.ask(request, "127.0.0.2")).status == 200


async def test_a_good_first_login_of_a_user_who_is_guessed_at(served: Served) -> None:
    await exhaust(served, user=USER)
    assert await served.login(stray(5000), source="127.0.0.3") == 429
    assert await served.login(source="127.0.0.3") == 200


async def test_a_good_first_login_of_a_user_who_is_guessed_at_from_the_same_address(served: Served) -> None:
    await exhaust(served)
    await exhaust(served, "127.0.0.3", USER)
    assert await served.login(source="127.0.0.2") == 200


async def test_a_good_first_login_while_its_password_id_is_guessed_at(served: Served) -> None:
    guesses = [get(USER, guess(n)) for n in range(PER_SENDER + 20)]
    for request in guesses:
        await served.ask(request, "127.0.0.2")
    # By now the guesser is checked aside, so that the lane of good logins is free.
    crowd = [asyncio.create_task(served.ask(get(USER, guess(1000 + n)), "127.0.0.2")) for n in range(100)]
    assert await served.login(source="127.0.0.3") == 200
    answers = await asyncio.gather(*crowd)
    assert {answer.status for answer in answers} <= {401, 503}


async def test_a_password_that_the_cache_has_not_heard_of_yet(served: Served) -> None:
    """A fresh password sent too early, then the record comes: nobody is shut out for having been early."""
    fresh = password(id_="bbbbbb").text
    await exhaust(served)
    assert await served.login(fresh, source="127.0.0.2") == 429
    served.world.record(ids=("aaaaaa", "bbbbbb"))
    assert await served.login(fresh, source="127.0.0.2") == 200


class Slices(Kube):
    """Knows of one token server, and of nothing else."""

    def __init__(self, served: Served) -> None:
        self._port = {"name": acceptance.PORT_NAME, "port": served.management_port}

    async def list(self, *_: Any, **__: Any) -> AsyncIterator[dict[str, Any]]:
        endpoint = {"addresses": ["127.0.0.1"], "conditions": {"ready": True}}
        yield {"ports": [self._port], "endpoints": [endpoint]}


OPERATOR = OperatorSettings(
    namespace="system",
    credentials_namespace="credentials",
    identity="operator",
    registries=ONE,
    token_server_service="tokens",
)


async def test_an_operator_who_rotates_everything_before_a_cache_that_lags(served: Served) -> None:
    """It is told so by the hundred, which is no failure of anybody, until the replica has caught up."""
    numbers = range(1000, 1200)
    async with Replicas.connect(Slices(served), OPERATOR) as replicas:

        async def ask(number: int) -> None:
            credential = served.world.cache.credential(f"uid-{number}")
            version = credential.version if credential is not None else "1"
            await replicas.confirm(f"uid-{number}", "cccccc", version, "default")

        for _ in range(3):
            for number in numbers:
                with pytest.raises(NotConfirmedError, match="no RegistryToken has that UID"):
                    await ask(number)
        assert 'over_limit{by="sender"} 0.0' in await served.metrics()
        assert served.server.checks.count == 0
        for number in numbers:
            served.world.token(uid=f"uid-{number}", metadata={"name": f"reader{number}"})
            served.world.record(uid=f"uid-{number}", ids=("cccccc",))
        for begin in range(0, len(numbers), CROWD):
            await asyncio.gather(*map(ask, numbers[begin : begin + CROWD]))


# Who waits


async def test_refusals_wait_for_their_turn_and_good_logins_do_not(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    turn = asyncio.Event()
    monkeypatch.setattr(served.server._pace, "wait", turn.wait)
    requests = [get(USER, stray(1)), get("web.nobody", stray(2)), get(USER, "malformed"), get(USER, GOOD, "scope=x")]
    refused = [asyncio.create_task(served.ask(request, "127.0.0.2")) for request in requests]
    for _ in range(5):
        assert await served.login() == 200
    while served.server._held_back < len(refused):
        assert await served.login() == 200
    assert not any(task.done() for task in refused)
    turn.set()
    assert [answer.status for answer in await asyncio.gather(*refused)] == [401, 401, 401, 400]


async def test_refusals_that_wait_leave_room_for_others(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    turn = asyncio.Event()
    monkeypatch.setattr(served.server._pace, "wait", turn.wait)
    served.connections.limit = 16
    crowd = [asyncio.create_task(served.ask(get(USER, stray(n)), "127.0.0.2")) for n in range(4)]
    while served.server._held_back < len(crowd):
        assert await served.login() == 200
    assert await served.login(stray(5)) == 401
    turn.set()
    assert {answer.status for answer in await asyncio.gather(*crowd)} == {401}
    assert served.server._held_back == 0


async def test_waiting_counts_as_no_time_of_the_server(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert on slow answers is for slow answers."""
    turn = asyncio.Event()
    monkeypatch.setattr(served.server._pace, "wait", turn.wait)
    refused = asyncio.create_task(served.ask(get(USER, stray(1))))
    while served.server._held_back == 0:
        assert await served.login() == 200
    assert 'requests_total{method="GET",outcome="unauthorized",registry="default"} 1.0' in await served.metrics()
    turn.set()
    await refused


# What is remembered


async def test_tables_are_bounded_and_blocked_senders_are_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "TRACKED", 64)
    async with Served.serving("127.0.0.0/8") as served:
        served.server.limits.senders._tracked = served.server.limits.users._tracked = 64
        for number in range(PER_SENDER):
            await served.login(stray(number), f"web.user{number}", X_Forwarded_For="192.0.2.1")
        assert await served.login(stray(7000), X_Forwarded_For="192.0.2.1") == 429
        for number in range(300):
            await served.login(stray(number), f"web.other{number}", X_Forwarded_For=f"198.51.100.{number % 250}")
            await served.login(stray(number), f"web.more{number}", X_Forwarded_For=f"2001:db8:0:{number:x}::1")
        assert len(served.server.limits.senders) <= 64
        assert len(served.server.limits.users) <= 64
        assert await served.login(stray(7001), X_Forwarded_For="192.0.2.1") == 429


# Who sent it


async def remote(served: Served, caplog: Any, **headers: str) -> str:
    """The sender that the audit line of a login names."""
    caplog.clear()
    served.world.now += timedelta(seconds=reuse.SECONDS)
    with caplog.at_level(logging.INFO, "pullpass.audit"):
        assert await served.login(**headers) == 200
    [line] = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    return str(line["remote"])


async def test_a_proxy_that_is_not_configured_is_not_believed(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    assert await remote(served, caplog, X_Forwarded_For="192.0.2.1") == "127.0.0.1"
    for number in range(PER_SENDER):
        await served.login(stray(number), f"web.user{number}", X_Forwarded_For=f"192.0.2.{number}")
    assert await served.login(stray(7000), X_Forwarded_For="192.0.2.200") == 429


async def test_a_configured_proxy_is_believed_for_limits_and_audit(caplog: pytest.LogCaptureFixture) -> None:
    async with Served.serving("127.0.0.1/32") as served:
        assert await remote(served, caplog, X_Forwarded_For="203.0.113.9, 192.0.2.1") == "192.0.2.1"
        for number in range(PER_SENDER):
            assert await served.login(stray(number), f"web.user{number}", X_Forwarded_For="192.0.2.1") == 401
        assert await served.login(stray(7000), X_Forwarded_For="spoofed, 192.0.2.1") == 429
        assert await served.login(stray(7000), X_Forwarded_For="192.0.2.2") == 401
        # Of an address that is no proxy of ours the header is not read.
        assert await served.login(stray(7001), source="127.0.0.2", X_Forwarded_For="192.0.2.1") == 401


async def test_senders_that_share_an_access_token_have_lines_of_their_own(caplog: pytest.LogCaptureFixture) -> None:
    senders = ["192.0.2.1", "192.0.2.2", "192.0.2.1"]
    async with Served.serving("127.0.0.1/32") as served:
        with caplog.at_level(logging.INFO, "pullpass.audit"):
            bodies = {(await served.ask(get(USER, GOOD, X_Forwarded_For=sender))).body for sender in senders}
            served.server.audit.flush()
    assert len(bodies) == 1
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    assert [(line["remote"], line.get("repeated")) for line in lines] == [
        ("192.0.2.1", None),
        ("192.0.2.2", None),
        ("192.0.2.1", 1),
    ]
