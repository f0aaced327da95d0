"""Rotating by hand."""

from datetime import timedelta

import pytest

from pullpass.api.times import format_time
from pullpass.kube.resources import REGISTRY_TOKENS
from tests.unit.controller.fake_api import Place
from tests.unit.controller.reconcile.by_hand import ask, assert_settled, id_of, notes, revoke, settled, standing
from tests.unit.controller.reconcile.scene import EVERYWHERE, OVERLAP
from tests.unit.controller.world import KEY, START, World, hours


async def test_rotate_now_and_the_old_password_works_through_the_overlap(world: World) -> None:
    uid, old = await settled(world)
    world.now += timedelta(minutes=5)
    ask(world, rotate="one")
    assert KEY in world.deliver()
    await world.work()
    new = standing(world)
    assert new != old
    assert world.record_of(uid).published == "password2"
    assert world.slot(uid, "password1").valid_until == world.now + OVERLAP
    assert world.slot(uid, "password2").expires_at == world.now + hours(3)
    assert world.lets_in(uid, old)
    assert world.status()["lastHandledRotateRequest"] == "one"
    assert "lastHandledRegenerateRequest" not in world.status()
    (note,) = notes(world, "PasswordRotated")
    assert note == f"password {id_of(new)} in password2 replaces {id_of(old)} in password1"
    await assert_settled(world)
    world.now += OVERLAP
    await world.work()
    assert not world.lets_in(uid, old)
    assert standing(world) == new
    assert len(world.nonces) == 2


async def test_a_second_request_waits_for_the_overlap_and_the_status_says_so(world: World) -> None:
    uid, first = await settled(world)
    ask(world, rotate="one")
    await world.work()
    over = world.now + OVERLAP
    second = standing(world)
    ask(world, rotate="two")
    outcome = await world.work()
    assert standing(world) == second
    assert world.lets_in(uid, first)
    assert outcome.due == over
    assert (world.status()["nextTransition"], world.status()["nextTransitionTime"]) == ("Rotate", format_time(over))
    assert world.status()["lastHandledRotateRequest"] == "one"
    await assert_settled(world)
    world.now = over
    await world.work()
    assert standing(world) not in (first, second)
    assert world.lets_in(uid, second)
    assert world.status()["lastHandledRotateRequest"] == "two"
    assert len(world.nonces) == 3


async def test_a_value_counts_once_also_when_it_was_away(world: World) -> None:
    uid, _ = await settled(world)
    ask(world, rotate="one")
    await world.work()
    ask(world)
    await world.work()
    assert world.status()["lastHandledRotateRequest"] == "one"
    world.now = START + hours(2)
    await world.work()
    assert len(world.nonces) == 3, "the rotation that was due"
    assert world.slot(uid, "password1").requests.rotate == "one"
    ask(world, rotate="one")
    await world.work()
    assert world.status()["lastHandledRotateRequest"] == "one"
    assert len(world.nonces) == 3
    await assert_settled(world)


async def test_a_long_value_is_cut(world: World) -> None:
    await settled(world)
    ask(world, rotate="x" * 65)
    await world.work()
    assert world.status()["lastHandledRotateRequest"] == "x" * 64
    ask(world, rotate="x" * 64 + "y")
    await world.work()
    assert len(world.nonces) == 2


async def test_a_token_that_is_made_with_a_request_has_one_password(world: World) -> None:
    world.token(**EVERYWHERE)
    ask(world, rotate="one", regenerate="two")
    await world.work()
    assert len(world.nonces) == 1
    assert world.status()["lastHandledRotateRequest"] == "one"
    assert world.status()["lastHandledRegenerateRequest"] == "two"


@pytest.mark.parametrize("regenerate", [False, True])
async def test_a_password_that_is_pending_is_published_before_a_request_is_handled(
    world: World, regenerate: bool
) -> None:
    uid, first = await settled(world)
    world.now += hours(2)
    world.servers.refusing = True
    await world.work(rounds=2)
    pending = world.slot(uid, "password2").id
    ask(world, **{"regenerate" if regenerate else "rotate": "now"})
    await world.work(rounds=2)
    assert world.slot(uid, "password2").id == pending
    assert standing(world) == first
    world.servers.refusing = False
    await world.work()
    published = [note.split()[1] for note in notes(world, "PasswordRotated")]
    if regenerate:
        assert pending in published
        assert world.record_of(uid).published == "password1"
        assert set(world.record_of(uid).slots) == {"password1"}
        assert not world.lets_in(uid, first)
    else:
        assert published == [pending]
        assert world.lets_in(uid, first)
        world.now += OVERLAP
        await world.work()
    assert len(world.nonces) == 3
    assert standing(world) != first
    assert world.condition() == ("True", "Ready")


@pytest.mark.parametrize("how", ["disabled", "not allowed"])
async def test_without_access_a_request_waits(world: World, how: str) -> None:
    uid, old = await settled(world)
    if how == "disabled":
        world.api.edit(REGISTRY_TOKENS, "web", "reader", lambda body: body["spec"].update(enabled=False))
    else:
        world.scope_map({"from": "Names", "names": []})
    ask(world, rotate="one", regenerate="one")
    revoke(world, old)
    await world.work()
    assert world.condition() == ("False", "TokenDisabled" if how == "disabled" else "NamespaceNotAllowed")
    assert len(world.nonces) == 1
    assert world.status()["passwords"][0]["state"] == "Revoked"
    assert "lastHandledRotateRequest" not in world.status()
    await assert_settled(world)
    world.api.edit(REGISTRY_TOKENS, "web", "reader", lambda body: body["spec"].update(enabled=True))
    world.scope_map()
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert world.lets_in(uid, standing(world))
    assert len(world.nonces) == 2
    assert world.status()["lastHandledRotateRequest"] == world.status()["lastHandledRegenerateRequest"] == "one"


async def test_an_ended_token_stays_ended(world: World) -> None:
    await settled(world)
    world.token(**EVERYWHERE, expiresAt=format_time(world.now))
    ask(world, rotate="one", regenerate="one")
    await world.work()
    assert world.condition() == ("False", "TokenExpired")
    assert len(world.nonces) == 1


async def test_a_request_that_comes_with_an_answer_is_not_missed(world: World) -> None:
    """An annotation does not change the generation; the answer to the status write brings it, the watch no news."""
    world.token(**EVERYWHERE)

    def sneak(verb: str, place: Place) -> None:
        if place[0] == "registrytokens":
            world.api.before_write = lambda *_: None
            ask(world, rotate="one")

    world.api.before_write = sneak
    world.deliver()
    await world.work(watch=False)
    assert world.status()["lastHandledRotateRequest"] == "one"
    assert len(world.nonces) == 2
