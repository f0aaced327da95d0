"""bcrypt, fenced: good hashes work, hostile ones are False at once."""

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullpass.credentials import hashing
from pullpass.credentials.hashing import check, dummy_hash, hash_password

GOOD = hash_password("right", 4)


@pytest.mark.parametrize(("text", "accepted"), [("right", True), ("wrong", False), ("", False), ("right ", False)])
def test_a_hash_accepts_its_password_only(text: str, accepted: bool) -> None:
    assert check(text, GOOD) is accepted


def test_a_hash_has_the_cost_asked_for_and_its_own_salt() -> None:
    assert hash_password("right", 5).startswith("$2b$05$")
    assert hash_password("right", 4) != GOOD


@pytest.mark.parametrize(
    "hash_",
    [
        GOOD.replace("$04$", "$31$"),
        GOOD.replace("$04$", "$13$"),
        GOOD.replace("$04$", "$03$"),
        GOOD.replace("$04$", "$00$"),
        GOOD.replace("$04$", "$4$"),
        GOOD.replace("$2b$", "$2x$"),
        GOOD.replace("$2b$", "$1$"),
        GOOD[:-1],
        GOOD + "a",
        GOOD + "\n",
        GOOD.replace("$", "\0"),
        "",
        "right",
        "$2b$04$" + "é" * 53,
        "$2b$٠٤$" + GOOD[7:],
    ],
    ids=map(str, range(15)),  # not the hashes, which are others in each run
)
def test_hostile_hashes_are_refused(hash_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object) -> bool:
        raise AssertionError("hashed in spite of it")

    monkeypatch.setattr(bcrypt, "checkpw", never)
    assert check("right", hash_) is False


def test_the_highest_cost_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    hash_ = GOOD.replace("$04$", f"${hashing.MAXIMUM_COST}$")
    monkeypatch.setattr(bcrypt, "checkpw", lambda text, asked: (text, asked) == (b"right", hash_.encode()))
    assert check("right", hash_)


@pytest.mark.parametrize("text", ["x" * 73, "x" * 100, "x" * 1_000_000, "ri\0ght", "\0", "é" * 40])
def test_hostile_passwords_are_false(text: str) -> None:
    assert check(text, GOOD) is False


def test_a_password_cut_at_72_bytes_is_not_the_same() -> None:
    whole = "x" * 72
    assert check(whole, hash_password(whole, 4))
    assert not check(whole + "y", hash_password(whole, 4))


@settings(max_examples=50)
@given(st.text(max_size=100), st.text(max_size=70))
def test_nothing_raises(text: str, hash_: str) -> None:
    assert check(text, hash_) is False


def test_the_dummy_hash_costs_the_same_and_accepts_nothing() -> None:
    assert dummy_hash(4).startswith("$2b$04$")
    assert dummy_hash(4) is dummy_hash(4)
    assert dummy_hash(5).startswith("$2b$05$")
    assert not check("right", dummy_hash(4))
    assert len(dummy_hash(4)) == len(GOOD)
