"""The life of a credential, and that no access token outlives what it was issued for."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from tests.contract.protocol.client import PULL, USER, WRONG, Client, basic, refused
from tests.unit.tokenserver.world import LEAF, START, World, password, text

Change = Callable[[World], None]

WAYS: dict[str, Change] = {
    "disabled": lambda w: w.token(enabled=False),
    "expired": lambda w: w.token(expiresAt=text(START)),
    "deletion has begun": lambda w: w.token(metadata={"deletionTimestamp": text(START)}),
    "another map that is not there": lambda w: w.token(scopeMapRef={"name": "other"}),
    "password expired": lambda w: w.record(expires_at=START),
    "password replaced": lambda w: w.record(valid_until=START),
    "password revoked": lambda w: w.token(passwords={"revoked": ["aaaaaa"]}),
    "map gone": lambda w: w.cache.on_scope_map("DELETED", {"metadata": {"name": "demo", "uid": "m"}}),
    "namespace gone": lambda w: w.cache.on_namespace("DELETED", {"metadata": {"name": "web", "uid": "n"}}),
    "namespace not allowed": lambda w: w.scope_map(allowed={"from": "Names", "names": ["other"]}),
}


def mend(world: World) -> None:
    world.namespace(labels={"team": "web"})
    world.scope_map()
    world.token()
    world.record()


@pytest.mark.parametrize("way", WAYS)
async def test_dead_is_answered_as_a_wrong_password(client: Client, way: str) -> None:
    """The token server needs no operator for it: the record is as it was."""
    wrong = await client.get("", basic(USER, WRONG))
    WAYS[way](client.world)
    for answer in (await client.get(), await client.get("scope=repository:demo/nginx:pull"), await client.post()):
        refused(answer, 401, "UNAUTHORIZED")
        assert answer.json["errors"] == wrong.json["errors"]
    dead = await client.get()
    assert dead.body == wrong.body
    assert {*dead.headers} == {*wrong.headers}
    mend(client.world)
    assert (await client.get()).status == 200


async def test_a_deleted_token_is_unknown(client: Client) -> None:
    assert (await client.get()).status == 200
    client.world.cache.on_token("DELETED", {"metadata": {"name": "reader", "namespace": "web", "uid": "uid-1"}})
    refused(await client.get(), 401, "UNAUTHORIZED")


async def test_the_other_password_of_a_token_works_on_while_one_is_revoked(client: Client) -> None:
    client.world.record(ids=("aaaaaa", "cccccc"))
    other = basic(USER, password(id_="cccccc").text)
    client.world.token(passwords={"revoked": ["aaaaaa"]})
    refused(await client.get(), 401, "UNAUTHORIZED")
    assert (await client.get("", other)).status == 200


async def test_a_scope_taken_from_the_map_is_gone_from_the_next_token(client: Client) -> None:
    query = "scope=repository:demo/nginx:pull"
    assert (await client.get(query)).access == PULL
    client.world.scope_map([{"repositories": ["other"], "actions": ["content/read"]}])
    answer = await client.get(query)
    assert (answer.status, answer.access) == (200, [])


@pytest.mark.parametrize("end", ["expires_at", "valid_until"])
@pytest.mark.parametrize(("left", "expires_in"), [(3600, 300), (120, 120), (7, 7)])
async def test_an_access_token_never_outlives_its_password(
    client: Client, left: int, expires_in: int, end: str
) -> None:
    near, far = START + timedelta(seconds=left), START + timedelta(days=1)
    client.world.record(
        expires_at=near if end == "expires_at" else far, valid_until=near if end == "valid_until" else far
    )
    answer = await client.get()
    assert answer.json["expires_in"] == expires_in
    assert answer.claims["exp"] == int(START.timestamp()) + expires_in


async def test_an_access_token_never_outlives_its_registry_token(client: Client) -> None:
    client.world.token(expiresAt=text(START + timedelta(seconds=90)))
    assert (await client.get()).json["expires_in"] == 90


async def test_the_last_second_of_a_password_has_a_token_that_still_begins_and_ends(client: Client) -> None:
    """`expires_in` of nothing would stand for 60 seconds to clients."""
    client.world.record(expires_at=START + timedelta(seconds=1))
    client.world.now = START + timedelta(microseconds=999_000)
    answer = await client.get()
    assert answer.json["expires_in"] == 1
    assert answer.claims["exp"] == int(START.timestamp()) + 1


async def test_nothing_is_issued_with_a_signing_certificate_that_has_ended(client: Client) -> None:
    """A registry looks at its dates each time."""
    client.world.now = LEAF.not_after
    refused(await client.get(), 503, "UNAVAILABLE")


async def test_an_access_token_never_outlives_its_signing_certificate(client: Client) -> None:
    client.world.now = LEAF.not_after - timedelta(seconds=70)
    assert (await client.get()).json["expires_in"] == 70
