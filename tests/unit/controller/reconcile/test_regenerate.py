"""Regenerating by hand."""

import pytest

from pullpass.kube.client import Refused
from tests.unit.controller.reconcile.by_hand import ask, assert_settled, id_of, notes, settled, standing
from tests.unit.controller.reconcile.scene import FAR, OWN
from tests.unit.controller.world import World, hours


async def test_regenerate_ends_every_older_password_once_the_new_one_stands_in_the_pull_secrets(world: World) -> None:
    uid, first = await settled(world)
    ask(world, rotate="before")
    await world.work()
    second = standing(world)
    assert world.lets_in(uid, first)
    world.servers.refusing = True
    ask(world, regenerate="leak")
    await world.work(rounds=2)
    assert standing(world) == second
    assert world.lets_in(uid, second), "what is published works until the next one is"
    assert not world.lets_in(uid, first), "its slot was taken"
    assert "lastHandledRegenerateRequest" not in world.status()
    world.servers.refusing = False
    await world.work()
    third = standing(world)
    assert third not in (first, second)
    assert world.lets_in(uid, third)
    assert not world.lets_in(uid, second)
    assert [entry["id"] for entry in world.status()["passwords"]] == [id_of(third)]
    assert world.status()["lastHandledRegenerateRequest"] == "leak"
    assert all(len(uids) == 1 for uids in world.uids.values()), "a pull secret was made anew"
    note = f"password {id_of(third)} in password1 replaces {id_of(second)} in password2, which is refused from now on"
    assert note in notes(world, "PasswordRotated")
    await assert_settled(world)


@pytest.mark.parametrize("pending", [False, True], ids=["settled", "behind a rotation"])
async def test_a_leaked_password_is_not_kept_for_a_place_that_cannot_be_written(world: World, pending: bool) -> None:
    uid, old = await settled(world)
    world.api.refusing["apply", ("secrets", *FAR)] = Refused("exceeded quota", 403)
    if pending:
        world.now += hours(2)
        await world.work(rounds=3)
        assert world.slot(uid, "password1").valid_until is None, "an ordinary rotation waits"
    world.dead.add(old)
    ask(world, regenerate="leak")
    outcome = await world.work(rounds=1)
    assert outcome.retry is not None
    assert world.passwords()[FAR] == old
    assert not world.lets_in(uid, old)
    assert world.lets_in(uid, world.passwords()[OWN])
    assert len(world.record_of(uid).slots) == 1
    assert world.condition("PullSecretsSynced") == ("False", "WriteRefused")
    assert world.condition("Stalled") == ("True", "WriteRefused")
    assert world.status()["lastHandledRegenerateRequest"] == "leak"
    world.api.refusing.clear()
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert world.lets_in(uid, standing(world))
    assert len(world.nonces) == (3 if pending else 2)
