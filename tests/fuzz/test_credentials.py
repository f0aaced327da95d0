"""Passwords, hashes and credential records: nothing raises what it should not, and nothing false is taken."""

import base64
import json
import re
import zlib
from datetime import UTC, datetime
from typing import Any

import bcrypt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pullpass.credentials import hashing
from pullpass.credentials.password import derive, parse
from pullpass.credentials.record import Record, Requests, Slot
from tests.fuzz.inputs import ENDLESS, HOSTILE, WILD, spoilt

FUZZ = settings.get_profile("fuzz")
GOOD = derive(b"s" * 32, "uid-1", "nonce", "aaaaaa").text
HASH = hashing.hash_password(GOOD, 4)
NEARLY = st.builds(
    lambda start, end, piece: GOOD[:start] + piece + GOOD[end:],
    st.integers(0, len(GOOD)),
    st.integers(0, len(GOOD)),
    st.text(max_size=4) | st.sampled_from(["\0", "\n", "\uff41", "\u0663", GOOD]),
)
# Of the right form, and wrong by its checksum alone.
MISTYPED = st.builds(
    lambda place, character: GOOD[:place] + character + GOOD[place + 1 :],
    st.integers(15, len(GOOD) - 1),
    st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"),
)
TEXTS = NEARLY | MISTYPED | WILD | ENDLESS


def is_password(text: str) -> bool:
    """A plain second reading of its form."""
    body, checksum = text[:-7], text[-7:]
    if len(text) != 54 or not text.startswith("pullpass_") or not text.isascii():
        return False
    if not set(text[9:15]) <= set("0123456789abcdef") or not set(text[15:]) <= set("abcdefghijklmnopqrstuvwxyz234567"):
        return False
    crc = zlib.crc32(body.encode()).to_bytes(4, "big")
    return base64.b32encode(crc).decode().lower().rstrip("=") == checksum


@FUZZ
@given(TEXTS)
@example(GOOD)
def test_a_password_is_taken_exactly_if_it_is_one(text: str) -> None:
    read = parse(text)
    assert (read is not None) == is_password(text)
    if read is not None:
        assert (read.id, read.text) == (text[9:15], text)


@FUZZ
@given(
    st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=32, max_size=32),
    st.text("0123456789abcdef", min_size=6, max_size=6),
)
def test_whatever_has_the_form_and_the_checksum_is_taken(secret: str, id_: str) -> None:
    body = f"pullpass_{id_}{secret}"
    checksum = base64.b32encode(zlib.crc32(body.encode()).to_bytes(4, "big")).decode().lower().rstrip("=")
    read = parse(body + checksum)
    assert read is not None
    assert read.id == id_


HASHES = (
    st.builds(
        lambda start, end, piece: HASH[:start] + piece + HASH[end:],
        st.integers(0, len(HASH)),
        st.integers(0, len(HASH)),
        st.text("$2aby0123456789./\0\n", max_size=4),
    )
    | WILD
)


@FUZZ
@given(TEXTS, HASHES)
@example("\ud800", HASH)
@example(GOOD, "$2b$04$" + "." * 53)
@example(GOOD, "$2b$31$" + "." * 53)
def test_no_hash_raises_costs_days_or_takes_another_password(text: str, hash_: str) -> None:
    asked: list[int] = []

    def counted(secret: bytes, of: bytes) -> bool:
        asked.append(int(of[4:6]))
        # The cost that the hash claims is looked at, and is not paid here.
        return bcrypt.hashpw(secret, of[:4] + b"04" + of[6:29]) == of[:4] + b"04" + of[6:]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bcrypt, "checkpw", counted)
        taken = hashing.check(text, hash_)
    assert all(4 <= cost <= hashing.MAXIMUM_COST for cost in asked)
    assert not taken or text == GOOD


TIME = datetime(2027, 3, 1, 12, tzinfo=UTC)
ENDS = st.none() | st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)).map(
    lambda time: time.replace(microsecond=0, tzinfo=UTC)
)
SLOTS = st.builds(
    Slot,
    id=WILD,
    nonce=WILD,
    seed=WILD,
    hash=st.just(HASH),
    created_at=st.just(TIME),
    expires_at=ENDS,
    valid_until=ENDS,
    requests=st.builds(Requests, WILD, WILD),
)
RECORDS = st.builds(
    Record,
    token_uid=WILD,
    namespace=WILD,
    name=WILD,
    slots=st.dictionaries(st.sampled_from(["password1", "password2"]), SLOTS),
)


@FUZZ
@given(RECORDS)
def test_a_record_that_was_written_is_read_again(record: Record) -> None:
    assert Record.from_secret(record.to_secret("credentials")) == record


CONTENT: dict[str, Any] = {
    "tokenUid": "uid-1",
    "namespace": "web",
    "name": "reader",
    "published": "password1",
    "slots": {
        "password1": {
            "id": "aaaaaa",
            "nonce": "hush-nonce",
            "seed": "seed",
            "hash": HASH,
            "createdAt": "2027-03-01T12:00:00Z",
            "expiresAt": "2027-04-01T12:00:00Z",
        }
    },
}


def secret(data: Any) -> dict[str, Any]:
    return {"metadata": {"name": "rt-uid-1"}, "data": data}


def encoded(content: Any) -> str:
    return base64.b64encode(json.dumps(content).encode(errors="surrogatepass")).decode()


SECRETS = (
    spoilt(CONTENT, changes=3).map(lambda content: secret({"record.json": encoded(content)}))
    | HOSTILE.map(lambda content: secret({"record.json": encoded(content)}))
    | HOSTILE.map(lambda data: secret({"record.json": data}))
    | HOSTILE.map(secret)
    | st.binary(max_size=40).map(lambda raw: secret({"record.json": base64.b64encode(raw).decode()}))
    | WILD.map(lambda text: secret({"record.json": text}))
    | spoilt(secret({"record.json": encoded(CONTENT)}))
)


def tells_nothing(error: ValueError) -> None:
    assert re.fullmatch(r"[a-zA-Z ]+", str(error))
    assert error.__cause__ is None


@FUZZ
@given(SECRETS)
@example(secret({"record.json": base64.b64encode(b'{"slots":' + b"9" * 5000 + b"}").decode()}))
def test_a_hostile_secret_is_a_record_or_a_value_error_without_its_content(hostile: dict[str, Any]) -> None:
    try:
        record = Record.from_secret(hostile)
    except ValueError as error:
        tells_nothing(error)
        return
    assert record.published is None or record.published in record.slots
    for slot in record.slots.values():
        assert slot.ends_at is None or slot.ends_at.tzinfo is not None
        assert slot.valid_at(TIME) == (slot.ends_at is None or slot.ends_at > TIME)
    assert "hush-nonce" not in repr(record)
    assert HASH not in repr(record)


def test_a_record_nested_beyond_all_depth_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="no readable credential record"):
        Record.from_secret(secret({"record.json": base64.b64encode(b"[" * 20_000).decode()}))
