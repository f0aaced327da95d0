"""Revoking by hand."""

from datetime import timedelta

import pytest

from pullpass.api.times import format_time
from pullpass.credentials import password as passwords
from pullpass.kube.resources import REGISTRY_TOKENS
from tests.unit.controller.reconcile.by_hand import ask, assert_settled, id_of, notes, revoke, settled, standing
from tests.unit.controller.reconcile.scene import EVERYWHERE, OVERLAP, REVOKING, ROTATING
from tests.unit.controller.world import KEY, SEED, START, World, hours


async def test_a_revoked_password_is_replaced_in_its_slot_and_the_retiring_one_works_on(world: World) -> None:
    uid, first = await settled(world)
    ask(world, rotate="before")
    await world.work()
    second, until = standing(world), world.slot(uid, "password1").valid_until
    revoke(world, second)
    assert KEY in world.deliver()
    await world.work()
    third = standing(world)
    assert third not in (first, second)
    assert [world.lets_in(uid, text) for text in (first, second, third)] == [True, False, True]
    assert world.record_of(uid).published == "password2"
    assert world.slot(uid, "password1").valid_until == until
    assert [entry["state"] for entry in world.status()["passwords"]] == ["Retiring", "Active"]
    assert notes(world, "PasswordRevoked") == [
        f"password {id_of(second)} in password2 is revoked and replaced by {id_of(third)}"
    ]
    assert world.status()["lastHandledRotateRequest"] == "before"
    assert world.condition() == ("True", "Ready")
    assert all(len(uids) == 1 for uids in world.uids.values()), "a pull secret was made anew"
    await assert_settled(world)


async def test_a_revoked_password_is_gone_by_one_write_of_the_record(world: World) -> None:
    _, old = await settled(world)
    before = len(world.api.writes)
    revoke(world, old)
    await world.work()
    records = [verb for verb, (_, namespace, _) in world.api.writes[before:] if namespace == "credentials"]
    assert records == ["replace", "replace"], "made in its place, and published"


async def test_what_is_said_of_the_requests_stays_while_a_revoked_password_is_being_replaced(world: World) -> None:
    _, _ = await settled(world)
    ask(world, rotate="before")
    await world.work()
    world.servers.refusing = True
    revoke(world, standing(world))
    await world.work(rounds=2)
    assert world.condition() == ("Unknown", "WaitingForTokenServer")
    assert world.status()["lastHandledRotateRequest"] == "before"


async def test_a_revoked_retiring_password_is_gone_at_once(world: World) -> None:
    uid, first = await settled(world)
    ask(world, rotate="before")
    await world.work()
    second = standing(world)
    revoke(world, first)
    await world.work()
    assert standing(world) == second
    assert set(world.record_of(uid).slots) == {"password2"}
    assert notes(world, "PasswordRevoked") == [
        f"password {id_of(first)} in password1 is revoked and gone from the record"
    ]
    await assert_settled(world)
    ask(world, rotate="after")
    await world.work()
    assert standing(world) != second, "no overlap is waited for"


async def test_a_revoked_pending_password_never_comes_into_a_pull_secret(world: World) -> None:
    uid, first = await settled(world)
    world.servers.refusing = True
    ask(world, rotate="one")
    await world.work(rounds=2)
    pending = world.slot(uid, "password2")
    revoke(world, passwords.derive(SEED, uid, pending.nonce, pending.id).text)
    await world.work(rounds=2)
    again = world.slot(uid, "password2")
    assert again.id != pending.id
    world.servers.refusing = False
    await world.work()
    assert id_of(standing(world)) == again.id
    assert world.lets_in(uid, first)
    assert world.status()["lastHandledRotateRequest"] == "one"
    assert len(world.nonces) == 3


async def test_a_new_id_is_none_of_the_revoked_ones(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    _, first = await settled(world)
    drawn = iter(["aaaaaa", id_of(first), "bbbbbb", "cccccc"])
    monkeypatch.setattr(passwords, "new_id", lambda: next(drawn))
    world.api.edit(
        REGISTRY_TOKENS, "web", "reader", lambda body: body["spec"]["passwords"].update(revoked=["aaaaaa", "bbbbbb"])
    )
    revoke(world, first)
    await world.work()
    assert id_of(standing(world)) == "cccccc"
    assert len(world.nonces) == 2


async def test_ids_of_passwords_that_are_gone_cost_nothing(world: World) -> None:
    await settled(world, **EVERYWHERE | {"passwords": ROTATING | {"revoked": ["aaaaaa", "bbbbbb"]}})
    await assert_settled(world)
    assert notes(world, "PasswordRevoked") == []


# Under `onExpiry: Revoke`


@pytest.mark.parametrize("end", ["revoked", "ended"])
@pytest.mark.parametrize("request_", ["rotate", "regenerate"])
async def test_access_ends_with_the_password_until_somebody_asks_for_another(
    world: World, end: str, request_: str
) -> None:
    spec = REVOKING | {"pullSecret": EVERYWHERE["pullSecret"] | {"whenRevoked": "Remove"}}
    uid, old = await settled(world, **spec)
    if end == "revoked":
        revoke(world, old)
    else:
        world.dead.add(old)
        world.now += hours(3)
    await world.work()
    assert world.condition() == ("False", "PasswordRevoked" if end == "revoked" else "PasswordExpired")
    assert world.condition("Stalled") == world.condition("Reconciling") == ("", "")
    assert world.passwords() == {}
    (shown,) = world.status()["passwords"]
    assert (shown["id"], shown["state"]) == (id_of(old), "Revoked" if end == "revoked" else "Expired")
    assert len(world.nonces) == 1
    await assert_settled(world)

    world.now += timedelta(minutes=1)
    ask(world, **{request_: "now"})
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert world.lets_in(uid, standing(world))
    assert not world.lets_in(uid, old)
    assert world.status()["accessEndsAt"] == format_time(world.now + hours(3)), "its full lifetime"
    assert len(world.record_of(uid).slots) == 1
    await assert_settled(world)


async def test_a_password_that_retires_goes_on_to_the_end_of_its_overlap(world: World) -> None:
    uid, first = await settled(world, **REVOKING)
    ask(world, rotate="one")
    await world.work()
    over = world.now + OVERLAP
    revoke(world, standing(world))
    outcome = await world.work()
    assert world.condition() == ("False", "PasswordRevoked")
    assert world.lets_in(uid, first)
    assert outcome.due == over
    world.now = over
    assert (await world.work()).due == START + hours(3)
    assert [entry["state"] for entry in world.status()["passwords"]] == ["Revoked"]
    await assert_settled(world)
