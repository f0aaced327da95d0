"""The life of a token over an API server in memory, and what it costs once it is settled (promise 6)."""

from datetime import timedelta
from typing import Any

import pytest

from pullpass.api.times import format_time
from tests.unit.controller.reconcile.scene import EVERYWHERE, FAR, OWN, ROTATING
from tests.unit.controller.world import START, World, hours


async def test_the_whole_life_of_a_token(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    outcome = await world.work()
    assert world.condition() == ("True", "Ready")
    assert outcome.due == START + hours(2)
    assert set(world.passwords()) == {OWN, FAR}
    assert len(set(world.passwords().values())) == 1
    assert world.entries("web") == world.entries("staging") == ["reader-pull"]
    assert set(world.events()) == {"PasswordPublished", "Ready"}
    first = world.passwords()[OWN]

    world.now = START + hours(2)
    outcome = await world.work()
    second = world.passwords()[OWN]
    assert second != first
    assert world.lets_in(uid, first)
    assert world.record_of(uid).published == "password2"
    assert [entry["state"] for entry in world.status()["passwords"]] == ["Retiring", "Active"]
    assert outcome.due == world.now + timedelta(minutes=10)
    assert (world.status()["nextTransition"], world.status()["nextTransitionTime"]) == (
        "Retire",
        format_time(world.now + timedelta(minutes=10)),
    )

    world.now += timedelta(minutes=10)
    assert not world.lets_in(uid, first)
    await world.work()
    assert set(world.record_of(uid).slots) == {"password2"}
    assert world.passwords()[OWN] == second

    world.token(**EVERYWHERE, enabled=False)
    await world.work()
    assert world.condition() == ("False", "TokenDisabled")
    assert world.passwords()[OWN] == second

    world.token(**EVERYWHERE, expiresAt=format_time(START + hours(3)))
    outcome = await world.work()
    assert world.condition() == ("True", "Ready")
    assert outcome.due == START + hours(3)
    world.now = START + hours(3)
    await world.work()
    assert world.condition() == ("False", "TokenExpired")
    assert world.passwords()[OWN] == second, "whenRevoked is Keep"

    world.token(
        expiresAt=format_time(START + hours(3)),
        passwords=ROTATING,
        pullSecret=EVERYWHERE["pullSecret"] | {"whenRevoked": "Remove"},
    )
    await world.work()
    assert world.passwords() == {}
    assert world.condition("PullSecretsSynced") == ("True", "Removed")
    assert {place: len(uids) for place, uids in world.uids.items()} == {OWN: 1, FAR: 1}
    assert len(world.nonces) == 2


async def test_order_of_the_first_writes(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    await world.work()
    places = [(verb, plural, namespace) for verb, (plural, namespace, _) in world.api.writes]
    password = [place for place in places if place[2] != "staging" and place[1] != "serviceaccounts"]
    assert password == [
        ("create", "secrets", "credentials"),
        ("create", "secrets", "web"),
        ("apply", "secrets", "web"),
        ("replace", "secrets", "credentials"),
        ("create", "events", "web"),
        ("apply", "registrytokens", "web"),
        ("create", "events", "web"),
    ]
    for namespace in ("web", "staging"):
        here = [place[:2] for place in places if place[2] == namespace]
        assert [place for place in here if place[1] in ("serviceaccounts", "secrets")] == [
            ("patch", "serviceaccounts"),
            ("create", "secrets"),
            ("apply", "secrets"),
        ]
        assert places.index(("apply", "secrets", namespace)) < places.index(("replace", "secrets", "credentials"))
    assert [id_ for _, id_ in world.servers.asked] == [world.slot(uid, "password1").id]


@pytest.mark.parametrize(
    "spec",
    [
        {},
        EVERYWHERE,
        {"passwords": {"lifetime": "1h", "onExpiry": "Revoke"}},
        {"pullSecret": {"serviceAccounts": ["*"], "deletionPolicy": "Retain"}},
        {"pullSecret": {"namespaces": ["nowhere", "release"], "serviceAccounts": ["missing"]}},
        {"enabled": False},
        {"scopeMapRef": {"name": "missing"}},
        {"expiresAt": "2027-01-01T00:00:00Z"},
        {"passwords": {"lifetime": "nonsense"}},
    ],
)
@pytest.mark.parametrize("restart", [True, False])
async def test_a_settled_token_costs_no_write(world: World, spec: dict[str, Any], restart: bool) -> None:
    world.token(**spec)
    await world.work()
    assert world.status()
    if restart:
        world.restart()
    calls, writes = world.api.calls, len(world.api.writes)
    world.now += timedelta(minutes=1)
    await world.work()
    assert len(world.api.writes) == writes
    assert world.api.calls == calls
