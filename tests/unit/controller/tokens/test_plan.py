"""The decision for one token: a table of every branch, from facts and clock to a plan."""

from dataclasses import replace
from typing import Any

import pytest

from pullpass.controller.places.repairs import Backoff, ManagedItem
from pullpass.controller.tokens.plan import (
    Action,
    AddEntry,
    AwaitAcceptance,
    DeletePullSecret,
    MakePassword,
    MarkPublished,
    Plan,
    RemoveEntry,
    WritePullSecret,
    WriteRecord,
    decide,
)
from pullpass.credentials.record import Requests
from tests.unit.controller.tokens.facts import (
    BARE,
    DEAD,
    DEFAULT,
    ELSEWHERE,
    EMPTY,
    ENTRY,
    EVERY,
    FRESH,
    NAMESPACE,
    NONE,
    NOW,
    OTHERS,
    PENDING,
    REMOVE,
    REVOKE,
    REVOKED,
    REVOKED_FOR_GOOD,
    SECRET,
    SETTLED,
    TEAM,
    Case,
    H,
    account,
    plan,
    secret,
    target,
    wanted,
)

WRITE, FAR_WRITE = WritePullSecret(wanted(), "password1"), WritePullSecret(wanted("staging"), "password1")
STALE = DeletePullSecret(secret("staging"))
RETIRING = SETTLED.with_slot("password2", replace(FRESH, id="0b7aa2", valid_until=NOW + H / 2))
TWO_ENTRIES = replace(account(entry=True), ours={"reader-pull": "uid-1", "old": "uid-1"})


COPY = ManagedItem("uid-1", "staging", "reader-pull", removal=True)


def settled(*actions: Action, **more: Any) -> Plan:
    return Plan(actions, due=NOW + H, transition="Rotate", **more)


LAST = NOW + 2 * H
"""The end of the password in use, of which the status has to tell also where nothing is to be done."""


CASES: dict[str, Case] = {
    "settled": Case(settled()),
    "deleting": Case(plan(), deleting=True, targets=BARE),
    "spec unreadable": Case(plan(), readable=False, targets=BARE),
    # no access: nothing is made, and what is there stays
    "disabled": Case(plan(due=LAST), {"enabled": False}),
    "disabled with nothing made": Case(plan(), {"enabled": False}, record=EMPTY, targets=BARE, secrets=()),
    "disabled, ends later": Case(plan(due=NOW + H), {"enabled": False, "expiresAt": NOW + H}),
    "disabled, ended": Case(plan(due=LAST), {"enabled": False, "expiresAt": NOW - H}),
    "disabled, stale place": Case(plan(STALE, due=LAST), {"enabled": False}, secrets=(secret(), secret("staging"))),
    "scope map missing": Case(plan(due=LAST), scope_map="missing", record=PENDING),
    "scope map invalid": Case(plan(due=LAST), scope_map="invalid", record=PENDING),
    "not allowed": Case(plan(), scope_map=NONE, record=DEAD),
    "registry not known": Case(plan(), scope_map=ELSEWHERE, record=DEAD),
    "registry not known: nothing is repaired": Case(
        plan(due=LAST), scope_map=ELSEWHERE, targets=BARE, digests={}, requests=Requests("now", "now")
    ),
    "allowed by label": Case(settled(), scope_map=TEAM, namespace=replace(NAMESPACE, labels={"team": "web"})),
    "not allowed by label": Case(plan(due=LAST), scope_map=TEAM),
    "own namespace unknown": Case(plan(), namespace=None, record=EMPTY),
    # the rotation
    "nothing yet": Case(
        plan(MakePassword("password1"), again=True), record=EMPTY, targets=BARE, secrets=(), digests={}
    ),
    "nothing yet: entries come first": Case(
        plan(AddEntry(account(), "reader-pull"), MakePassword("password1"), again=True),
        DEFAULT,
        record=EMPTY,
        targets=(target(accounts=(account(),)),),
        secrets=(),
        digests={},
    ),
    "pending": Case(
        plan(AwaitAcceptance("password1"), WRITE, MarkPublished("password1"), again=True),
        record=PENDING,
        targets=BARE,
        secrets=(),
    ),
    "pending, written in one place": Case(
        plan(AwaitAcceptance("password1"), FAR_WRITE, MarkPublished("password1"), again=True),
        record=PENDING,
        targets=(target(there=secret()), target("staging")),
    ),
    "pending, written everywhere": Case(
        plan(AwaitAcceptance("password1"), MarkPublished("password1"), again=True), record=PENDING
    ),
    "pending: entries before Secrets": Case(
        plan(
            AddEntry(account(), "reader-pull"),
            AwaitAcceptance("password1"),
            WRITE,
            MarkPublished("password1"),
            again=True,
        ),
        DEFAULT,
        record=PENDING,
        targets=(target(accounts=(account(),)),),
        secrets=(),
    ),
    "rotates": Case(plan(MakePassword("password2"), again=True), {"passwords": {"lifetime": "1h"}}),
    "another seed": Case(plan(MakePassword("password2"), again=True), seed="another", digests={}),
    "dates differ": Case(
        plan(
            WriteRecord(SETTLED.with_slot("password1", replace(FRESH, expires_at=NOW + 5 * H))),
            again=True,
        ),
        {"passwords": {"lifetime": "6h"}},
    ),
    # by hand
    "rotate": Case(plan(MakePassword("password2"), again=True), requests=Requests(rotate="now")),
    "rotate waits for the overlap": Case(
        plan(due=NOW + H / 2, transition="Rotate"), record=RETIRING, requests=Requests(rotate="now")
    ),
    "regenerate waits for nothing": Case(
        plan(MakePassword("password2"), again=True), record=RETIRING, requests=Requests(regenerate="now")
    ),
    "disabled: a request waits": Case(plan(due=LAST), {"enabled": False}, requests=Requests("now", "now")),
    "not allowed: a request waits": Case(plan(due=LAST), scope_map=NONE, requests=Requests("now", "now")),
    "token ended: a request does nothing": Case(
        plan(ended="token", due=LAST), {"expiresAt": NOW}, requests=Requests("now", "now")
    ),
    "password ended: another is asked for": Case(
        plan(MakePassword("password1"), again=True), REVOKE, record=DEAD, requests=Requests(rotate="now")
    ),
    "revoked": Case(plan(MakePassword("password1"), again=True), REVOKED),
    "revoked and disabled": Case(plan(due=LAST), REVOKED | {"enabled": False}),
    "retiring one revoked": Case(
        plan(WriteRecord(SETTLED), again=True),
        {"passwords": {"lifetime": "3h", "revoked": ["0b7aa2"]}},
        record=RETIRING,
    ),
    "revoked for good": Case(plan(ended="revoked", due=LAST), REVOKED_FOR_GOOD),
    "revoked for good, Remove": Case(
        plan(DeletePullSecret(secret()), ended="revoked", due=LAST), REVOKED_FOR_GOOD | REMOVE
    ),
    "revoked for good, the other one retires on": Case(
        plan(ended="revoked", due=NOW + H / 2, transition="Retire"), REVOKED_FOR_GOOD, record=RETIRING
    ),
    # repairs
    "Secret gone": Case(settled(WRITE), targets=BARE, secrets=()),
    "Secret differs": Case(settled(WRITE), targets=(target(there=secret(digest="other")),)),
    "Secret of a predecessor": Case(settled(WRITE), targets=(target(there=secret(uid="uid-0")),), secrets=()),
    "new place": Case(settled(FAR_WRITE), targets=(target(there=secret()), target("staging"))),
    "Secret for the hosts of another registry": Case(
        settled(AwaitAcceptance("password1"), WRITE),
        scope_map=OTHERS,
        digests={"password1": "digest-2"},
    ),
    "Secret with other content": Case(settled(WRITE), targets=(target(there=secret(digest="spoilt")),)),
    "Secret without hosts": Case(settled(WRITE), targets=(target(there=secret(digest="spoilt", hosts="")),)),
    "Secret gone, password not derivable": Case(settled(), targets=BARE, secrets=(), digests={}),
    "foreign Secret is seen as none": Case(settled(WRITE), targets=BARE, secrets=()),
    # places
    "stale place": Case(settled(STALE), secrets=(secret(), secret("staging"))),
    "stale name": Case(settled(DeletePullSecret(secret(name="old-pull"))), secrets=(secret(name="old-pull"), secret())),
    "namespace unknown": Case(settled(), targets=(target(there=secret()), target("staging", seen=None))),
    "no consent": Case(settled(), targets=(target(there=secret()), target("staging", consents=False))),
    "consent withdrawn": Case(
        settled(RemoveEntry(account("staging", entry=True), None), STALE),
        DEFAULT,
        targets=(
            target(there=secret(), accounts=(account(entry=True),)),
            target("staging", secret("staging"), (account("staging", entry=True),), consents=False),
        ),
        secrets=(secret(), secret("staging")),
        entries=(account("staging", entry=True), account(entry=True)),
    ),
    "namespace terminating": Case(
        settled(),
        targets=(target(there=secret()), target("staging", seen=replace(NAMESPACE, terminating=True))),
    ),
    # ServiceAccounts
    "entry missing": Case(
        settled(AddEntry(account(), "reader-pull")), DEFAULT, targets=(target(there=secret(), accounts=(account(),)),)
    ),
    "entry there": Case(
        settled(),
        DEFAULT,
        targets=(target(there=secret(), accounts=(account(entry=True),)),),
        entries=(account(entry=True),),
    ),
    "entry there, not ours": Case(
        settled(),
        DEFAULT,
        targets=(target(there=secret(), accounts=(replace(account(entry=True), ours={}),)),),
    ),
    "entry of nobody's account": Case(
        settled(), DEFAULT, targets=(target(there=secret(), accounts=(account(name="builder"),)),)
    ),
    "all accounts": Case(
        settled(
            AddEntry(account(name="builder"), "reader-pull"),
            AddEntry(account(), "reader-pull"),
        ),
        EVERY,
        targets=(target(there=secret(), accounts=(account(), account(name="builder"))),),
    ),
    "all accounts, entries there": Case(
        settled(),
        EVERY,
        targets=(target(there=secret(), accounts=(account(entry=True),)),),
        entries=(account(entry=True),),
    ),
    "account named no more": Case(settled(RemoveEntry(account(entry=True), None)), entries=(account(entry=True),)),
    "account in a place named no more": Case(
        settled(RemoveEntry(account("staging", entry=True), None)),
        DEFAULT,
        entries=(account("staging", entry=True),),
    ),
    "another token's entry": Case(
        settled(), entries=(replace(account(), ours={"other": "uid-2"}, pull_secrets=("other",)),)
    ),
    "an entry of ours too many": Case(
        settled(
            RemoveEntry(replace(account(entry=True), ours={"reader-pull": "uid-1", "old": "uid-1"}), "reader-pull")
        ),
        DEFAULT,
        targets=(target(there=secret(), accounts=(account(entry=True),)),),
        entries=(TWO_ENTRIES,),
    ),
    # repairs that must wait
    "entry missing, must wait": Case(
        settled(missed=frozenset({ENTRY}), contested=frozenset({ENTRY}), repair=NOW + H),
        DEFAULT,
        targets=(target(there=secret(), accounts=(account(), account(name="builder"))),),
        holds={ENTRY: Backoff(NOW + H)},
    ),
    "Secret differs, must wait": Case(
        settled(missed=frozenset({SECRET}), contested=frozenset({SECRET}), repair=NOW + H),
        targets=(target(there=secret(digest="other")),),
        holds={SECRET: Backoff(NOW + H, FRESH.id)},
    ),
    "Secret differs, another password waits": Case(
        settled(WRITE), targets=(target(there=secret(digest="other")),), holds={SECRET: Backoff(NOW + H, "0b7aa2")}
    ),
    "pending: entries wait, the new password does not": Case(
        plan(AwaitAcceptance("password1"), WRITE, MarkPublished("password1"), again=True),
        DEFAULT,
        record=PENDING,
        targets=(target(accounts=(account(),)),),
        secrets=(),
        holds={ENTRY: Backoff(NOW + H), SECRET: Backoff(NOW + H, "0b7aa2")},
    ),
    "entry put back just now": Case(
        settled(contested=frozenset({ENTRY}), repair=NOW + H),
        DEFAULT,
        targets=(target(there=secret(), accounts=(account(entry=True),)),),
        entries=(account(entry=True),),
        holds={ENTRY: Backoff(NOW + H, lasting=True)},
    ),
    "entry put back just now, registry not known": Case(
        plan(due=LAST),
        DEFAULT,
        scope_map=ELSEWHERE,
        targets=(target(there=secret(), accounts=(account(entry=True),)),),
        entries=(account(entry=True),),
        holds={ENTRY: Backoff(NOW + H, lasting=True)},
    ),
    "entry put back by somebody else": Case(
        settled(),
        DEFAULT,
        targets=(target(there=secret(), accounts=(account(entry=True),)),),
        entries=(account(entry=True),),
        holds={ENTRY: Backoff(NOW + H)},
    ),
    "copy of the Secret, must wait": Case(
        settled(missed=frozenset({COPY}), repair=NOW + H),
        secrets=(secret(), secret("staging")),
        holds={COPY: Backoff(NOW + H)},
    ),
    "copies of the Secret, one must wait": Case(
        settled(DeletePullSecret(secret("prod")), missed=frozenset({COPY}), repair=NOW + H),
        secrets=(secret("prod"), secret(), secret("staging")),
        holds={COPY: Backoff(NOW + H)},
    ),
    "the first of several may be repaired": Case(
        settled(missed=frozenset({ENTRY, SECRET}), contested=frozenset({ENTRY, SECRET}), repair=NOW + H),
        DEFAULT,
        targets=(target(there=secret(digest="other"), accounts=(account(),)),),
        holds={ENTRY: Backoff(NOW + H), SECRET: Backoff(NOW + 2 * H, FRESH.id)},
    ),
    "disabled, copy of the Secret must wait": Case(
        plan(missed=frozenset({COPY}), repair=NOW + H, due=LAST),
        {"enabled": False},
        secrets=(secret(), secret("staging")),
        holds={COPY: Backoff(NOW + H), ENTRY: Backoff(NOW + H, lasting=True)},
    ),
    # the end
    "token ended": Case(plan(ended="token", due=LAST), {"expiresAt": NOW}),
    "token ended, stale place": Case(
        plan(STALE, ended="token", due=LAST), {"expiresAt": NOW}, secrets=(secret(), secret("staging"))
    ),
    "token ended, Remove": Case(
        plan(DeletePullSecret(secret()), STALE, ended="token", due=LAST),
        {"expiresAt": NOW} | REMOVE,
        secrets=(secret(), secret("staging")),
    ),
    "token ended, removed": Case(plan(ended="token", due=LAST), {"expiresAt": NOW} | REMOVE, targets=BARE, secrets=()),
    "password ended": Case(plan(ended="password"), REVOKE, record=DEAD),
    "password ended, Remove": Case(plan(DeletePullSecret(secret()), ended="password"), REVOKE | REMOVE, record=DEAD),
    "password ended, Keep: a Secret that is gone stays gone": Case(
        plan(ended="password"), REVOKE, record=DEAD, targets=BARE, secrets=()
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_decide(name: str) -> None:
    case = CASES[name]
    assert decide(case.facts(), NOW) == case.plan


@pytest.mark.parametrize("name", CASES)
def test_what_is_due_lies_ahead(name: str) -> None:
    due = decide(CASES[name].facts(), NOW).due
    assert due is None or due > NOW


@pytest.mark.parametrize("name", CASES)
def test_a_password_is_written_only_where_it_was_accepted_or_published(name: str) -> None:
    facts = CASES[name].facts()
    accepted = {facts.record.published}
    for action in decide(facts, NOW).actions:
        if isinstance(action, AwaitAcceptance):
            accepted.add(action.slot)
        if isinstance(action, WritePullSecret | MarkPublished):
            assert action.slot in accepted


@pytest.mark.parametrize("name", CASES)
def test_entries_go_before_secrets_come(name: str) -> None:
    order = [
        type(action)
        for action in decide(CASES[name].facts(), NOW).actions
        if isinstance(action, AddEntry | WritePullSecret)
    ]
    assert order == sorted(order, key=[AddEntry, WritePullSecret].index)


@pytest.mark.parametrize("name", ["disabled", "scope map missing", "not allowed", "deleting", "spec unreadable"])
def test_without_access_nothing_is_made_or_published(name: str) -> None:
    for record in (EMPTY, PENDING, SETTLED, DEAD):
        facts = replace(CASES[name].facts(), record=record)
        facts = replace(facts, token=replace(facts.token, requests=Requests("now", "now")))
        actions = decide(facts, NOW).actions
        assert all(isinstance(action, RemoveEntry | DeletePullSecret) for action in actions)
