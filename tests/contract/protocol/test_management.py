"""The management port: what a replica says of a password, by its public id, before the password is published."""

from datetime import timedelta
from typing import Any

import pytest

from pullpass.api.acceptance import Acceptance, Issuing
from pullpass.api.times import parse_time
from tests.contract.protocol.client import GOOD, Answer, Client
from tests.unit.tokenserver.world import OTHER_SIGNING_SECRET, START, password, text


async def ask(client: Client, uid: str = "uid-1", id_: str = "aaaaaa", registry: str = "default") -> Answer:
    return await client.manage(f"/tokens/{uid}?password={id_}&registry={registry}")


def says(answer: Answer, status: int = 200, **expected: Any) -> None:
    """Asserts what an answer says, apart from the time."""
    assert answer.status == status
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Cache-Control"] == "no-store"
    said = answer.json
    parse_time(said.pop("time"))
    confirmed = {"complete": True, "ready": True, "version": "1", "accepted": True, "reason": None}
    assert said == confirmed | expected


async def login(client: Client) -> int:
    return (await client.get("service=registry")).status


async def test_a_password_that_a_login_would_be_accepted_with(client: Client) -> None:
    says(await ask(client))
    assert await login(client) == 200


async def test_the_version_is_that_of_the_record_it_holds(client: Client) -> None:
    says(await ask(client, id_="bbbbbb"), accepted=False, reason="no such password")
    client.world.record(ids=("aaaaaa", "bbbbbb"))
    says(await ask(client, id_="bbbbbb"), version="2")
    client.world.cache.on_secret("DELETED", {"metadata": {"name": "rt-uid-1", "uid": "s"}})
    says(await ask(client), version=None, accepted=False, reason="no such password")


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"passwords": {"revoked": ["aaaaaa"]}}, "password is revoked"),
        ({"enabled": False}, "token is disabled"),
        ({"expiresAt": text(START)}, "token has ended"),
        ({"scopeMapRef": {"name": "gone"}}, "scope map is missing or unreadable"),
    ],
)
async def test_a_token_that_opens_nothing(client: Client, spec: dict[str, Any], reason: str) -> None:
    client.world.token(**spec)
    says(await ask(client), accepted=False, reason=reason)
    assert await login(client) == 401


async def test_what_has_ended_is_by_its_own_clock(client: Client) -> None:
    client.world.record(expires_at=START + timedelta(hours=1))
    client.world.now = START + timedelta(minutes=59, seconds=59)
    answer = await ask(client)
    says(answer, version="2")
    assert parse_time(answer.json["time"]) == client.world.now
    client.world.now = START + timedelta(hours=1)
    answer = await ask(client)
    says(answer, version="2", accepted=False, reason="password has ended")
    assert parse_time(answer.json["time"]) == client.world.now


async def test_namespaces_decide_as_for_a_login(client: Client) -> None:
    client.world.scope_map(allowed={"from": "Names", "names": ["other"]})
    says(await ask(client), accepted=False, reason="namespace is not allowed to use the scope map")
    client.world.cache.on_namespace("DELETED", {"metadata": {"name": "web"}})
    says(await ask(client), accepted=False, reason="namespace is gone")


async def test_another_registry(client: Client) -> None:
    no_leaf: Any = {"ready": False, "accepted": False, "reason": "there is no signing leaf of that registry yet"}
    says(await ask(client, registry="other"), **no_leaf)
    says(await ask(client, registry="third"), **no_leaf)
    says(await ask(client, registry=""), **no_leaf)
    client.world.cache.on_secret("ADDED", OTHER_SIGNING_SECRET)
    says(await ask(client, registry="other"), accepted=False, reason="scope map is for another registry")
    client.world.scope_map(registry="other")
    says(await ask(client, registry="other"))
    says(await ask(client), accepted=False, reason="scope map is for another registry")


async def test_the_registries_that_it_can_issue_access_tokens_for(client: Client) -> None:
    async def issuing() -> dict[str, Any]:
        answer = await client.manage("/registries")
        assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
        Issuing.model_validate_json(answer.body, strict=True)
        return answer.json

    assert await issuing() == {"complete": True, "registries": ["default"]}
    client.world.cache.on_secret("ADDED", OTHER_SIGNING_SECRET)
    assert await issuing() == {"complete": True, "registries": ["default", "other"]}
    client.age = float("inf")
    assert (await issuing())["complete"] is False
    client.world.cache.signers.clear()
    assert (await issuing())["registries"] == []


async def test_a_leaf_that_has_ended_signs_nothing(client: Client) -> None:
    client.world.now = client.world.cache.signers["default"].not_after - timedelta(seconds=1)
    says(await ask(client))
    client.world.now += timedelta(seconds=1)
    says(await ask(client), ready=False, accepted=False, reason="the signing leaf of that registry has expired")
    assert (await client.manage("/registries")).json["registries"] == []
    assert await login(client) == 503


async def test_a_replica_without_any_leaf(client: Client) -> None:
    client.world.cache.signers.clear()
    says(await ask(client), ready=False, accepted=False, reason="there is no signing leaf yet")
    assert await login(client) == 503


async def test_a_replica_that_is_not_complete_and_one_that_heard_nothing_for_too_long(client: Client) -> None:
    client.age = float("inf")
    reason = "not everything was heard from the API server yet"
    says(await ask(client), complete=False, ready=False, accepted=False, reason=reason)
    says(await ask(client, "uid-2"), 404, complete=False, ready=False, version=None, accepted=False, reason=reason)
    client.age = 601
    reason = "the API server was last heard 601 s ago, longer than allowed"
    says(await ask(client), ready=False, accepted=False, reason=reason)
    assert await login(client) == 503


async def test_one_that_is_stopping_says_unready_and_still_accepts(client: Client) -> None:
    client.server.drain()
    assert (await client.manage("/readyz")).body == b"stopping\n"
    says(await ask(client))
    assert await login(client) == 200


async def test_a_token_is_known_by_its_uid_alone(client: Client) -> None:
    unknown: Any = {"version": None, "accepted": False, "reason": "no RegistryToken has that UID"}
    for uid in ("uid-2", "web.reader", "reader", "%00", "a" * 5000):
        says(await ask(client, uid), 404, **unknown)
    client.world.token(uid="uid-2")
    says(await ask(client), 404, **unknown)
    says(await ask(client, "uid-2"), version=None, accepted=False, reason="no such password")
    client.world.cache.on_token("DELETED", {"metadata": {"name": "reader", "namespace": "web", "uid": "uid-2"}})
    says(await ask(client, "uid-2"), 404, **unknown)


async def test_a_token_that_cannot_be_read_is_not_known(client: Client) -> None:
    metadata = {"name": "reader", "namespace": "web", "uid": "uid-1"}
    client.world.cache.on_token("MODIFIED", {"metadata": metadata, "spec": {}})
    says(await ask(client), 404, version=None, accepted=False, reason="no RegistryToken has that UID")


async def test_a_question_checks_no_password_and_counts_as_no_request(client: Client) -> None:
    for _ in range(10):
        says(await ask(client))
    assert client.server.checks.count == 0
    assert "request_seconds_count 0.0" in (await client.manage("/metrics")).body.decode()


async def test_no_answer_tells_a_secret(client: Client) -> None:
    client.world.record(ids=("aaaaaa", "bbbbbb"))
    credential = client.world.cache.credential("uid-1")
    assert credential is not None
    passwords = [password(id_=slot.id).text for slot in credential.slots]
    secrets = [slot.hash for slot in credential.slots] + [f"nonce-{slot.id}" for slot in credential.slots]
    secrets += passwords + [text_[15:47] for text_ in passwords]
    paths = ["/metrics", "/readyz", "/healthz", "/registries", "/nothing"]
    paths += [
        f"/tokens/{uid}?password={id_}&registry={registry}"
        for uid in ("uid-1", "uid-2")
        for id_ in ("aaaaaa", "bbbbbb", "cccccc", GOOD, "")
        for registry in ("default", "other", "")
    ]
    for path in paths:
        answer = await client.manage(path)
        shown = answer.body.decode() + str(answer.headers)
        assert not [secret for secret in secrets if secret in shown]


async def test_what_is_asked_for_is_not_repeated(client: Client) -> None:
    answer = await client.manage("/tokens/uid-1?password=hello&registry=world")
    assert b"hello" not in answer.body
    assert b"world" not in answer.body


@pytest.mark.parametrize(
    "path",
    [
        "/token",
        "/auth/token",
        "/oauth2/token",
        "/tokens",
        "/tokens/",
        "/tokens/a/b",
        "/registries/",
        "/registries/default",
        "/",
    ],
)
async def test_it_issues_no_tokens_and_has_no_other_pages(client: Client, path: str) -> None:
    for method in ("GET", "POST"):
        answer = await client.manage(path, method)
        assert (answer.status, answer.json["errors"][0]["code"]) == (404, "UNSUPPORTED")


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics", "/tokens/uid-1", "/registries"])
async def test_it_is_for_reading_only(client: Client, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert (await client.manage(path, method)).status == 404


async def test_the_answer_is_the_one_that_the_operator_reads(client: Client) -> None:
    answer = await ask(client)
    assert Acceptance.model_validate_json(answer.body, strict=True).accepted
