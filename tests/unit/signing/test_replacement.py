"""At which step the replacement of a CA is, what has to be trusted, and when it goes on by itself."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pullpass.signing import trust
from pullpass.signing.certificates import KeyPair, leaf_due, new_ca, new_key, new_leaf
from pullpass.signing.replacement import (
    GRACE,
    MIN_LEAF_REMAINING,
    PROPAGATION_DELAY,
    KeyState,
    ReplacementStep,
    issuer_of,
)
from pullpass.signing.trust import Authority
from tests.unit.signing.authorities import given_ca

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
OLD, NEW = new_ca(NOW), new_ca(NOW)
LEAF = new_leaf(OLD, NOW)


def bundle(*pairs: KeyPair) -> tuple[Authority, ...]:
    return trust.trusted((), [pair.certificate for pair in pairs], NOW)


NONE = KeyState(OLD, None, LEAF, OLD.certificate, bundle(OLD))
PREPARED = replace(NONE, next=NEW, trusted=bundle(OLD, NEW))
REPLACED = replace(NONE, ca=NEW, trusted=bundle(OLD, NEW))
LEAVING = KeyState(
    NEW,
    None,
    new_leaf(NEW, NOW),
    NEW.certificate,
    (Authority(NEW.certificate, NOW), Authority(OLD.certificate, NOW, until=NOW + DAY)),
)


@pytest.mark.parametrize(
    ("state", "step", "wanted"),
    [
        (NONE, ReplacementStep.NONE, [OLD]),
        (PREPARED, ReplacementStep.PREPARED, [OLD, NEW]),
        (REPLACED, ReplacementStep.REPLACED, [OLD, NEW]),
        (LEAVING, ReplacementStep.LEAVING, [NEW]),
        (replace(LEAVING, next=OLD), ReplacementStep.PREPARED, [NEW, OLD]),
        (replace(REPLACED, next=NEW), ReplacementStep.REPLACED, [OLD, NEW]),
        (KeyState(OLD, None, None, None, ()), ReplacementStep.NONE, [OLD]),
    ],
)
def test_the_step_and_who_must_be_trusted(state: KeyState, step: ReplacementStep, wanted: list[KeyPair]) -> None:
    assert state.step is step
    assert state.wanted == [pair.certificate for pair in wanted]


def test_a_leaf_of_the_ca_is_renewed_as_ever_whatever_is_prepared() -> None:
    due = leaf_due(LEAF, OLD.certificate, NOW)
    assert NONE.leaf_due(NOW) == PREPARED.leaf_due(NOW + GRACE) == due


def test_a_ca_that_took_the_place_of_another_waits_two_weeks() -> None:
    assert REPLACED.leaf_due(NOW) == NOW + GRACE
    assert REPLACED.leaf_due(NOW + DAY) == NOW + GRACE


@pytest.mark.parametrize(
    ("left", "due"),
    [
        (GRACE + MIN_LEAF_REMAINING + DAY, GRACE),
        (10 * DAY, 10 * DAY - MIN_LEAF_REMAINING),
        (DAY, PROPAGATION_DELAY),
        (PROPAGATION_DELAY / 2, PROPAGATION_DELAY / 2),
    ],
)
def test_it_waits_less_long_where_the_old_leaf_ends(left: timedelta, due: timedelta) -> None:
    old = given_ca(NOW, new_key(), ends=NOW + left)
    state = KeyState(NEW, None, new_leaf(old, NOW), old.certificate, bundle(old, NEW))
    assert state.leaf_due(NOW) == NOW + due


def test_it_counts_from_when_the_new_ca_was_published() -> None:
    before = replace(REPLACED, trusted=bundle(OLD))
    assert before.leaf_due(NOW + DAY) == NOW + DAY + GRACE


@pytest.mark.parametrize(
    "state",
    [
        replace(NONE, leaf=None),
        replace(NONE, issuer=None),
        replace(REPLACED, issuer=None),
        replace(REPLACED, issuer=given_ca(NOW, new_key()).certificate),
    ],
    ids=["no-leaf", "unknown-issuer", "unknown-issuer-of-another", "wrong-issuer"],
)
def test_a_leaf_that_nobody_accepts_is_replaced_at_once(state: KeyState) -> None:
    assert state.leaf_due(NOW) == NOW


def test_the_issuer_is_the_ca_that_signed_the_leaf_in_its_last_certificate() -> None:
    first = given_ca(NOW, new_key())
    renewed = given_ca(NOW, first.key, ends=NOW + 200 * DAY)
    leaf = new_leaf(first, NOW).certificate
    candidates = [pair.certificate for pair in (OLD, renewed, first, NEW)]
    assert issuer_of(leaf, candidates) == renewed.certificate
    assert issuer_of(leaf, candidates[:1]) is None


def test_a_ca_renewed_over_its_key_is_no_replacement() -> None:
    first = given_ca(NOW, new_key())
    renewed = given_ca(NOW, first.key, ends=NOW + 200 * DAY)
    state = KeyState(renewed, None, new_leaf(first, NOW), first.certificate, bundle(first))
    assert state.step is ReplacementStep.NONE
    assert state.wanted == [renewed.certificate]
