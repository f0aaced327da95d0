"""The plan for one place of a token: a table of every branch, from facts, what is in there, and clock."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pullpass.controller.places.plan import (
    AT_ONCE,
    AddEntry,
    DeletePullSecret,
    PlacePlan,
    RemoveEntry,
    WritePullSecret,
    entries_last,
    items,
    plan_leftovers,
    turns,
)
from pullpass.controller.places.repairs import Item, Wait
from pullpass.credentials.record import Requests
from tests.unit.controller.cases import (
    DEAD,
    DEFAULT,
    ELSEWHERE,
    EMPTY,
    ENTRY,
    EVERY,
    FRESH,
    NAMESPACE,
    NEW,
    NONE,
    NOW,
    OTHERS,
    PENDING,
    REMOVE,
    REVOKE,
    REVOKED,
    REVOKED_FOR_GOOD,
    ROTATING,
    SECRET,
    SETTLED,
    Case,
    H,
    account,
    place,
    secret,
    wanted,
)

WRITE = WritePullSecret(wanted(), "password1", FRESH.id)
WRITE_NEW = WritePullSecret(wanted(), "password2", NEW.id)
ADD = AddEntry(account(), "reader-pull")
TWO_ENTRIES = replace(account(entry=True), ours={"reader-pull": "uid-1", "old": "uid-1"})
ELSEWHERE_ITEM = Item("uid-1", "web", "reader-pull", removal=True)


@dataclass
class Row(Case):
    """A case with one place, and its plan."""

    plan: PlacePlan = field(default_factory=PlacePlan)


def row(*actions: Any, spec: dict[str, Any] | None = None, **more: Any) -> Row:
    of_plan = {key: more.pop(key) for key in ("missed", "contested", "repair") if key in more}
    if "at" in more:
        more["places"] = (more.pop("at"),)
    return Row(spec=spec or {}, plan=PlacePlan(tuple(actions), **of_plan), **more)


BARE = place()
THERE = place(there=secret())
WITH_ENTRY = place(there=secret(), accounts=[account(entry=True)])

CASES: dict[str, Row] = {
    "settled": row(),
    "deleting": row(deleting=True, at=BARE),
    "spec unreadable": row(readable=False, at=BARE),
    # no access: what is there stays, and nothing is made or repaired
    "disabled": row(spec={"enabled": False}, at=BARE),
    "disabled, entry missing": row(spec={"enabled": False} | DEFAULT, at=place(accounts=[account()])),
    "disabled, place named no more": row(
        DeletePullSecret(secret()), spec={"enabled": False}, at=place(there=secret(), named=False)
    ),
    "scope map missing": row(scope_map="missing", at=BARE),
    "not allowed": row(scope_map=NONE, at=BARE),
    "registry not known": row(scope_map=ELSEWHERE, at=BARE),
    # the pull secret
    "nothing yet": row(record=EMPTY, at=BARE),
    "pending": row(record=PENDING, at=BARE),
    "pending, confirmed": row(WRITE, record=PENDING, at=BARE, confirmed=FRESH.id),
    "pending, another one is confirmed": row(record=PENDING, at=BARE, confirmed="0b7aa2"),
    "new one, not confirmed": row(record=ROTATING, at=THERE),
    "new one, not confirmed: the old one is repaired": row(WRITE, record=ROTATING, at=BARE),
    "new one, not confirmed, but there": row(record=ROTATING, at=place(there=secret(digest="digest-2"))),
    "new one, confirmed": row(WRITE_NEW, record=ROTATING, at=THERE, confirmed=NEW.id),
    "new one, confirmed and there": row(record=ROTATING, at=place(there=secret(digest="digest-2")), confirmed=NEW.id),
    "new one, confirmed: before entries where a Secret is there": row(
        WRITE_NEW, ADD, spec=DEFAULT, record=ROTATING, at=place(there=secret(), accounts=[account()]), confirmed=NEW.id
    ),
    "new one, confirmed: after entries where none is": row(
        ADD, WRITE_NEW, spec=DEFAULT, record=ROTATING, at=place(accounts=[account()]), confirmed=NEW.id
    ),
    "another is to be made": row(WRITE, at=BARE, requests=Requests(rotate="now")),
    "Secret gone": row(WRITE, at=BARE),
    "Secret differs": row(WRITE, at=place(there=secret(digest="other"))),
    "Secret of a predecessor": row(WRITE, at=place(there=secret(uid="uid-0"))),
    "Secret without hosts": row(WRITE, at=place(there=secret(digest="spoilt", hosts=""))),
    "Secret gone, password not derivable": row(at=BARE, digests={}),
    "Secret gone, password has ended": row(record=DEAD, at=BARE),
    "Secret gone, password is revoked": row(spec=REVOKED, at=BARE),
    "Secret for the hosts of another registry": row(scope_map=OTHERS, digests={"password1": "digest-3"}),
    "Secret for the hosts of another registry, confirmed there": row(
        WRITE, scope_map=OTHERS, digests={"password1": "digest-3"}, confirmed=FRESH.id
    ),
    # namespaces
    "place named no more": row(DeletePullSecret(secret()), at=place(there=secret(), named=False)),
    "a Secret of an old name": row(
        DeletePullSecret(secret(name="old-pull")), at=place(there=secret(), others=[secret(name="old-pull")])
    ),
    "namespace unknown": row(at=place(seen=None)),
    "no consent": row(at=place(consents=False)),
    "consent withdrawn": row(
        RemoveEntry(account(entry=True)),
        DeletePullSecret(secret()),
        spec=DEFAULT,
        at=place(there=secret(), accounts=[account(entry=True)], consents=False),
    ),
    "namespace terminating": row(at=place(seen=replace(NAMESPACE, terminating=True))),
    # entries
    "entry missing": row(ADD, spec=DEFAULT, at=place(there=secret(), accounts=[account()])),
    "entry there": row(spec=DEFAULT, at=WITH_ENTRY),
    "entry there, not ours": row(
        spec=DEFAULT, at=place(there=secret(), accounts=[replace(account(entry=True), ours={})])
    ),
    "entry missing in an account that is not named": row(
        spec=DEFAULT, at=place(there=secret(), accounts=[account(name="builder")])
    ),
    "all accounts": row(
        AddEntry(account(name="builder"), "reader-pull"),
        ADD,
        spec=EVERY,
        at=place(there=secret(), accounts=[account(), account(name="builder")]),
    ),
    "entries come before there is a password": row(ADD, spec=DEFAULT, record=EMPTY, at=place(accounts=[account()])),
    "account named no more": row(RemoveEntry(account(entry=True)), at=WITH_ENTRY),
    "account in a place named no more": row(
        RemoveEntry(account(entry=True)), spec=DEFAULT, at=place(accounts=[account(entry=True)], named=False)
    ),
    "another token's entry": row(
        at=place(there=secret(), accounts=[replace(account(), ours={"other": "uid-2"}, pull_secrets=("other",))])
    ),
    "an entry of ours too many": row(
        RemoveEntry(TWO_ENTRIES, "reader-pull"), spec=DEFAULT, at=place(there=secret(), accounts=[TWO_ENTRIES])
    ),
    # repairs that must wait
    "entry missing, must wait": row(
        spec=DEFAULT,
        at=place(there=secret(), accounts=[account(), account(name="builder")]),
        waits={ENTRY: Wait(NOW + H)},
        missed=frozenset({ENTRY}),
        contested=frozenset({ENTRY}),
        repair=NOW + H,
    ),
    "Secret differs, must wait": row(
        at=place(there=secret(digest="other")),
        waits={SECRET: Wait(NOW + H, FRESH.id)},
        missed=frozenset({SECRET}),
        contested=frozenset({SECRET}),
        repair=NOW + H,
    ),
    "Secret differs, another password waits": row(
        WRITE, at=place(there=secret(digest="other")), waits={SECRET: Wait(NOW + H, "0b7aa2")}
    ),
    "entries wait, a new password does not": row(
        WRITE_NEW,
        spec=DEFAULT,
        record=ROTATING,
        at=place(there=secret(), accounts=[account()]),
        confirmed=NEW.id,
        waits={ENTRY: Wait(NOW + H), SECRET: Wait(NOW + H, FRESH.id)},
        missed=frozenset({ENTRY}),
        contested=frozenset({ENTRY}),
        repair=NOW + H,
    ),
    "entry put back just now": row(
        spec=DEFAULT,
        at=WITH_ENTRY,
        waits={ENTRY: Wait(NOW + H, lasting=True)},
        contested=frozenset({ENTRY}),
        repair=NOW + H,
    ),
    "entry put back just now, no access any more": row(
        spec=DEFAULT, scope_map=ELSEWHERE, at=WITH_ENTRY, waits={ENTRY: Wait(NOW + H, lasting=True)}
    ),
    "entry put back just now, access has ended": row(
        spec=DEFAULT | REVOKE, record=DEAD, at=WITH_ENTRY, waits={ENTRY: Wait(NOW + H, lasting=True)}
    ),
    "entry put back by somebody else": row(spec=DEFAULT, at=WITH_ENTRY, waits={ENTRY: Wait(NOW + H)}),
    "a copy of the Secret must wait": row(
        at=place(there=secret(), named=False),
        waits={ELSEWHERE_ITEM: Wait(NOW + H)},
        missed=frozenset({ELSEWHERE_ITEM}),
        repair=NOW + H,
    ),
    "the first of several may be repaired": row(
        spec=DEFAULT,
        at=place(there=secret(digest="other"), accounts=[account()]),
        waits={ENTRY: Wait(NOW + H), SECRET: Wait(NOW + 2 * H, FRESH.id)},
        missed=frozenset({ENTRY, SECRET}),
        contested=frozenset({ENTRY, SECRET}),
        repair=NOW + H,
    ),
    # the end
    "token ended": row(spec={"expiresAt": NOW}),
    "token ended: a Secret that is gone stays gone": row(spec={"expiresAt": NOW}, at=BARE),
    "token ended, Remove": row(DeletePullSecret(secret()), spec={"expiresAt": NOW} | REMOVE),
    "password ended": row(spec=REVOKE, record=DEAD, at=BARE),
    "password ended, Remove": row(DeletePullSecret(secret()), spec=REVOKE | REMOVE, record=DEAD),
    "revoked for good": row(spec=REVOKED_FOR_GOOD, at=BARE),
    "revoked for good, Remove": row(DeletePullSecret(secret()), spec=REVOKED_FOR_GOOD | REMOVE),
}


@pytest.mark.parametrize("name", CASES)
def test_plan(name: str) -> None:
    case = CASES[name]
    (one,) = case.places
    assert case.plan_of(one) == case.plan


@pytest.mark.parametrize("name", CASES)
def test_a_password_is_written_only_where_it_is_confirmed_or_published(name: str) -> None:
    case = CASES[name]
    facts = case.facts()
    for action in case.plan_of(case.places[0]).actions:
        if isinstance(action, WritePullSecret):
            assert action.slot == facts.record.published or facts.confirmed(action.slot)
            assert action.password_id == facts.record.slots[action.slot].id


@pytest.mark.parametrize("name", ["disabled", "scope map missing", "not allowed", "deleting", "spec unreadable"])
def test_without_access_nothing_is_written(name: str) -> None:
    for record in (EMPTY, PENDING, SETTLED, DEAD, ROTATING):
        case = replace(CASES[name], record=record, requests=Requests("now", "now"), confirmed=FRESH.id)
        actions = case.plan_of(case.places[0]).actions
        assert all(isinstance(action, RemoveEntry | DeletePullSecret) for action in actions)


def test_what_a_token_has_left_goes_and_what_is_retained_stays() -> None:
    retained = replace(secret(), retained=True)
    left = replace(place(there=secret(), accounts=[account(entry=True)], named=False), wanted=None)
    assert plan_leftovers(left, {}) == PlacePlan((DeletePullSecret(secret()), RemoveEntry(account(entry=True))))
    assert plan_leftovers(replace(left, secrets=(retained,), entries=()), {}) == PlacePlan()
    waits = {ELSEWHERE_ITEM: Wait(NOW + H)}
    assert plan_leftovers(left, waits) == PlacePlan(
        (RemoveEntry(account(entry=True)),), missed=frozenset({ELSEWHERE_ITEM}), repair=NOW + H
    )


def test_a_pass_does_no_more_than_its_share_and_the_pull_secret_always_has_its_turn() -> None:
    entries = [AddEntry(account(name=f"builder-{number}"), "reader-pull") for number in range(AT_ONCE + 1)]
    now, later = turns(place(), [*entries, WRITE], set())
    assert list(now) == [*entries[: AT_ONCE - 1], WRITE]
    assert list(later) == entries[AT_ONCE - 1 :]
    now, later = turns(place(), [WRITE, *entries], set())
    assert list(now) == [WRITE, *entries[: AT_ONCE - 1]]


def test_what_failed_is_tried_last() -> None:
    one, two = AddEntry(account(name="a"), "reader-pull"), AddEntry(account(name="b"), "reader-pull")
    copy = DeletePullSecret(secret(name="copy"))
    failed = {item for action in (one, copy, WRITE) for item in items(place(), action)}
    assert list(turns(place(), [copy, one, two, WRITE], failed)[0]) == [two, WRITE, copy, one]
    assert list(turns(place(), [one, two, WRITE], set())[0]) == [one, two, WRITE]
    assert list(entries_last([one, WRITE, two])) == [WRITE, one, two]


def test_what_failed_leaves_a_pass_to_those_that_had_no_turn() -> None:
    entries = [AddEntry(account(name=f"builder-{number}"), "reader-pull") for number in range(AT_ONCE + 10)]
    first, _ = turns(place(), entries, set())
    second, _ = turns(place(), entries, {item for action in first for item in items(place(), action)})
    assert list(second)[:10] == entries[AT_ONCE:]
