"""The credential record: it comes back as it was written, and what is no record says nothing of its content."""

import base64
import json
import traceback
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.api.registrytoken import SLOTS
from pullpass.credentials.record import DATA_KEY, Record, Requests, Slot

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
SLOT = Slot("4f9c1e", "the-nonce", "seed-id", "the-hash", NOW)

times = st.datetimes(datetime(2000, 1, 1), datetime(2999, 1, 1)).map(lambda t: t.replace(microsecond=0, tzinfo=UTC))
texts = st.text(max_size=20)
requests = st.builds(Requests, texts, texts)
slots = st.builds(Slot, texts, texts, texts, texts, times, st.none() | times, st.none() | times, requests)
records = st.builds(
    Record, texts, texts, texts, st.dictionaries(st.sampled_from(SLOTS), slots), st.none() | st.sampled_from(SLOTS)
)


def holding(content: Any) -> dict[str, Any]:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return {"data": {DATA_KEY: base64.b64encode(text).decode()}}


def written(record: Record) -> Any:
    return json.loads(base64.b64decode(record.to_secret("credentials")["data"][DATA_KEY]))


@given(records)
def test_a_record_comes_back_as_it_was_written(record: Record) -> None:
    expected = record if record.published in record.slots else replace(record, published=None)
    assert Record.from_secret(record.to_secret("credentials")) == expected


@given(records)
def test_writing_is_the_same_every_time(record: Record) -> None:
    turned = replace(record, slots={name: record.slots[name] for name in reversed(list(record.slots))})
    assert record.to_secret("credentials") == turned.to_secret("credentials")


def test_the_secret_is_named_and_labelled_by_the_uid() -> None:
    secret = Record("uid-1", "web", "reader").to_secret("credentials")
    assert secret["metadata"] == {
        "name": "rt-uid-1",
        "namespace": "credentials",
        "labels": {
            "app.kubernetes.io/managed-by": "pullpass",
            "pullpass.dev/component": "credential-record",
            "pullpass.dev/token-uid": "uid-1",
        },
        "annotations": {"pullpass.dev/token": "web/reader"},
    }
    assert secret["type"] == "pullpass.dev/credential-record"


GOOD = written(Record("uid-1", "web", "reader", {"password1": SLOT}, "password1"))


@pytest.mark.parametrize(
    "secret",
    [
        {},
        {"data": None},
        {"data": {}},
        {"data": {DATA_KEY: None}},
        {"data": {DATA_KEY: "no base64: shibboleth"}},
        {"data": {DATA_KEY: "c2hpYmJvbGV0a"}},
        holding(b"shibboleth"),
        holding(b"\xff\xfeshibboleth"),
        holding(None),
        holding(["shibboleth"]),
        holding("shibboleth"),
        holding({**GOOD, "slots": ["shibboleth"]} | {"slots": None}),
        holding({**GOOD, "slots": {"password1": "shibboleth"}}),
        holding({**GOOD, "slots": {"password1": {**GOOD["slots"]["password1"], "createdAt": "shibboleth"}}}),
        holding({**GOOD, "slots": {"password1": {**GOOD["slots"]["password1"], "expiresAt": ["shibboleth"]}}}),
        *(holding({k: v for k, v in GOOD.items() if k != key}) for key in ("tokenUid", "namespace", "name", "slots")),
        *(
            holding({**GOOD, "slots": {"password1": {k: v for k, v in GOOD["slots"]["password1"].items() if k != key}}})
            for key in ("id", "nonce", "seed", "hash", "createdAt")
        ),
        holding({**GOOD, "published": ["shibboleth"]}),
        holding({**GOOD, "published": {"shibboleth": 1}}),
    ],
)
def test_garbage_is_a_value_error_that_quotes_nothing(secret: dict[str, Any]) -> None:
    with pytest.raises(ValueError) as caught:
        Record.from_secret(secret)
    told = "".join(traceback.format_exception(caught.value))
    for word in ("shibboleth", "the-nonce", "the-hash", "c2hpYm"):
        assert word not in told


@given(st.binary(max_size=60))
def test_bytes_of_any_kind_raise_nothing_else(content: bytes) -> None:
    with pytest.raises(ValueError, match="no readable credential record"):
        Record.from_secret(holding(content))


@pytest.mark.parametrize("published", [None, "password2", "password3", 7])
def test_published_names_a_slot_or_nothing(published: object) -> None:
    assert Record.from_secret(holding({**GOOD, "published": published})).published is None


def test_a_slot_that_nothing_was_asked_for_says_nothing_of_it() -> None:
    assert not {"rotateRequest", "regenerateRequest"} & set(GOOD["slots"]["password1"])
    assert Record.from_secret(holding(GOOD)).slots["password1"].requests == Requests()


@pytest.mark.parametrize(
    ("annotations", "asked"),
    [
        ({}, Requests()),
        ({"pullpass.dev/rotate-requested-at": "2027-03-01T12:00:00Z"}, Requests(rotate="2027-03-01T12:00:00Z")),
        ({"pullpass.dev/regenerate-requested-at": "leak"}, Requests(regenerate="leak")),
        ({"pullpass.dev/rotate-requested-at": "", "example.com/rotate-requested-at": "x"}, Requests()),
        ({"pullpass.dev/rotate-requested-at": "ä" * 64}, Requests(rotate="ä" * 64)),
        (
            {"pullpass.dev/rotate-requested-at": "a" * 65, "pullpass.dev/regenerate-requested-at": "b" * 9999},
            Requests("a" * 64, "b" * 64),
        ),
    ],
)
def test_requests_are_read_from_the_annotations_and_cut(annotations: dict[str, str], asked: Requests) -> None:
    assert Requests.read(annotations) == asked


@given(requests, requests)
def test_what_is_open_is_what_differs_and_is_given(asked: Requests, handled: Requests) -> None:
    opened = asked.beyond(handled)
    assert opened.rotate == ("" if asked.rotate == handled.rotate else asked.rotate)
    assert opened.regenerate == ("" if asked.regenerate == handled.regenerate else asked.regenerate)
    assert asked.beyond(asked.or_else(handled)) == Requests()


def test_slots_of_other_names_are_ignored() -> None:
    content = {**GOOD, "slots": {**GOOD["slots"], "password3": "what a later version may write"}}
    assert set(Record.from_secret(holding(content)).slots) == {"password1"}


@pytest.mark.parametrize(
    ("expires", "until", "ends"),
    [
        (None, None, None),
        (NOW, None, NOW),
        (None, NOW, NOW),
        (NOW, NOW + HOUR, NOW),
        (NOW + HOUR, NOW, NOW),
    ],
)
def test_a_slot_ends_at_the_earlier_end(expires: datetime | None, until: datetime | None, ends: datetime) -> None:
    slot = replace(SLOT, expires_at=expires, valid_until=until)
    assert slot.ends_at == ends
    assert slot.valid_at(NOW - timedelta(seconds=1))
    assert slot.valid_at(NOW) is (ends is None)


@pytest.mark.parametrize(
    ("record", "pending"),
    [
        (Record("u", "n", "t"), None),
        (Record("u", "n", "t", {"password1": SLOT}), "password1"),
        (Record("u", "n", "t", {"password1": SLOT}, "password1"), None),
        (Record("u", "n", "t", {"password1": SLOT, "password2": SLOT}, "password1"), "password2"),
        (Record("u", "n", "t", {"password1": SLOT, "password2": replace(SLOT, valid_until=NOW)}, "password1"), None),
    ],
)
def test_a_slot_that_is_neither_published_nor_replaced_is_pending(record: Record, pending: str | None) -> None:
    assert record.pending == pending


def test_slots_are_set_and_emptied_without_touching_the_record() -> None:
    record = Record("u", "n", "t")
    fuller = record.with_slot("password2", SLOT)
    assert (record.slots, fuller.slots, fuller.without_slot("password2").slots) == ({}, {"password2": SLOT}, {})


def test_the_repr_hides_hash_and_nonce() -> None:
    text = repr(Record("u", "n", "t", {"password1": SLOT}))
    assert "the-hash" not in text
    assert "the-nonce" not in text
