"""The decision for one token: a table of every branch, from facts and clock to a plan."""

from dataclasses import replace

import pytest

from pullpass.controller.decide import (
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
from tests.unit.controller.facts import (
    BARE,
    DEAD,
    DEFAULT,
    EMPTY,
    EVERY,
    FRESH,
    NAMESPACE,
    NONE,
    NOW,
    PENDING,
    REMOVE,
    REVOKE,
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
TWO_ENTRIES = replace(account(entry=True), ours={"reader-pull": "uid-1", "old": "uid-1"})


def settled(*actions: Action) -> Plan:
    return Plan(actions, due=NOW + H, transition="Rotate")


CASES: dict[str, Case] = {
    "settled": Case(settled()),
    "deleting": Case(plan(), deleting=True, targets=BARE),
    "spec unreadable": Case(plan(), readable=False, targets=BARE),
    # no access: nothing is made, and what is there stays
    "disabled": Case(plan(), {"enabled": False}),
    "disabled with nothing made": Case(plan(), {"enabled": False}, record=EMPTY, targets=BARE, secrets=()),
    "disabled, ends later": Case(plan(due=NOW + H), {"enabled": False, "expiresAt": NOW + H}),
    "disabled, ended": Case(plan(), {"enabled": False, "expiresAt": NOW - H}),
    "disabled, stale place": Case(plan(STALE), {"enabled": False}, secrets=(secret(), secret("staging"))),
    "scope map missing": Case(plan(), scope_map="missing", record=PENDING),
    "scope map invalid": Case(plan(), scope_map="invalid", record=PENDING),
    "not allowed": Case(plan(), scope_map=NONE, record=DEAD),
    "allowed by label": Case(settled(), scope_map=TEAM, namespace=replace(NAMESPACE, labels={"team": "web"})),
    "not allowed by label": Case(plan(), scope_map=TEAM),
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
    # repairs
    "Secret gone": Case(settled(WRITE), targets=BARE, secrets=()),
    "Secret differs": Case(settled(WRITE), targets=(target(there=secret(digest="other")),)),
    "Secret of a predecessor": Case(settled(WRITE), targets=(target(there=secret(uid="uid-0")),), secrets=()),
    "new place": Case(settled(FAR_WRITE), targets=(target(there=secret()), target("staging"))),
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
    # the end
    "token ended": Case(plan(ended="token"), {"expiresAt": NOW}),
    "token ended, stale place": Case(
        plan(STALE, ended="token"), {"expiresAt": NOW}, secrets=(secret(), secret("staging"))
    ),
    "token ended, Remove": Case(
        plan(DeletePullSecret(secret()), STALE, ended="token"),
        {"expiresAt": NOW} | REMOVE,
        secrets=(secret(), secret("staging")),
    ),
    "token ended, removed": Case(plan(ended="token"), {"expiresAt": NOW} | REMOVE, targets=BARE, secrets=()),
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
        actions = decide(replace(CASES[name].facts(), record=record), NOW).actions
        assert all(isinstance(action, RemoveEntry | DeletePullSecret) for action in actions)
