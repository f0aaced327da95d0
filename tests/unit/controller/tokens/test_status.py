"""The status: every reason is reached, programs that read kstatus agree, and nothing secret is in it."""

import json
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from pullpass.api import conditions as c
from pullpass.api.conditions import Reason
from pullpass.api.registrytoken import RegistryTokenStatus
from pullpass.controller.document import Document
from pullpass.controller.places.report import Problem
from pullpass.controller.tokens.plan import TokenPlan, plan
from pullpass.controller.tokens.status import Obstacle, build, condition
from pullpass.credentials.record import Record, Requests
from tests.unit.controller.cases import (
    BARE,
    DEAD,
    DEFAULT,
    ELSEWHERE,
    EMPTY,
    ENTRY,
    FRESH,
    NAMESPACE,
    NONE,
    NOW,
    PENDING,
    REMOVE,
    REVOKE,
    REVOKED,
    REVOKED_FOR_GOOD,
    SETTLED,
    Case,
    H,
    account,
    place,
    report,
    secret,
)


def status_of(case: Case, obstacle: Obstacle | None = None, now: datetime = NOW) -> dict[str, Any]:
    return build(case.facts(), plan(case.facts(), case.states()), case.states(), obstacle, now)


def ready_reason(status: Any) -> tuple[str, str, str]:
    return condition(status, c.READY)


def found(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {entry["type"]: (entry["status"], entry["reason"]) for entry in status["conditions"]}


OK_MAP, OK_PASSWORD, OK_SECRETS = ("True", "ScopeMapFound"), ("True", "PasswordActive"), ("True", "Synced")
REFUSED = Problem("staging", Reason.WRITE_REFUSED, "Secret staging/reader-pull: quota")
NOT_OWNED = Problem("web", Reason.SECRET_NOT_OWNED, "Secret web/reader-pull was not made by pullpass")
FAILED = Problem("staging", Reason.WRITE_FAILED, "Secret staging/reader-pull: HTTP 500")
WAITING = Obstacle(
    Reason.WAITING_FOR_TOKEN_SERVER, "token server 10.0.0.1:8080 does not accept the new password yet (HTTP 401)"
)
UNWRITTEN = Obstacle(Reason.RECORD_NOT_WRITTEN, "the credential record cannot be written: HTTP 500")


def met(*problems: Problem, **more: Any) -> Case:
    """A place in which a pass has met something."""
    return Case(places=(place(there=secret()), place("staging")), reports={"staging": report(*problems, **more)})


# case, obstacle; Ready; then map, password, secrets; then the abnormal condition
TABLE: dict[str, tuple[Case, Obstacle | None, tuple[str, str], tuple[Any, Any, Any], str | None]] = {
    "ready": (Case(), None, ("True", "Ready"), (OK_MAP, OK_PASSWORD, OK_SECRETS), None),
    "map missing": (
        Case(scope_map="missing", record=EMPTY, places=BARE),
        None,
        ("False", "ScopeMapNotFound"),
        (("False", "ScopeMapNotFound"), ("Unknown", "NoPassword"), ("Unknown", "NotWritten")),
        c.RECONCILING,
    ),
    "map invalid": (
        Case(scope_map="invalid"),
        None,
        ("False", "ScopeMapInvalid"),
        (("False", "ScopeMapInvalid"), OK_PASSWORD, OK_SECRETS),
        c.STALLED,
    ),
    "registry not known": (
        Case(scope_map=ELSEWHERE),
        None,
        ("False", "RegistryNotFound"),
        (("False", "RegistryNotFound"), OK_PASSWORD, OK_SECRETS),
        c.RECONCILING,
    ),
    "not allowed": (
        Case(scope_map=NONE),
        None,
        ("False", "NamespaceNotAllowed"),
        (("False", "NamespaceNotAllowed"), OK_PASSWORD, OK_SECRETS),
        c.STALLED,
    ),
    "spec unreadable": (
        Case(readable=False),
        None,
        ("False", "SpecInvalid"),
        (("False", "SpecInvalid"), OK_PASSWORD, ("Unknown", "SpecInvalid")),
        c.STALLED,
    ),
    "disabled": (
        Case({"enabled": False}),
        None,
        ("False", "TokenDisabled"),
        (OK_MAP, ("False", "TokenDisabled"), OK_SECRETS),
        None,
    ),
    "ended": (
        Case({"expiresAt": NOW}),
        None,
        ("False", "TokenExpired"),
        (OK_MAP, ("False", "TokenExpired"), OK_SECRETS),
        None,
    ),
    "ended and disabled": (
        Case({"expiresAt": NOW, "enabled": False}),
        None,
        ("False", "TokenExpired"),
        (OK_MAP, ("False", "TokenExpired"), OK_SECRETS),
        None,
    ),
    "ended and removed": (
        Case({"expiresAt": NOW} | REMOVE, places=BARE),
        None,
        ("False", "TokenExpired"),
        (OK_MAP, ("False", "TokenExpired"), ("True", "Removed")),
        None,
    ),
    "password ended": (
        Case(REVOKE, record=DEAD),
        None,
        ("False", "PasswordExpired"),
        (OK_MAP, ("False", "PasswordExpired"), OK_SECRETS),
        None,
    ),
    "password revoked": (
        Case(REVOKED_FOR_GOOD),
        None,
        ("False", "PasswordRevoked"),
        (OK_MAP, ("False", "PasswordRevoked"), OK_SECRETS),
        None,
    ),
    "password revoked before it was published": (
        Case(REVOKED_FOR_GOOD, record=PENDING),
        None,
        ("False", "PasswordRevoked"),
        (OK_MAP, ("False", "PasswordRevoked"), ("Unknown", "NotWritten")),
        None,
    ),
    "password revoked, and no other may be made": (
        Case(REVOKED, scope_map=NONE),
        None,
        ("False", "NamespaceNotAllowed"),
        (("False", "NamespaceNotAllowed"), ("False", "PasswordRevoked"), OK_SECRETS),
        c.STALLED,
    ),
    "password revoked and disabled": (
        Case(REVOKED | {"enabled": False}),
        None,
        ("False", "TokenDisabled"),
        (OK_MAP, ("False", "TokenDisabled"), OK_SECRETS),
        None,
    ),
    "password revoked, and the next waits": (
        Case(REVOKED, record=SETTLED.with_slot("password2", replace(FRESH, id="0b7aa2"))),
        WAITING,
        ("Unknown", "WaitingForTokenServer"),
        (OK_MAP, ("Unknown", "WaitingForTokenServer"), OK_SECRETS),
        c.RECONCILING,
    ),
    "waiting for the first": (
        Case(record=PENDING, places=BARE),
        WAITING,
        ("Unknown", "WaitingForTokenServer"),
        (OK_MAP, ("Unknown", "WaitingForTokenServer"), ("Unknown", "NotWritten")),
        c.RECONCILING,
    ),
    "waiting for the next": (
        Case(),
        WAITING,
        ("True", "Ready"),
        (OK_MAP, OK_PASSWORD, OK_SECRETS),
        c.RECONCILING,
    ),
    "no signing leaf": (
        Case(issuing=False),
        None,
        ("False", "SigningKeyUnavailable"),
        (OK_MAP, OK_PASSWORD, OK_SECRETS),
        c.RECONCILING,
    ),
    "no signing leaf, and disabled": (
        Case({"enabled": False}, issuing=False),
        None,
        ("False", "TokenDisabled"),
        (OK_MAP, ("False", "TokenDisabled"), OK_SECRETS),
        None,
    ),
    "nothing yet": (
        Case(record=EMPTY, places=BARE),
        None,
        ("Unknown", "NoPassword"),
        (OK_MAP, ("Unknown", "NoPassword"), ("Unknown", "NotWritten")),
        c.RECONCILING,
    ),
    "the record cannot be written for the first": (
        Case(record=EMPTY, places=BARE),
        UNWRITTEN,
        ("Unknown", "RecordNotWritten"),
        (OK_MAP, ("Unknown", "RecordNotWritten"), ("Unknown", "NotWritten")),
        c.RECONCILING,
    ),
    "the record cannot be written": (
        Case(),
        UNWRITTEN,
        ("True", "Ready"),
        (OK_MAP, OK_PASSWORD, OK_SECRETS),
        c.RECONCILING,
    ),
    "refused": (
        met(REFUSED),
        None,
        ("False", "WriteRefused"),
        (OK_MAP, OK_PASSWORD, ("False", "WriteRefused")),
        c.STALLED,
    ),
    "failed": (
        met(FAILED),
        None,
        ("False", "WriteFailed"),
        (OK_MAP, OK_PASSWORD, ("False", "WriteFailed")),
        c.RECONCILING,
    ),
    "failed, and to be tried again before it is told": (
        met(FAILED, told=False),
        None,
        ("Unknown", "NotWritten"),
        (OK_MAP, OK_PASSWORD, ("Unknown", "NotWritten")),
        c.RECONCILING,
    ),
    "failed, in a namespace that is gone by now": (
        Case(places=(place(there=secret()), place("staging", seen=None)), reports={"staging": report(FAILED)}),
        None,
        ("False", "NamespaceNotFound"),
        (OK_MAP, OK_PASSWORD, ("False", "NamespaceNotFound")),
        c.RECONCILING,
    ),
    "failed, and disabled by now": (
        Case({"enabled": False}, places=(place(),), reports={"web": report(FAILED)}),
        None,
        ("False", "TokenDisabled"),
        (OK_MAP, ("False", "TokenDisabled"), OK_SECRETS),
        None,
    ),
    "being deleted": (
        Case(deleting=True),
        None,
        ("False", "Deleting"),
        (OK_MAP, ("False", "Deleting"), ("Unknown", "Deleting")),
        None,
    ),
    "being deleted, of a scope map that is gone": (
        Case(deleting=True, scope_map=NONE),
        None,
        ("False", "Deleting"),
        (("False", "NamespaceNotAllowed"), ("False", "Deleting"), ("Unknown", "Deleting")),
        None,
    ),
    "not owned": (
        met(NOT_OWNED),
        None,
        ("False", "SecretNotOwned"),
        (OK_MAP, OK_PASSWORD, ("False", "SecretNotOwned")),
        c.STALLED,
    ),
    "not heard of yet": (
        Case(places=(place(there=secret()), place("staging"))),
        None,
        ("Unknown", "NotWritten"),
        (OK_MAP, OK_PASSWORD, ("Unknown", "NotWritten")),
        c.RECONCILING,
    ),
    "namespace missing": (
        Case(places=(place(there=secret()), place("staging", seen=None))),
        None,
        ("False", "NamespaceNotFound"),
        (OK_MAP, OK_PASSWORD, ("False", "NamespaceNotFound")),
        c.RECONCILING,
    ),
    "no consent": (
        Case(places=(place(there=secret()), place("staging", consents=False))),
        None,
        ("False", "NamespaceNotConsenting"),
        (OK_MAP, OK_PASSWORD, ("False", "NamespaceNotConsenting")),
        c.STALLED,
    ),
    "account missing": (
        Case(DEFAULT),
        None,
        ("False", "ServiceAccountNotFound"),
        (OK_MAP, OK_PASSWORD, ("False", "ServiceAccountNotFound")),
        c.RECONCILING,
    ),
    "contested": (
        Case(
            DEFAULT,
            places=(place(there=secret(), accounts=[account(entry=True)]),),
            reports={"web": report(contested=frozenset({ENTRY}))},
        ),
        None,
        ("False", "Contested"),
        (OK_MAP, OK_PASSWORD, ("False", "Contested")),
        c.STALLED,
    ),
    "account there": (
        Case(DEFAULT, places=(place(there=secret(), accounts=[account(entry=True)]),)),
        None,
        ("True", "Ready"),
        (OK_MAP, OK_PASSWORD, OK_SECRETS),
        None,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_conditions(name: str) -> None:
    case, obstacle, ready, parts, abnormal = TABLE[name]
    conditions = found(status_of(case, obstacle))
    expected = {
        c.READY: ready,
        c.SCOPE_MAP_RESOLVED: parts[0],
        c.PASSWORDS_VALID: parts[1],
        c.PULL_SECRETS_SYNCED: parts[2],
    }
    if abnormal is not None:
        expected[abnormal] = ("True", str(obstacle.reason) if obstacle else ready[1])
    assert conditions == expected


def test_a_token_that_is_kept_from_being_deleted_says_by_what() -> None:
    (ready,) = [one for one in status_of(Case(deleting=True))["conditions"] if one["type"] == c.READY]
    assert "its passwords are refused" in ready["message"]
    assert ready["message"].endswith("example.com/keep")


def test_every_reason_is_reached() -> None:
    reached = set()
    for case, obstacle, *_ in TABLE.values():
        reached |= {reason for _, reason in found(status_of(case, obstacle)).values()}
    # That the status cannot be written is told by an event: no status could say it.
    assert reached == {str(reason) for reason in Reason} - {"StatusNotWritten"}


@pytest.mark.parametrize("name", TABLE)
def test_every_status_is_one_that_the_api_takes(name: str) -> None:
    case, obstacle, *_ = TABLE[name]
    status = status_of(case, obstacle)
    read = RegistryTokenStatus.model_validate(status)
    assert read.model_dump(by_alias=True, exclude_none=True, exclude_unset=True, mode="json") == status
    assert all(entry["message"] and entry["observedGeneration"] == 1 for entry in status["conditions"])
    assert status["observedGeneration"] == 1
    assert status["username"] == "web.reader"


@pytest.mark.parametrize("name", TABLE)
def test_no_status_holds_hash_or_nonce(name: str) -> None:
    case, obstacle, *_ = TABLE[name]
    text = json.dumps(status_of(case, obstacle))
    assert '"hash"' not in text
    assert '"nonce"' not in text
    assert "seed" not in text


@pytest.mark.parametrize("name", TABLE)
def test_a_second_look_changes_nothing(name: str) -> None:
    case, obstacle, *_ = TABLE[name]
    first = status_of(case, obstacle)
    facts = case.facts()
    facts = replace(facts, token=replace(facts.token, status=Document.of(first)))
    later = NOW + timedelta(seconds=30)
    assert build(facts, plan(facts, case.states()), case.states(), obstacle, later) == first


def test_the_transition_time_moves_with_the_status_alone() -> None:
    before = status_of(Case())
    case = met(REFUSED)
    facts = case.facts()
    facts = replace(facts, token=replace(facts.token, status=Document.of(before), generation=2))
    later = NOW + timedelta(minutes=5)
    status = build(facts, plan(facts, case.states()), case.states(), None, later)
    after = {entry["type"]: entry for entry in status["conditions"]}
    assert after[c.READY]["lastTransitionTime"] == "2027-03-01T12:05:00Z"
    assert after[c.SCOPE_MAP_RESOLVED]["lastTransitionTime"] == "2027-03-01T12:00:00Z"
    assert after[c.SCOPE_MAP_RESOLVED]["observedGeneration"] == 2


def test_passwords_are_told_by_id_date_and_state() -> None:
    record = Record(
        "uid-1",
        "web",
        "reader",
        {"password2": FRESH, "password1": replace(FRESH, id="0b7aa2", valid_until=NOW + H)},
        "password2",
    )
    assert status_of(Case(record=record))["passwords"] == [
        {
            "slot": "password1",
            "id": "0b7aa2",
            "createdAt": "2027-03-01T11:00:00Z",
            "expiresAt": "2027-03-01T14:00:00Z",
            "validUntil": "2027-03-01T13:00:00Z",
            "state": "Retiring",
        },
        {
            "slot": "password2",
            "id": "4f9c1e",
            "createdAt": "2027-03-01T11:00:00Z",
            "expiresAt": "2027-03-01T14:00:00Z",
            "state": "Active",
        },
    ]


def test_a_revoked_password_is_called_so() -> None:
    for record in (SETTLED, PENDING, DEAD):
        (shown,) = status_of(Case(REVOKED_FOR_GOOD, record=record))["passwords"]
        assert shown["state"] == "Revoked"


def test_who_revoked_it_is_told_which_and_how_to_get_another() -> None:
    message = ready_reason(status_of(Case(REVOKED_FOR_GOOD)))[2]
    assert message == (
        "password 4f9c1e is revoked (spec.passwords.revoked) and onExpiry is Revoke; "
        "ask for a new one with its full lifetime by the annotation pullpass.dev/rotate-requested-at"
    )
    assert "pullpass.dev/rotate-requested-at" in ready_reason(status_of(Case(REVOKE, record=DEAD)))[2]


def test_requests_are_echoed_once_the_password_is_published() -> None:
    keys = ("lastHandledRotateRequest", "lastHandledRegenerateRequest")
    asked, handled = Requests("later", "later"), replace(FRESH, requests=Requests("now", "leak"))

    def told(record: Record, before: dict[str, Any]) -> tuple[Any, ...]:
        facts = Case(record=record, requests=asked).facts()
        facts = replace(facts, token=replace(facts.token, status=Document.of(before)))
        status = build(facts, TokenPlan(), (), None, NOW)
        return tuple(status.get(key) for key in keys)

    assert told(SETTLED, {}) == (None, None)
    assert told(SETTLED.with_slot("password1", handled), {}) == ("now", "leak")
    assert told(SETTLED.with_slot("password2", handled), {}) == (None, None), "it is pending"
    assert told(PENDING, dict(zip(keys, ("now", "leak"), strict=True))) == ("now", "leak"), "it is being replaced"


@pytest.mark.parametrize(
    ("spec", "ends"),
    [
        ({}, None),
        ({"expiresAt": NOW + 9 * H}, "2027-03-01T21:00:00Z"),
        (REVOKE, "2027-03-01T14:00:00Z"),
        (REVOKE | {"expiresAt": NOW + H}, "2027-03-01T13:00:00Z"),
        (REVOKE | {"expiresAt": NOW + 9 * H}, "2027-03-01T14:00:00Z"),
    ],
)
def test_when_access_ends(spec: dict[str, Any], ends: str | None) -> None:
    assert status_of(Case(spec)).get("accessEndsAt") == ends


def test_what_happens_next_and_when() -> None:
    status = status_of(Case())
    assert (status["nextTransition"], status["nextTransitionTime"]) == ("Rotate", "2027-03-01T13:00:00Z")
    assert "nextTransition" not in status_of(Case({"enabled": False, "expiresAt": NOW + H}))
    assert "nextTransition" not in status_of(Case({"passwords": {}}, record=SETTLED))


def test_many_problems_are_counted_and_not_all_listed() -> None:
    problems = [replace(REFUSED, message=f"Secret n{number}/reader-pull: quota") for number in range(64)]
    message = ready_reason(status_of(met(*problems)))[2]
    assert message.count("quota") == 5
    assert message.endswith("and 59 more")
    assert len(message) < 1024


def test_the_longest_message_fits() -> None:
    problems = [replace(REFUSED, message="x" * 5000) for _ in range(64)]
    assert RegistryTokenStatus.model_validate(status_of(met(*problems)))


@pytest.mark.parametrize("status", [None, {}, {"conditions": None}, {"conditions": [{"type": "Stalled"}]}])
def test_where_there_is_no_ready_condition(status: Any) -> None:
    assert ready_reason(status) == ("", "", "")


def test_the_places_are_counted() -> None:
    one = {entry["type"]: entry["message"] for entry in status_of(Case())["conditions"]}
    two = status_of(Case(places=(place(there=secret()), place("staging", secret("staging")))))
    assert one[c.PULL_SECRETS_SYNCED] == "Secret reader-pull is in place in this namespace"
    assert "in place in 2 namespaces" in json.dumps(two)


def test_a_further_namespace_that_goes_counts_as_gone() -> None:
    gone = place("staging", seen=replace(NAMESPACE, terminating=True))
    assert found(status_of(Case(places=(place(there=secret()), gone))))[c.READY] == (
        "False",
        "NamespaceNotFound",
    )
    own = place(there=secret(), seen=replace(NAMESPACE, terminating=True))
    assert found(status_of(Case(places=(own,))))[c.READY] == ("True", "Ready"), "the token goes with it"
