"""The ledger knows a rotation from a password that was made in vain."""

from datetime import UTC, datetime, timedelta
from typing import Any, cast

from pullpass.api.registrytoken import SlotName
from pullpass.credentials.record import Record, Slot
from tests.chaos.api import Api
from tests.chaos.ledger import Ledger

NOW = datetime(2030, 1, 1, tzinfo=UTC)


def secret(published: SlotName | None, *, uid: str = "uid", **slots: str) -> dict[str, Any]:
    """A record with these ids, by slot."""
    made: dict[SlotName, Slot] = {
        cast(SlotName, name): Slot(id_, "nonce", "seed", "hash", NOW, expires_at=NOW + timedelta(minutes=1))
        for name, id_ in slots.items()
    }
    return Record(uid, "team", "reader", made, published).to_secret("credentials")


def entered(*secrets: dict[str, Any]) -> Ledger:
    ledger = Ledger(cast(Api, None))
    for one in secrets:
        ledger.enter(one)
    return ledger


FIRST = (secret(None, password1="a"), secret("password1", password1="a"))


def test_the_first_password_is_no_rotation() -> None:
    ledger = entered(*FIRST)
    assert ledger.rotations == 0
    assert ledger.wasted() == []
    assert ledger.accounts["team/reader"].published == ["a"]
    assert ledger.accounts["team/reader"].expires_at == NOW + timedelta(minutes=1)


def test_a_whole_rotation() -> None:
    pending = secret("password1", password1="a", password2="b")
    assert entered(*FIRST, pending).pending() == ["team/reader"]
    done = secret("password2", password1="a", password2="b")
    ledger = entered(*FIRST, pending, done, done, secret("password2", password2="b"))
    assert ledger.rotations == 1
    assert ledger.pending() == []
    assert ledger.wasted() == []


def test_a_second_password_for_one_rotation_is_found() -> None:
    ledger = entered(
        *FIRST,
        secret("password1", password1="a", password2="b"),
        secret("password1", password1="a", password2="c"),
        secret("password2", password1="a", password2="c"),
    )
    assert ledger.wasted() == ["team/reader: b"]


def test_what_was_missed_in_between_is_no_waste_while_it_can_be_seen() -> None:
    ledger = entered(*FIRST, secret("password2", password1="a", password2="b"))
    assert ledger.rotations == 1
    assert ledger.wasted() == []


def test_a_token_made_anew_begins_anew() -> None:
    ledger = entered(*FIRST, secret(None, uid="other", password1="z"))
    assert ledger.wasted() == []
    assert ledger.accounts["team/reader"].made == ["z"]
