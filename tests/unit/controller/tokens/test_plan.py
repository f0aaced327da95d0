"""The plan for the passwords of one token: a table of every branch, from facts, places and clock."""

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pullpass.api.conditions import Reason
from pullpass.controller.places.report import Problem
from pullpass.controller.tokens.plan import FIRST_WAIT, Confirm, MarkPublished, TokenPlan, plan
from pullpass.credentials.record import Record, Requests, Slot
from pullpass.credentials.rotation import MakePassword, WriteRecord
from tests.unit.controller.cases import (
    BARE,
    DEAD,
    DEFAULT,
    ELSEWHERE,
    EMPTY,
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
    TEAM,
    Case,
    H,
    account,
    place,
    report,
    secret,
)

RETIRING = SETTLED.with_slot("password2", replace(FRESH, id="0b7aa2", valid_until=NOW + H / 2))
LEAKED = Requests(regenerate="now")
LAST = NOW + 2 * H
"""The end of the password in use, of which the status has to tell also where nothing is to be done."""
FAILED = report(Problem("staging", Reason.WRITE_FAILED, "HTTP 500"), blocked=True)
HAS_NEW, HAS_OLD = secret(digest="digest-2"), secret()
FAR_OLD, FAR_NEW = secret("staging"), secret("staging", digest="digest-2")


@dataclass
class Row(Case):
    """A case and its plan."""

    plan: TokenPlan = field(default_factory=TokenPlan)


def row(plan_: TokenPlan, spec: dict[str, Any] | None = None, **more: Any) -> Row:
    return Row(spec=spec or {}, plan=plan_, **more)


def rotating(plan_: TokenPlan, *places_: Any, confirmed: str = NEW.id, **more: Any) -> Row:
    return row(plan_, record=ROTATING, places=places_, confirmed=confirmed, **more)


def settled(**more: Any) -> TokenPlan:
    return TokenPlan(due=NOW + H, transition="Rotate", **more)


WAITS, SETTLING = TokenPlan(due=LAST), TokenPlan(due=LAST, settling=True)
FIRST_SETTLING = TokenPlan(due=NOW + FIRST_WAIT, settling=True)
MARK = TokenPlan(MarkPublished("password2"))

CASES: dict[str, Row] = {
    "settled": row(settled()),
    # its status tells when a password has ended, also while a finalizer keeps it
    "deleting": row(TokenPlan(due=LAST), deleting=True, places=BARE),
    "deleting, all has ended": row(TokenPlan(), deleting=True, record=DEAD, places=BARE),
    "spec unreadable": row(TokenPlan(due=LAST), readable=False, places=BARE),
    # no access: nothing is made
    "disabled": row(TokenPlan(due=LAST), {"enabled": False}),
    "disabled with nothing made": row(TokenPlan(), {"enabled": False}, record=EMPTY, places=BARE),
    "disabled, ends later": row(TokenPlan(due=NOW + H), {"enabled": False, "expiresAt": NOW + H}),
    "disabled, ended": row(TokenPlan(due=LAST), {"enabled": False, "expiresAt": NOW - H}),
    "disabled, something to tidy": row(
        TokenPlan(due=LAST), {"enabled": False}, places=(place(there=secret()), place("x", secret("x"), named=False))
    ),
    "scope map missing": row(TokenPlan(due=LAST), scope_map="missing", record=PENDING),
    "scope map invalid": row(TokenPlan(due=LAST), scope_map="invalid", record=PENDING),
    "not allowed": row(TokenPlan(), scope_map=NONE, record=DEAD),
    "registry not known": row(TokenPlan(), scope_map=ELSEWHERE, record=DEAD),
    "registry not known: a request waits": row(
        TokenPlan(due=LAST), scope_map=ELSEWHERE, places=BARE, requests=Requests("now", "now")
    ),
    "allowed by label": row(settled(), scope_map=TEAM, namespace=replace(NAMESPACE, labels={"team": "web"})),
    "not allowed by label": row(TokenPlan(due=LAST), scope_map=TEAM),
    "own namespace unknown": row(TokenPlan(), namespace=None, record=EMPTY),
    # the rotation
    "nothing yet": row(TokenPlan(MakePassword("password1")), record=EMPTY, places=BARE),
    "pending": row(TokenPlan(Confirm("password1")), record=PENDING, places=BARE),
    "pending, another one is confirmed": row(
        TokenPlan(Confirm("password1")), record=PENDING, places=BARE, confirmed="0b7aa2"
    ),
    "pending, and to be written": row(FIRST_SETTLING, record=PENDING, places=BARE, confirmed=FRESH.id),
    "pending, written in one of two places": row(
        FIRST_SETTLING, record=PENDING, places=(place(there=secret()), place("staging")), confirmed=FRESH.id
    ),
    "pending, written everywhere": row(TokenPlan(MarkPublished("password1")), record=PENDING, confirmed=FRESH.id),
    "pending, and one place cannot have it": row(
        TokenPlan(MarkPublished("password1")),
        record=PENDING,
        places=(place(there=secret()), place("staging")),
        confirmed=FRESH.id,
        reports={"staging": FAILED},
    ),
    "pending, and one place is to be tried again": row(
        TokenPlan(due=NOW + FIRST_WAIT, settling=False),
        record=PENDING,
        places=(place(there=secret()), place("staging")),
        confirmed=FRESH.id,
        reports={"staging": replace(FAILED, blocked=False)},
    ),
    "pending, and one place is tried again before that is told": row(
        FIRST_SETTLING,
        record=PENDING,
        places=(place(there=secret()), place("staging")),
        confirmed=FRESH.id,
        reports={"staging": replace(FAILED, blocked=False, told=False)},
    ),
    "rotates": row(TokenPlan(MakePassword("password2")), {"passwords": {"lifetime": "1h"}}),
    "another seed": row(TokenPlan(MakePassword("password2")), seed="another", digests={}),
    "dates differ": row(
        TokenPlan(WriteRecord(SETTLED.with_slot("password1", replace(FRESH, expires_at=NOW + 5 * H)))),
        {"passwords": {"lifetime": "6h"}},
    ),
    # what a new password waits for
    "new one, not confirmed": rotating(TokenPlan(Confirm("password2")), place(there=HAS_OLD), confirmed=""),
    "new one, to be written": rotating(SETTLING, place(there=HAS_OLD)),
    "new one, written everywhere": rotating(MARK, place(there=HAS_NEW), place("staging", FAR_NEW)),
    "new one, one place left": rotating(SETTLING, place(there=HAS_NEW), place("staging", FAR_OLD)),
    "new one, a place without one fails": rotating(
        MARK, place(there=HAS_NEW), place("staging"), reports={"staging": FAILED}
    ),
    "new one, a place with the old one fails": rotating(
        WAITS, place(there=HAS_NEW), place("staging", FAR_OLD), reports={"staging": FAILED}
    ),
    "new one, a place with the old one fails, another is worked on": rotating(
        SETTLING, place(there=HAS_OLD), place("staging", FAR_OLD), reports={"staging": FAILED}
    ),
    "new one, a place with another token's Secret": rotating(
        MARK, place(there=HAS_NEW), place("staging", secret("staging", uid="uid-2")), reports={"staging": FAILED}
    ),
    "new one, a place is contested": rotating(
        WAITS,
        place(there=HAS_OLD),
        waits={},
        reports={"web": report(contested=frozenset({SECRET}))},
    ),
    "new one, namespace is gone": rotating(MARK, place(there=HAS_NEW), place("staging", FAR_OLD, seen=None)),
    "new one, no consent any more": rotating(MARK, place(there=HAS_NEW), place("staging", FAR_OLD, consents=False)),
    "new one, a place that is named no more": rotating(
        MARK, place(there=HAS_NEW), place("staging", FAR_OLD, named=False)
    ),
    "leaked: nobody waits for a place that fails": rotating(
        MARK, place(there=HAS_NEW), place("staging", FAR_OLD), reports={"staging": FAILED}, requests=LEAKED
    ),
    "leaked: everybody waits for a place that was not tried": rotating(
        SETTLING, place(there=HAS_NEW), place("staging", FAR_OLD), requests=LEAKED
    ),
    "leaked: everybody waits for a place that may only have had bad luck": rotating(
        TokenPlan(due=LAST),
        place(there=HAS_NEW),
        place("staging", FAR_OLD),
        reports={"staging": replace(FAILED, blocked=False)},
        requests=LEAKED,
    ),
    "old one has ended: nobody waits": row(
        MARK,
        record=DEAD.with_slot("password2", NEW),
        places=(place(there=HAS_NEW), place("staging", FAR_OLD)),
        confirmed=NEW.id,
    ),
    # by hand
    "rotate": row(TokenPlan(MakePassword("password2")), requests=Requests(rotate="now")),
    "rotate waits for the overlap": row(
        TokenPlan(due=NOW + H / 2, transition="Rotate"), record=RETIRING, requests=Requests(rotate="now")
    ),
    "regenerate waits for nothing": row(TokenPlan(MakePassword("password2")), record=RETIRING, requests=LEAKED),
    "disabled: a request waits": row(TokenPlan(due=LAST), {"enabled": False}, requests=Requests("now", "now")),
    "not allowed: a request waits": row(TokenPlan(due=LAST), scope_map=NONE, requests=Requests("now", "now")),
    "token ended: a request does nothing": row(
        TokenPlan(ended="token", due=LAST), {"expiresAt": NOW}, requests=Requests("now", "now")
    ),
    "password ended: another is asked for": row(
        TokenPlan(MakePassword("password1")), REVOKE, record=DEAD, requests=Requests(rotate="now")
    ),
    "revoked": row(TokenPlan(MakePassword("password1")), REVOKED),
    "revoked and disabled": row(TokenPlan(due=LAST), REVOKED | {"enabled": False}),
    "retiring one revoked": row(
        TokenPlan(WriteRecord(SETTLED)), {"passwords": {"lifetime": "3h", "revoked": ["0b7aa2"]}}, record=RETIRING
    ),
    "revoked for good": row(TokenPlan(ended="revoked", due=LAST), REVOKED_FOR_GOOD),
    "revoked for good, the other one retires on": row(
        TokenPlan(ended="revoked", due=NOW + H / 2, transition="Retire"), REVOKED_FOR_GOOD, record=RETIRING
    ),
    # places that have something to do
    "Secret gone": row(settled(settling=True), places=BARE),
    "Secret cannot be written": row(settled(), places=BARE, reports={"web": FAILED}),
    "Secret may be written the next time": row(
        settled(settling=True), places=BARE, reports={"web": replace(FAILED, told=False)}
    ),
    "entry missing": row(settled(settling=True), DEFAULT, places=(place(there=secret(), accounts=[account()]),)),
    "Secret for the hosts of another registry": row(TokenPlan(Confirm("password1")), scope_map=OTHERS),
    "Secret for the hosts of another registry, confirmed there": row(
        settled(settling=True), scope_map=OTHERS, digests={"password1": "digest-3"}, confirmed=FRESH.id
    ),
    "Secret gone, password not derivable": row(settled(), places=BARE, digests={}),
    # the end
    "token ended": row(TokenPlan(ended="token", due=LAST), {"expiresAt": NOW}),
    "token ended, Remove": row(TokenPlan(ended="token", due=LAST), {"expiresAt": NOW} | REMOVE),
    "password ended": row(TokenPlan(ended="password"), REVOKE, record=DEAD),
}


@pytest.mark.parametrize("name", CASES)
def test_plan(name: str) -> None:
    case = CASES[name]
    assert plan(case.facts(), case.states()) == case.plan


@pytest.mark.parametrize("name", CASES)
def test_what_is_due_lies_ahead(name: str) -> None:
    case = CASES[name]
    due = plan(case.facts(), case.states()).due
    assert due is None or due > NOW


@pytest.mark.parametrize("name", CASES)
def test_a_password_is_published_only_once_it_is_confirmed(name: str) -> None:
    case = CASES[name]
    action = plan(case.facts(), case.states()).action
    if isinstance(action, MarkPublished):
        assert case.facts().confirmed(action.slot)


@pytest.mark.parametrize("name", ["disabled", "scope map missing", "not allowed", "deleting", "spec unreadable"])
def test_without_access_nothing_is_made_or_published(name: str) -> None:
    records: tuple[Record, ...] = (EMPTY, PENDING, SETTLED, DEAD, ROTATING)
    for record in records:
        case = replace(CASES[name], record=record, requests=Requests("now", "now"), confirmed=FRESH.id)
        assert plan(case.facts(), case.states()).action is None
        assert case.facts().published is None


@pytest.mark.parametrize(
    ("record", "password", "action"), [(PENDING, FRESH, MarkPublished("password1")), (ROTATING, NEW, None)]
)
def test_a_first_password_is_published_although_nothing_is_heard_of_a_place(
    record: Record, password: Slot, action: MarkPublished | None
) -> None:
    """It would end unpublished, and none would take its place. A later one waits for the places of the old one."""
    case = Case(record=record, places=(place("staging"),), confirmed=password.id)
    facts = replace(case.facts(), now=NOW + FIRST_WAIT)
    assert plan(facts, case.states()).action == action
