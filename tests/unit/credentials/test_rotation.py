"""The rotation decision: a table of every branch, what it shows of a slot, and the step that publishes."""

from dataclasses import replace
from datetime import datetime

import pytest

from pullpass.api.registrytoken import RegistryTokenSpec
from pullpass.credentials.record import Record, Requests, Slot
from pullpass.credentials.rotation import (
    Ended,
    MakePassword,
    Publish,
    Settled,
    Step,
    WriteRecord,
    end_by_lifetime,
    next_step,
    published,
    state_of,
)
from tests.unit.credentials.slots import (
    FOREVER,
    FRESH,
    NEVER,
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

TABLE: dict[str, tuple[Record, RegistryTokenSpec, Step]] = {
    "nothing yet": (record(), ROTATE, MakePassword("password1")),
    "nothing yet, no lifetime": (record(), FOREVER, MakePassword("password1")),
    "nothing yet, revoke": (record(), REVOKE, MakePassword("password1")),
    "made, not published": (record(PENDING, at=None), ROTATE, Publish("password1")),
    "made in the other slot": (record(slot(2 * H, H), PENDING), ROTATE, Publish("password2")),
    "pending of another seed": (record(FRESH, slot(M, H, seed="old")), ROTATE, WriteRecord(record(FRESH))),
    "pending of another seed, first": (record(slot(M, H, seed="old"), at=None), ROTATE, WriteRecord(record())),
    "pending ended unpublished": (record(slot(3 * H, 0 * S), at=None), ROTATE, WriteRecord(record())),
    "pending ended beside a good one": (record(FRESH, slot(3 * H, -S)), ROTATE, WriteRecord(record(FRESH))),
    "pending ended beside a good one, revoke": (record(FRESH, slot(3 * H, -S)), REVOKE, WriteRecord(record(FRESH))),
    "first ended unpublished, revoke": (record(slot(3 * H, 0 * S), at=None), REVOKE, Ended("password")),
    "first ended unpublished, lifetime lengthened": (
        record(slot(H, 0 * S), at=None),
        REVOKE,
        WriteRecord(record(slot(H, 2 * H), at=None)),
    ),
    "first ended unpublished, lifetime taken away": (
        record(slot(H, 0 * S), at=None),
        spec(onExpiry="Revoke"),
        WriteRecord(record(slot(H), at=None)),
    ),
    "first of two about to end unpublished": (record(slot(3 * H - S, S), at=None), REVOKE, Publish("password1")),
    "settled": (record(FRESH), ROTATE, Settled(NOW + H, "Rotate")),
    "settled in the other slot": (record(two=FRESH, at="password2"), ROTATE, Settled(NOW + H, "Rotate")),
    "settled until the overlap ends": (record(FRESH, slot(3 * H, M, until=M)), ROTATE, Settled(NOW + M, "Retire")),
    "settled until the token ends": (record(FRESH), spec(NOW + M, lifetime="3h"), Settled(NOW + M, "Expire")),
    "settled for ever": (record(slot(H)), FOREVER, Settled(None, None)),
    "settled for ever but for the overlap": (
        record(slot(H), slot(H, until=M)),
        FOREVER,
        Settled(NOW + M, "Retire"),
    ),
    "settled, revoke": (record(FRESH), REVOKE, Settled(NOW + 2 * H, "Expire")),
    "settled, revoke without a lifetime": (record(slot(H)), spec(onExpiry="Revoke"), Settled(None, None)),
    "about to rotate": (record(slot(2 * H - S, H + S)), ROTATE, Settled(NOW + S, "Rotate")),
    "rotates": (record(slot(2 * H, H)), ROTATE, MakePassword("password2")),
    "rotates back": (record(two=slot(2 * H, H), at="password2"), ROTATE, MakePassword("password1")),
    "rotates by renewBefore": (
        record(slot(H, 2 * H)),
        spec(lifetime="3h", renewBefore="2h"),
        MakePassword("password2"),
    ),
    "ended while nobody looked": (record(slot(4 * H, -H)), ROTATE, MakePassword("password2")),
    "overlap over": (record(FRESH, slot(3 * H, M, until=0 * S)), ROTATE, WriteRecord(record(FRESH))),
    "both overlaps over": (
        record(slot(H, H, until=-S), slot(3 * H, M, until=0 * S), at=None),
        ROTATE,
        WriteRecord(record()),
    ),
    "overlap holds the rotation": (
        record(slot(2 * H, H), slot(5 * H, H, until=M)),
        ROTATE,
        Settled(NOW + M, "Retire"),
    ),
    "overlap holds the rotation only so long": (
        record(slot(150 * M, 30 * M), slot(5 * H, H, until=20 * M)),
        ROTATE,
        MakePassword("password2"),
    ),
    "overlap longer than the password": (
        record(FRESH, slot(5 * H, NEVER, until=NEVER)),
        ROTATE,
        Settled(NOW + 90 * M, "Rotate"),
    ),
    "lifetime lengthened": (record(slot(H, H)), ROTATE, WriteRecord(record(FRESH))),
    "lifetime shortened": (record(slot(H, 5 * H)), ROTATE, WriteRecord(record(FRESH))),
    "lifetime shortened below its age: the dates stay": (record(slot(4 * H, 5 * H)), ROTATE, MakePassword("password2")),
    "lifetime given": (record(slot(H)), ROTATE, WriteRecord(record(FRESH))),
    "lifetime taken away": (record(FRESH), FOREVER, WriteRecord(record(slot(H)))),
    "lifetime shortened, revoke": (record(slot(4 * H, 5 * H)), REVOKE, WriteRecord(record(slot(4 * H, -H)))),
    "another seed": (record(slot(H, 2 * H, seed="old")), ROTATE, MakePassword("password2")),
    "another seed, no lifetime": (record(slot(H, seed="old")), FOREVER, MakePassword("password2")),
    "another seed, revoke": (record(slot(H, 2 * H, seed="old")), REVOKE, Settled(NOW + 2 * H, "Expire")),
    "another seed, revoke without an end": (
        record(slot(H, seed="old")),
        spec(onExpiry="Revoke"),
        MakePassword("password2"),
    ),
    "another seed, ended": (record(slot(3 * H, 0 * S, seed="old")), REVOKE, Ended("password")),
    "another seed waits for the overlap": (
        record(slot(H, seed="old"), slot(H, until=M)),
        FOREVER,
        Settled(NOW + M, "Retire"),
    ),
    "password ended": (record(slot(3 * H, 0 * S)), REVOKE, Ended("password")),
    "token ended": (record(FRESH), spec(NOW, lifetime="3h"), Ended("token")),
    "token ended, nothing made": (record(), spec(NOW - S), Ended("token")),
    "token ends later": (record(), spec(NOW + S), MakePassword("password1")),
}


@pytest.mark.parametrize("case", TABLE)
def test_next_step(case: str) -> None:
    before, wanted, step = TABLE[case]
    assert next_step(before, wanted, Requests(), "seed", NOW) == step


@pytest.mark.parametrize("case", [case for case, (_, _, step) in TABLE.items() if isinstance(step, WriteRecord)])
def test_a_write_leads_on(case: str) -> None:
    _, wanted, step = TABLE[case]
    assert isinstance(step, WriteRecord)
    assert next_step(step.record, wanted, Requests(), "seed", NOW) != step


@pytest.mark.parametrize("case", [case for case, (_, _, step) in TABLE.items() if isinstance(step, Settled)])
def test_settled_is_due_in_the_future(case: str) -> None:
    _, _, step = TABLE[case]
    assert isinstance(step, Settled)
    assert step.due is None or step.due > NOW


def test_publishing_begins_the_overlap_of_the_other_slot() -> None:
    old, new = slot(2 * H, H), PENDING
    after = published(record(old, new), "password2", spec(lifetime="3h", overlap="10m").passwords, NOW)
    assert after == record(replace(old, valid_until=NOW + 10 * M), new, at="password2")


def test_the_first_publication_retires_nothing() -> None:
    assert published(record(PENDING, at=None), "password1", ROTATE.passwords, NOW) == record(PENDING)


@pytest.mark.parametrize(("policy", "end"), [(ROTATE, NOW + 3 * H), (REVOKE, NOW + 3 * H), (FOREVER, None)])
def test_the_end_of_a_new_password(policy: RegistryTokenSpec, end: datetime | None) -> None:
    assert end_by_lifetime(policy.passwords, NOW) == end


@pytest.mark.parametrize(
    ("one", "at", "word"),
    [
        (FRESH, "password1", "Active"),
        (FRESH, None, "Pending"),
        (slot(H, 2 * H, until=M), None, "Retiring"),
        (slot(H, 2 * H, until=0 * S), None, "Expired"),
        (slot(H, 0 * S), "password1", "Expired"),
    ],
)
def test_the_word_for_a_slot(one: Slot, at: str | None, word: str) -> None:
    assert state_of(record(one, at=at), "password1", one, (), NOW) == word
