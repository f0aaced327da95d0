"""The same request gets the same access token for a few seconds, and nothing but what a new one would give.

The promise behind it is that a dead credential opens nothing: whatever is written, and whatever the clock does, between
two requests, the second one is answered as it would be if the first had never been.
"""

import asyncio
import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullpass.signing.certificates import new_leaf
from pullpass.tokenserver.reuse import MIN_REMAINING_SECONDS, SECONDS
from tests.contract.protocol.client import GOOD, PULL, READ, USER, WRONG, Answer, Client, basic, refused
from tests.unit.tokenserver.world import CA, SIGNING_SECRET, START, World, password, text

QUERY = "scope=repository:demo/nginx:pull"


def jti(answer: Answer) -> str:
    """The id of the access token."""
    assert answer.status == 200
    return str(answer.claims["jti"])


async def test_the_same_request_gets_the_same_token_for_some_seconds(client: Client) -> None:
    first = await client.get(QUERY)
    for second in range(1, SECONDS):
        client.world.now = START + timedelta(seconds=second + 0.9)
        assert jti(await client.get(QUERY)) == jti(first)
    client.world.now = START + timedelta(seconds=SECONDS)
    later = await client.get(QUERY)
    assert jti(later) != jti(first)
    assert later.claims["exp"] == first.claims["exp"] + SECONDS


async def test_an_answer_says_when_its_token_was_issued_and_what_is_left_of_it(client: Client) -> None:
    """So a client comes to no later end than the token's, whether it counts from `issued_at` or from the answer."""
    for ask in (client.get, client.post):
        for second in range(SECONDS):
            client.world.now = START + timedelta(seconds=second)
            answer = await ask()
            left = answer.json["expires_in"]
            assert answer.json["issued_at"] == text(START)
            assert client.world.now + timedelta(seconds=left) == START + timedelta(seconds=300)
            assert answer.claims["exp"] == int(client.world.now.timestamp()) + left
        client.world.now = START


async def test_other_senders_and_clients_get_the_same_token(client: Client) -> None:
    first = await client.get(QUERY)
    line = f"GET /token?{QUERY} HTTP/1.1\r\nHost: x\r\nAuthorization: {basic(USER, GOOD)}\r\nUser-Agent: other\r\n\r\n"
    assert jti(await client.raw(line.encode())) == jti(first)


async def test_nothing_is_reused_for_another_request(client: Client) -> None:
    client.world.record(ids=("aaaaaa", "cccccc"))
    first = await client.get(QUERY)
    assert first.access == PULL
    assert (await client.get("scope=repository:demo/nginx:*")).access == READ
    refused(await client.get(QUERY, basic(USER, WRONG)), 401, "UNAUTHORIZED")
    refused(await client.get(QUERY, basic("web.writer", GOOD)), 401, "UNAUTHORIZED")
    refused(await client.send("GET", f"/token?{QUERY}"), 401, "UNAUTHORIZED")
    refused(await client.get(QUERY, basic(USER, GOOD), basic(USER, GOOD)), 400, "UNSUPPORTED")
    assert jti(await client.get(QUERY, basic(USER, password(id_="cccccc").text))) != jti(first)
    posted = await client.post(scope="repository:demo/nginx:pull")
    assert jti(posted) != jti(first)
    assert posted.json["scope"] == "repository:demo/nginx:pull"


async def test_a_refusal_is_never_reused(client: Client) -> None:
    client.world.token(enabled=False)
    refused(await client.get(), 401, "UNAUTHORIZED")
    client.world.token()
    assert (await client.get()).status == 200


async def test_a_server_that_is_too_far_behind_gives_nothing_again(client: Client) -> None:
    assert (await client.get()).status == 200
    client.age = 3600
    refused(await client.get(), 503, "UNAVAILABLE")


async def test_a_clock_that_goes_back_makes_no_token_of_the_future(client: Client) -> None:
    first = await client.get()
    client.world.now -= timedelta(seconds=2)
    second = await client.get()
    assert jti(second) != jti(first)
    assert second.json["expires_in"] == 300
    assert second.claims["nbf"] < client.world.now.timestamp()


async def test_a_token_in_its_last_minute_is_not_given_again(client: Client) -> None:
    client.world.record(expires_at=START + timedelta(seconds=MIN_REMAINING_SECONDS + 1))
    first = await client.get()
    client.world.now += timedelta(seconds=1)
    assert jti(await client.get()) == jti(first)
    client.world.now += timedelta(seconds=1)
    assert jti(await client.get()) != jti(first)


async def test_each_sender_has_an_audit_line_in_each_second(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "pullpass.audit"):
        for _ in range(2):
            for _ in range(3):
                await client.get(QUERY)
            client.server.audit.flush()
            client.world.now += timedelta(seconds=1)
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    assert [line.get("repeated") for line in lines] == [None, 2, None, 2]
    assert len({line["jti"] for line in lines}) == 1


# What can happen between two requests


def _other_leaf(world: World) -> None:
    leaf = new_leaf(CA, START)
    secret = {"tls.crt": leaf.certificate_pem + CA.certificate_pem, "tls.key": leaf.key_pem}
    data = {key: base64.b64encode(value).decode() for key, value in secret.items()}
    world.cache.on_secret("MODIFIED", {**SIGNING_SECRET, "data": data})


CHANGES: dict[str, Callable[[World], None]] = {
    "nothing": lambda w: None,
    "disabled": lambda w: w.token(enabled=False),
    "enabled": lambda w: w.token(),
    "deleted": lambda w: w.cache.on_token(
        "DELETED", {"metadata": {"name": "reader", "namespace": "web", "uid": "uid-1"}}
    ),
    "made anew": lambda w: w.token("uid-9"),
    "revoked": lambda w: w.token(passwords={"revoked": ["aaaaaa"]}),
    "another one revoked": lambda w: w.token(passwords={"revoked": ["cccccc"]}),
    "token ends soon": lambda w: w.token(expiresAt=text(w.now + timedelta(seconds=2))),
    "token ends in a minute": lambda w: w.token(expiresAt=text(w.now + timedelta(seconds=62))),
    "password ends soon": lambda w: w.record(expires_at=w.now.replace(microsecond=0) + timedelta(seconds=2)),
    "password ends in a minute": lambda w: w.record(valid_until=w.now.replace(microsecond=0) + timedelta(seconds=62)),
    "record written": lambda w: w.record(),
    "rotated": lambda w: w.record(ids=("bbbbbb", "aaaaaa")),
    "rotated away": lambda w: w.record(ids=("bbbbbb",)),
    "record gone": lambda w: w.cache.on_secret("DELETED", {"metadata": {"name": "rt-uid-1"}}),
    "narrowed": lambda w: w.scope_map([{"repositories": ["other"], "actions": ["content/read"]}]),
    "as it was": lambda w: w.scope_map(),
    "widened": lambda w: w.scope_map([{"repositories": ["*"], "actions": ["content/read", "content/write"]}]),
    "namespace not allowed": lambda w: w.scope_map(allowed={"from": "Names", "names": ["other"]}),
    "by label": lambda w: w.scope_map(allowed={"from": "Selector", "selector": {"matchLabels": {"team": "web"}}}),
    "label lost": lambda w: w.namespace(),
    "label back": lambda w: w.namespace(labels={"team": "web"}),
    "namespace gone": lambda w: w.cache.on_namespace("DELETED", {"metadata": {"name": "web", "uid": "n"}}),
    "map gone": lambda w: w.cache.on_scope_map("DELETED", {"metadata": {"name": "demo", "uid": "m"}}),
    "another leaf": _other_leaf,
    "the first leaf": lambda w: w.cache.on_secret("MODIFIED", SIGNING_SECRET),
}
KILLS = ("disabled", "deleted", "made anew", "revoked", "rotated away", "record gone", "label lost", "namespace gone")


@pytest.mark.parametrize("kill", [*KILLS, "namespace not allowed", "map gone"])
async def test_a_kill_ends_reuse_at_once(client: Client, kill: str) -> None:
    CHANGES["by label"](client.world)
    assert (await client.get(QUERY)).status == (await client.get(QUERY)).status == 200
    CHANGES[kill](client.world)
    refused(await client.get(QUERY), 401, "UNAUTHORIZED")


async def test_a_scope_that_is_taken_away_is_not_given_again(client: Client) -> None:
    assert (await client.get(QUERY)).access == PULL
    CHANGES["narrowed"](client.world)
    assert (await client.get(QUERY)).access == []


STEPS = st.lists(
    st.tuples(
        st.lists(st.sampled_from(sorted(CHANGES)), max_size=2),
        st.sampled_from([0.0, 0.0, 0.4, 1.0, 2.0, 3.0, 61.0, -1.0, -3600.0, 3600.0]),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_whatever_happens_in_between_the_answer_is_one_that_could_be_made_anew(
    steps: list[tuple[list[str], float, bool]],
) -> None:
    asyncio.run(_compared(steps))


async def _compared(steps: list[tuple[list[str], float, bool]]) -> None:
    """Asks a server and one beside it that reuses nothing, after each step."""
    world = World()
    server, forgetful = Client(world), Client(world)
    never: Any = lambda *_: None  # noqa: E731
    forgetful.server._reuse.find = never  # type: ignore[method-assign]
    try:
        await server.start()
        await forgetful.start()
        for changes, seconds, form in steps:
            for change in changes:
                CHANGES[change](world)
            world.now += timedelta(seconds=seconds)
            fields = {"scope": "repository:demo/nginx:pull,push"}
            one, new = [
                await (it.post(**fields) if form else it.get(f"scope={fields['scope']}")) for it in (server, forgetful)
            ]
            assert one.status == new.status
            if one.status != 200:
                assert one.body == new.body
                continue
            now, claims, fresh = int(world.now.timestamp()), one.claims, new.claims
            assert claims["access"] == fresh["access"]
            assert one.json.get("scope") == new.json.get("scope")
            assert claims["nbf"] <= fresh["nbf"]
            assert fresh["exp"] - SECONDS < claims["exp"] <= fresh["exp"]
            assert claims["exp"] - now >= min(MIN_REMAINING_SECONDS, fresh["exp"] - now)
            assert one.json["expires_in"] == max(claims["exp"] - now, 1)
    finally:
        for it in (server, forgetful):
            await it.stop()
