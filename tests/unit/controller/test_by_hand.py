"""Rotating, regenerating and revoking by hand, over an API server in memory."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, Literal

import pytest

from pullpass.api import names
from pullpass.api.times import format_time
from pullpass.credentials import password as passwords
from pullpass.kube.client import Refused, Unavailable
from pullpass.kube.resources import EVENTS, REGISTRY_TOKENS
from tests.unit.controller.fake_api import Body, Killed, Place
from tests.unit.controller.world import KEY, SEED, START, World, hours

ROTATING = {"lifetime": "3h", "overlap": "10m"}
EVERYWHERE: dict[str, Any] = {
    "passwords": ROTATING,
    "pullSecret": {"serviceAccounts": ["default"], "namespaces": ["staging"]},
}
REVOKING: dict[str, Any] = EVERYWHERE | {"passwords": ROTATING | {"onExpiry": "Revoke"}}
OWN, FAR = ("web", "reader-pull"), ("staging", "reader-pull")
OVERLAP = timedelta(minutes=10)


@pytest.fixture(autouse=True)
def _nothing_is_told(caplog: pytest.LogCaptureFixture, world: World) -> Iterator[None]:
    """Promise 3, after every test of this module."""
    caplog.set_level(logging.DEBUG)
    yield
    if world.texts:
        world.assert_secret("".join(str(vars(record)) + record.getMessage() for record in caplog.get_records("call")))


@pytest.fixture
def world() -> World:
    return World()


def ask(world: World, *, rotate: str | None = None, regenerate: str | None = None) -> None:
    """Somebody annotates the token; None takes the annotation away."""
    asked = {names.ROTATE_ANNOTATION: rotate, names.REGENERATE_ANNOTATION: regenerate}
    given = {key: value for key, value in asked.items() if value is not None}
    world.api.edit(REGISTRY_TOKENS, "web", "reader", lambda body: body["metadata"].update(annotations=given))


def revoke(world: World, *texts: str) -> None:
    """Somebody names these passwords in spec.passwords.revoked, besides those that are there."""
    world.dead |= set(texts)
    ids = [id_of(text) for text in texts]

    def change(body: Body) -> None:
        policy = body["spec"].get("passwords") or {}
        body["spec"]["passwords"] = policy | {"revoked": [*policy.get("revoked", []), *ids]}

    world.api.edit(REGISTRY_TOKENS, "web", "reader", change)


def id_of(text: str) -> str:
    parsed = passwords.parse(text)
    assert parsed is not None
    return parsed.id


def standing(world: World) -> str:
    """The one password that stands in all pull secrets."""
    (text,) = set(world.passwords().values())
    return text


def notes(world: World, reason: str) -> list[str]:
    return [body["note"] for body in world.api.of(EVENTS) if body["reason"] == reason]


async def settled(world: World, **spec: Any) -> tuple[str, str]:
    """A token that has settled: its UID, and the password in its pull secrets."""
    uid = world.token(**(spec or EVERYWHERE))
    await world.work()
    assert world.condition() == ("True", "Ready")
    return uid, standing(world)


async def assert_settled(world: World) -> None:
    """Nothing more is asked or written, also not by a new process."""
    for restart in (False, True):
        if restart:
            world.restart()
        calls = world.api.calls
        await world.work()
        assert world.api.calls == calls


# Rotate


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
    await world.tokens.reconcile(KEY)
    assert KEY in {*world.woken, *world.deliver()}
    await world.work()
    assert world.status()["lastHandledRotateRequest"] == "one"
    assert len(world.nonces) == 2


# Regenerate


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


# Revoke


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


# Revoke, under `onExpiry: Revoke`


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


# Promise 1


PHASES = {
    # The slot that is published in the end, and how many are in use.
    "rotate": ("password2", 2),
    "regenerate in an overlap": ("password1", 1),
    "revoke in an overlap": ("password2", 2),
    "end and rotate": ("password1", 1),
}


async def begin(world: World, phase: str) -> str:
    """A settled token that something is asked of; returns its UID."""
    uid, current = await settled(world, **(REVOKING if phase.startswith("end") else EVERYWHERE))
    if phase.endswith("in an overlap"):
        ask(world, rotate="before")
        await world.work()
        current = standing(world)
    if phase.startswith("end"):
        world.now += hours(3)
        world.dead.add(current)
    if phase.startswith("revoke"):
        revoke(world, current)
    if phase.endswith("rotate"):
        ask(world, rotate="now")
    if phase.startswith("regenerate"):
        ask(world, rotate="before", regenerate="now")
    return uid


@pytest.mark.parametrize("effect", ["before", "after"])
@pytest.mark.parametrize("watch", [True, False], ids=["watch", "lagging-watch"])
@pytest.mark.parametrize("ends", [Killed, Unavailable], ids=["killed", "unavailable"])
@pytest.mark.parametrize("phase", PHASES)
async def test_cut_off_at_every_call(
    phase: str, ends: type[BaseException], watch: bool, effect: Literal["before", "after"]
) -> None:
    slot, in_use = PHASES[phase]
    number = 0
    while True:
        number += 1
        world = World()
        uid = await begin(world, phase)
        world.deliver()
        made_before = len(world.nonces)
        fault = world.api.fault = (world.api.calls + number, effect, ends("cut off"))
        try:
            await world.work(watch=watch)
        except Killed:
            world.api.fault = None
            world.restart()
            await world.work(watch=watch)
        reached = world.api.calls >= fault[0]
        assert world.condition() == ("True", "Ready"), f"cut off at call {number}: needs the watch to go on"
        world.deliver()
        await world.work()
        assert world.condition() == ("True", "Ready"), number
        assert len(world.nonces) == made_before + 1, f"cut off at call {number}: a second password was made"
        assert world.record_of(uid).published == slot
        assert len(world.record_of(uid).slots) == in_use
        assert set(world.passwords()) == {OWN, FAR}
        assert world.lets_in(uid, standing(world))
        assert all(len(uids) == 1 for uids in world.uids.values()), "a pull secret was made anew"
        assert world.status()["lastHandledRotateRequest"] == ("before" if phase.endswith("overlap") else "now")
        assert world.status().get("lastHandledRegenerateRequest") == ("now" if "regenerate" in phase else None)
        world.assert_secret("")
        if not reached:
            break
    assert number > 8
