"""Passwords that people rotate, regenerate and revoke by hand: the decision as a table, and over days of fake time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, Literal, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullpass.api.registrytoken import Passwords, RegistryTokenSpec
from pullpass.credentials.record import Record, Requests, Slot
from pullpass.credentials.rotation import (
    Ended,
    MakePassword,
    Publish,
    Settled,
    Step,
    WriteRecord,
    made,
    next_step,
    published,
    state_of,
    waits_for_every_place,
)
from tests.unit.credentials.simulation import SECOND, START, Operator, crashes, delays, policies
from tests.unit.credentials.slots import (
    FOREVER,
    FRESH,
    NOW,
    PENDING,
    REVOKE,
    ROTATE,
    H,
    M,
    S,
    record,
    slot,
    spec,
)

NOTHING = Requests()
OLD, NEW = Requests(rotate="old"), Requests(rotate="new")
LEAK_1, LEAK_2 = Requests(regenerate="first"), Requests(regenerate="second")
BOTH = Requests("new", "second")
ROTATED = slot(H, 2 * H, rotate="old")
REGENERATED = slot(H, 2 * H, regenerate="first")
RETIRING = slot(3 * H, M, until=30 * S)


def dead(*slots: Slot, expires: datetime | None = None, **passwords: Any) -> RegistryTokenSpec:
    """A spec that revokes the passwords of these slots."""
    return spec(expires, revoked=[one.id for one in slots], **({"lifetime": "3h"} | passwords))


REQUESTS: dict[str, tuple[Record, RegistryTokenSpec, Requests, Step]] = {
    # Nothing is published: nothing is open.
    "nothing yet": (record(), ROTATE, BOTH, MakePassword("password1")),
    "made, not published": (record(PENDING, at=None), ROTATE, BOTH, Publish("password1")),
    # Rotate.
    "rotate": (record(FRESH), ROTATE, NEW, MakePassword("password2")),
    "rotate back": (record(two=FRESH, at="password2"), ROTATE, NEW, MakePassword("password1")),
    "rotate again": (record(ROTATED), ROTATE, NEW, MakePassword("password2")),
    "rotate without a lifetime": (record(slot(H)), FOREVER, NEW, MakePassword("password2")),
    "rotate under revoke": (record(FRESH), REVOKE, NEW, MakePassword("password2")),
    "rotate, and the lifetime was lengthened: its dates stay": (
        record(slot(H, H)),
        ROTATE,
        NEW,
        MakePassword("password2"),
    ),
    "rotate, and the lifetime was shortened, revoke": (record(slot(H, 5 * H)), REVOKE, NEW, WriteRecord(record(FRESH))),
    "rotate was handled": (record(ROTATED), ROTATE, OLD, Settled(NOW + H, "Rotate")),
    "rotate was handled, without a lifetime": (record(slot(H, rotate="old")), FOREVER, OLD, Settled(None, None)),
    "rotate was handled, revoke": (record(ROTATED), REVOKE, OLD, Settled(NOW + 2 * H, "Expire")),
    "the annotation is gone": (record(ROTATED), ROTATE, NOTHING, Settled(NOW + H, "Rotate")),
    "rotate was handled and is due all the same": (
        record(slot(2 * H, H, rotate="old")),
        ROTATE,
        OLD,
        MakePassword("password2"),
    ),
    "rotate waits for the overlap": (record(FRESH, RETIRING), ROTATE, NEW, Settled(NOW + 30 * S, "Rotate")),
    "rotate waits for the overlap, without a lifetime": (
        record(slot(H), slot(H, until=M)),
        FOREVER,
        NEW,
        Settled(NOW + M, "Rotate"),
    ),
    "rotate waits for the overlap, and the token ends then": (
        record(FRESH, RETIRING),
        spec(NOW + 30 * S, lifetime="3h"),
        NEW,
        Settled(NOW + 30 * S, "Rotate"),
    ),
    "rotate waits for the overlap, and the token ends before": (
        record(FRESH, RETIRING),
        spec(NOW + 20 * S, lifetime="3h"),
        NEW,
        Settled(NOW + 20 * S, "Expire"),
    ),
    "rotate waits for the overlap, but not past the end under revoke": (
        record(slot(3 * H - S, S), RETIRING),
        REVOKE,
        NEW,
        Settled(NOW + S, "Rotate"),
    ),
    "the overlap is over": (record(FRESH, replace(RETIRING, valid_until=NOW)), ROTATE, NEW, WriteRecord(record(FRESH))),
    "a pending one is published first": (record(ROTATED, PENDING), ROTATE, NEW, Publish("password2")),
    # Regenerate.
    "regenerate": (record(FRESH), ROTATE, LEAK_1, MakePassword("password2")),
    "regenerate again": (record(REGENERATED), ROTATE, LEAK_2, MakePassword("password2")),
    "regenerate under revoke": (record(FRESH), REVOKE, LEAK_1, MakePassword("password2")),
    "regenerate was handled": (record(REGENERATED), ROTATE, LEAK_1, Settled(NOW + H, "Rotate")),
    "regenerate was handled and its annotation is gone": (
        record(REGENERATED),
        ROTATE,
        NOTHING,
        Settled(NOW + H, "Rotate"),
    ),
    "regenerate waits for no overlap": (record(FRESH, RETIRING), ROTATE, LEAK_1, MakePassword("password2")),
    "both wait for no overlap": (record(FRESH, RETIRING), ROTATE, BOTH, MakePassword("password2")),
    "a pending one is published before it is regenerated": (
        record(FRESH, PENDING),
        ROTATE,
        LEAK_1,
        Publish("password2"),
    ),
    # Revoked.
    "revoked": (record(FRESH), dead(FRESH), NOTHING, MakePassword("password1")),
    "revoked in the other slot": (record(two=FRESH, at="password2"), dead(FRESH), NOTHING, MakePassword("password2")),
    "revoked, the other one retires on": (record(FRESH, RETIRING), dead(FRESH), NOTHING, MakePassword("password1")),
    "revoked, without a lifetime": (record(slot(H)), dead(slot(H), lifetime=None), NOTHING, MakePassword("password1")),
    "revoked, revoke without a lifetime": (
        record(slot(H)),
        dead(slot(H), lifetime=None, onExpiry="Revoke"),
        NOTHING,
        MakePassword("password1"),
    ),
    "revoked and rotated": (record(FRESH, RETIRING), dead(FRESH), NEW, MakePassword("password1")),
    "revoked and regenerated": (record(FRESH, RETIRING), dead(FRESH), LEAK_1, MakePassword("password1")),
    "retiring one revoked": (record(FRESH, RETIRING), dead(RETIRING), NOTHING, WriteRecord(record(FRESH))),
    "retiring one revoked, and the request does not wait": (
        record(FRESH),
        dead(RETIRING),
        NEW,
        MakePassword("password2"),
    ),
    "pending one revoked": (record(FRESH, PENDING), dead(PENDING), NOTHING, WriteRecord(record(FRESH))),
    "pending one revoked, revoke": (
        record(FRESH, PENDING),
        dead(PENDING, onExpiry="Revoke"),
        NOTHING,
        WriteRecord(record(FRESH)),
    ),
    "pending one revoked, and it was the first": (
        record(PENDING, at=None),
        dead(PENDING),
        NOTHING,
        MakePassword("password1"),
    ),
    "current one revoked while the next is pending": (
        record(FRESH, PENDING),
        dead(FRESH),
        NOTHING,
        Publish("password2"),
    ),
    "all revoked": (record(FRESH, RETIRING), dead(FRESH, RETIRING), NOTHING, WriteRecord(record(FRESH))),
    "revoked, of another seed": (record(slot(H, H, seed="old")), dead(slot(H)), NOTHING, MakePassword("password1")),
    "some other one is revoked": (record(FRESH), dead(PENDING), NOTHING, Settled(NOW + H, "Rotate")),
    "revoked, and the token has ended": (record(FRESH), dead(FRESH, expires=NOW), NEW, Ended("token")),
    # Under `onExpiry: Revoke` access ends with the password, until somebody asks for another.
    "revoked, revoke": (record(FRESH), dead(FRESH, onExpiry="Revoke"), NOTHING, Ended("revoked")),
    "revoked, revoke, the other one retires on": (
        record(FRESH, RETIRING),
        dead(FRESH, onExpiry="Revoke"),
        NOTHING,
        Ended("revoked", NOW + 30 * S),
    ),
    "revoked, revoke, and its lifetime is over too": (
        record(slot(4 * H, -H)),
        dead(slot(4 * H), onExpiry="Revoke"),
        NOTHING,
        Ended("revoked"),
    ),
    "revoked, revoke, and it was the first": (
        record(PENDING, at=None),
        dead(PENDING, onExpiry="Revoke"),
        NOTHING,
        Ended("revoked"),
    ),
    "revoked, revoke, of another seed, and it was the first": (
        record(slot(M, 179 * M, seed="old"), at=None),
        dead(PENDING, onExpiry="Revoke"),
        NOTHING,
        Ended("revoked"),
    ),
    "revoked, revoke, and the request was handled": (
        record(ROTATED),
        dead(ROTATED, onExpiry="Revoke"),
        OLD,
        Ended("revoked"),
    ),
    "revoked, revoke, rotate": (record(ROTATED), dead(ROTATED, onExpiry="Revoke"), NEW, MakePassword("password1")),
    "revoked, revoke, regenerate": (record(FRESH), dead(FRESH, onExpiry="Revoke"), LEAK_1, MakePassword("password1")),
    "revoked, revoke, first, rotate": (
        record(PENDING, at=None),
        dead(PENDING, onExpiry="Revoke"),
        NEW,
        MakePassword("password1"),
    ),
    "ended, rotate": (record(slot(3 * H, 0 * S)), REVOKE, NEW, MakePassword("password1")),
    "ended, rotate, the other one retires on": (
        record(slot(3 * H, 0 * S), RETIRING),
        REVOKE,
        NEW,
        MakePassword("password1"),
    ),
    "ended, regenerate": (record(slot(3 * H, 0 * S)), REVOKE, LEAK_1, MakePassword("password1")),
    "ended, the request was handled": (record(slot(3 * H, 0 * S, rotate="old")), REVOKE, OLD, Ended("password")),
    "ended, the other one retires on": (
        record(slot(3 * H, 0 * S), RETIRING),
        REVOKE,
        NOTHING,
        Ended("password", NOW + 30 * S),
    ),
    "ended unpublished, rotate": (record(slot(3 * H, 0 * S), at=None), REVOKE, NEW, MakePassword("password1")),
}


@pytest.mark.parametrize("case", REQUESTS)
def test_next_step(case: str) -> None:
    before, wanted, asked, step = REQUESTS[case]
    assert next_step(before, wanted, asked, "seed", NOW) == step


MADE: dict[str, tuple[Record, Literal["password1", "password2"], Requests, Record]] = {
    "the first": (record(), "password1", BOTH, record(slot(0 * S, rotate="new", regenerate="second"), at=None)),
    "the next": (record(FRESH), "password2", NEW, record(FRESH, slot(0 * S, rotate="new"))),
    "nothing was ever asked": (record(FRESH), "password2", NOTHING, record(FRESH, slot(0 * S))),
    "the annotation is gone": (record(ROTATED), "password2", NOTHING, record(ROTATED, slot(0 * S, rotate="old"))),
    "the other annotation is gone": (
        record(ROTATED),
        "password2",
        LEAK_1,
        record(ROTATED, slot(0 * S, rotate="old", regenerate="first")),
    ),
    "over a retiring one": (record(ROTATED, RETIRING), "password2", NEW, record(ROTATED, slot(0 * S, rotate="new"))),
    "over a retiring one, and the annotation is gone": (
        record(ROTATED, replace(RETIRING, requests=Requests(rotate="older"))),
        "password2",
        NOTHING,
        record(ROTATED, slot(0 * S, rotate="old")),
    ),
    "in its own slot": (
        record(ROTATED, RETIRING),
        "password1",
        NOTHING,
        record(slot(0 * S, rotate="old"), RETIRING, at=None),
    ),
    "over a pending one that was the first": (
        record(ROTATED, at=None),
        "password1",
        NOTHING,
        record(slot(0 * S, rotate="old"), at=None),
    ),
    "only a retiring one is left": (
        record(two=replace(REGENERATED, valid_until=NOW + M), at=None),
        "password1",
        NOTHING,
        record(slot(0 * S, regenerate="first"), replace(REGENERATED, valid_until=NOW + M), at=None),
    ),
}


@pytest.mark.parametrize("case", MADE)
def test_a_new_password_bears_what_was_asked(case: str) -> None:
    before, name, asked, after = MADE[case]
    assert made(before, name, slot(0 * S), asked) == after


@pytest.mark.parametrize(
    ("old", "new", "overlap"),
    [
        (NOTHING, NOTHING, True),
        (OLD, NEW, True),
        (LEAK_1, LEAK_1, True),
        (NOTHING, LEAK_1, False),
        (LEAK_1, LEAK_2, False),
        (LEAK_1, BOTH, False),
    ],
)
def test_a_regenerated_password_leaves_no_overlap(old: Requests, new: Requests, overlap: bool) -> None:
    one, two = replace(FRESH, requests=old), replace(PENDING, requests=new)
    after = published(record(one, two), "password2", ROTATE.passwords, NOW)
    assert after == record(replace(one, valid_until=NOW + H) if overlap else None, two, at="password2")


def test_publishing_in_the_slot_of_a_revoked_one_neither_shortens_nor_prolongs_an_overlap() -> None:
    before = record(PENDING, RETIRING, at=None)
    assert published(before, "password1", ROTATE.passwords, NOW) == record(PENDING, RETIRING)


def test_where_the_own_slot_was_emptied_the_retiring_one_stays() -> None:
    assert next_step(record(two=RETIRING, at=None), ROTATE, NOTHING, "seed", NOW) == MakePassword("password1")
    assert next_step(record(RETIRING, at=None), ROTATE, NOTHING, "seed", NOW) == MakePassword("password2")


NEXT = slot(M, 179 * M, regenerate="first")


@pytest.mark.parametrize(
    ("before", "wanted", "asked", "waits"),
    [
        pytest.param(record(FRESH, PENDING), ROTATE, NOTHING, True, id="an ordinary rotation"),
        pytest.param(record(FRESH, PENDING), ROTATE, NEW, True, id="rotate"),
        pytest.param(record(FRESH, NEXT), ROTATE, LEAK_1, False, id="regenerate"),
        pytest.param(record(FRESH, NEXT), ROTATE, NOTHING, False, id="regenerate, the annotation is gone"),
        pytest.param(record(FRESH, PENDING), ROTATE, LEAK_1, False, id="regenerate waits behind this one"),
        pytest.param(record(REGENERATED, NEXT), ROTATE, LEAK_1, True, id="after a regeneration"),
        pytest.param(record(FRESH, PENDING), dead(FRESH), NOTHING, False, id="revoked"),
        pytest.param(record(slot(3 * H, 0 * S), PENDING), ROTATE, NOTHING, False, id="ended"),
        pytest.param(record(two=PENDING), ROTATE, NOTHING, False, id="the first"),
        pytest.param(record(slot(2 * M, 3 * H), PENDING), spec(lifetime="2m"), NOTHING, False, id="a shorter lifetime"),
        pytest.param(record(slot(1 * M, 3 * H), PENDING), spec(lifetime="2m"), NOTHING, True, id="not yet over"),
    ],
)
def test_whether_one_place_that_cannot_be_written_holds_the_old_password(
    before: Record, wanted: RegistryTokenSpec, asked: Requests, waits: bool
) -> None:
    assert waits_for_every_place(before, "password2", wanted.passwords, asked, NOW) is waits


@pytest.mark.parametrize("one", [FRESH, PENDING, RETIRING, slot(3 * H, 0 * S)])
def test_the_word_for_a_revoked_slot(one: Slot) -> None:
    assert state_of(record(one), "password1", one, [one.id], NOW) == "Revoked"
    assert state_of(record(one), "password1", one, ["ffffff"], NOW) != "Revoked"


# Over days

Deed = Literal[
    "rotate", "regenerate", "both", "the same again", "nothing any more", "revoke password1", "revoke password2"
]
deeds = st.lists(st.tuples(st.integers(0, 60 * 60 * 2), st.sampled_from(get_args(Deed))), min_size=1, max_size=12)


def do(operator: Operator, deed: Deed, number: int) -> None:
    """What somebody does; a value of the first deeds is never used again."""
    rotate, regenerate = f"rotate-{number}", f"regenerate-{number}"
    match deed:
        case "rotate":
            operator.asked = replace(operator.asked, rotate=rotate)
        case "regenerate":
            operator.asked = replace(operator.asked, regenerate=regenerate)
        case "both":
            operator.asked = Requests(rotate, regenerate)
        case "nothing any more":
            operator.asked = Requests()
        case "revoke password1":
            operator.revoke("password1")
        case "revoke password2":
            operator.revoke("password2")


@settings(max_examples=200, deadline=None)
@given(policies(), delays, crashes, deeds)
def test_each_value_makes_one_password_and_no_promise_is_broken(
    passwords: Passwords, delays: Iterator[int], crashes: Iterator[bool], deeds: list[tuple[int, Deed]]
) -> None:
    operator = Operator(passwords, delays, crashes)
    for number, (seconds, deed) in enumerate(deeds):
        operator.live_until(operator.now + seconds * SECOND)
        do(operator, deed, number)
    between = (passwords.lifetime or timedelta(hours=2)) - passwords.effective_renew_before
    operator.live_until(operator.now + 2 * between + timedelta(minutes=10))
    assert operator.record.published is not None
    current = operator.record.slots[operator.record.published]
    assert operator.standing == current.nonce
    assert operator.works(current.nonce)
    assert operator.asked.beyond(current.requests) == Requests(), "a request was not handled"
    assert not {slot.id for slot in operator.record.slots.values()} & set(operator.passwords.revoked)


@settings(max_examples=100, deadline=None)
@given(delays, crashes, st.integers(0, 7200), st.lists(st.integers(0, 3600), min_size=1, max_size=8))
def test_without_a_lifetime_there_are_as_many_passwords_as_values(
    delays: Iterator[int], crashes: Iterator[bool], overlap: int, visits: list[int]
) -> None:
    operator = Operator(Passwords(overlap=overlap * SECOND), delays, crashes)
    operator.live_until(START + 200 * SECOND)
    for number, seconds in enumerate(visits):
        operator.asked = Requests(rotate=str(number))
        for _ in range(2):  # the second time the value is there already
            operator.live_until(operator.now + timedelta(seconds=seconds + 2 * overlap + 200))
    assert operator.made == 1 + len(visits)
    assert len(operator.published) == operator.made


@settings(max_examples=100, deadline=None)
@given(policies(), delays, crashes, st.booleans(), st.integers(0, 600))
def test_once_it_is_regenerated_only_the_new_password_is_left(
    passwords: Passwords, delays: Iterator[int], crashes: Iterator[bool], rotated: bool, seconds: int
) -> None:
    operator = Operator(passwords, delays, crashes)
    operator.live_until(START + 200 * SECOND)
    if rotated:
        operator.asked = Requests(rotate="before")
        operator.live_until(operator.now + seconds * SECOND)
    older = {slot.nonce for slot in operator.record.slots.values()}
    operator.asked = replace(operator.asked, regenerate="leak")
    for _ in range(100):
        operator.now = operator.visit() or operator.now
        older |= {slot.nonce for slot in operator.record.slots.values() if not slot.requests.regenerate}
        if operator.record.pending is None and operator.standing not in older:
            break
    assert len(operator.record.slots) == 1
    assert not any(operator.works(nonce) for nonce in older)
