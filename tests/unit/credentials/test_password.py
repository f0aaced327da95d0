"""The form of a password: what is one, what is not, and what it is derived from."""

import base64
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.credentials import password
from pullpass.credentials.password import derive, new_id, new_nonce, parse, seed_id

SEED = b"s" * 32
SAMPLE = derive(SEED, "uid-1", "00" * 32, "4f9c1e")

seeds = st.binary(min_size=16, max_size=64)
words = st.text(string.hexdigits.lower() + "-", min_size=1, max_size=64)
ids = st.text("0123456789abcdef", min_size=6, max_size=6)


@given(seeds, words, words, ids)
def test_what_is_derived_is_well_formed(seed: bytes, uid: str, nonce: str, id_: str) -> None:
    made = derive(seed, uid, nonce, id_)
    assert parse(made.text) == made
    assert made.id == id_
    assert made.text.startswith(f"pullpass_{id_}")
    assert len(made.text.encode()) == 54
    assert len(made.text.encode()) <= 72, "bcrypt reads no further"


@given(seeds, words, words, ids)
def test_deriving_twice_gives_the_same(seed: bytes, uid: str, nonce: str, id_: str) -> None:
    assert derive(seed, uid, nonce, id_) == derive(seed, uid, nonce, id_)


@pytest.mark.parametrize(
    ("seed", "uid", "nonce", "id_"),
    [
        (b"t" * 32, "uid-1", "00" * 32, "4f9c1e"),
        (SEED, "uid-2", "00" * 32, "4f9c1e"),
        (SEED, "uid-1", "01" * 32, "4f9c1e"),
        (SEED, "uid-1", "00" * 32, "4f9c1f"),
        # Parts must not run into each other.
        (SEED, "uid-10", "0" * 63, "4f9c1e"),
    ],
)
def test_another_seed_token_nonce_or_id_gives_another_secret(seed: bytes, uid: str, nonce: str, id_: str) -> None:
    assert derive(seed, uid, nonce, id_).text[15:47] != SAMPLE.text[15:47]


@given(st.integers(0, len(SAMPLE.text) - 1), st.characters())
def test_any_one_changed_character_is_refused(place: int, character: str) -> None:
    changed = SAMPLE.text[:place] + character + SAMPLE.text[place + 1 :]
    assert (parse(changed) is not None) == (changed == SAMPLE.text)


@given(st.integers(0, len(SAMPLE.text) - 2))
def test_two_neighbours_exchanged_are_refused(place: int) -> None:
    text = SAMPLE.text
    changed = text[:place] + text[place + 1] + text[place] + text[place + 2 :]
    assert (parse(changed) is not None) == (changed == text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "pullpass_",
        SAMPLE.text[:-1],
        SAMPLE.text + "a",
        SAMPLE.text + "\n",
        " " + SAMPLE.text,
        SAMPLE.text.upper(),
        SAMPLE.text.replace("pullpass_", "pullpass-"),
        SAMPLE.text + "\0",
        "pullpass_٣٣٣٣٣٣" + SAMPLE.text[15:],
        "x" * 1_000_000,
    ],
)
def test_what_is_no_password_is_refused(text: str) -> None:
    assert parse(text) is None


@given(st.text(max_size=80))
def test_no_text_raises(text: str) -> None:
    assert parse(text) is None


def test_the_repr_hides_the_text() -> None:
    assert SAMPLE.id in repr(SAMPLE)
    assert SAMPLE.text[15:] not in repr(SAMPLE)
    assert SAMPLE.text not in f"{SAMPLE} {[SAMPLE]!r}"


def test_the_secret_is_160_bits() -> None:
    assert len(base64.b32decode(SAMPLE.text[15:47].upper())) == password.SECRET_BYTES == 20


def test_ids_and_nonces_are_fresh() -> None:
    assert len({new_nonce() for _ in range(100)}) == 100
    assert all(len(new_nonce()) == 64 and len(new_id()) == 6 for _ in range(10))


def test_the_fingerprint_of_a_seed_tells_seeds_apart_and_shows_nothing_of_them() -> None:
    assert seed_id(SEED) == seed_id(SEED) != seed_id(b"t" * 32)
    assert len(seed_id(SEED)) == 16
    assert SEED.hex() not in seed_id(SEED)
