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
from pullpass.controller.places.repairs import Backoff
from pullpass.controller.tokens.plan import decide
from pullpass.controller.tokens.status import Problem, build, ready_reason
from pullpass.credentials.record import Record, Requests
from tests.unit.controller.tokens.facts import (
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
    plan,
    secret,
    target,
)

NO_PLAN = plan()


def status_of(case: Case, *problems: Problem, waiting: str | None = None, now: datetime = NOW) -> dict[str, Any]:
    facts = case.facts()
    return build(facts, decide(facts, now), problems, waiting, now)


def found(status: dict[str, Any]) -> dict[str, tuple[str, str]]:
    return {entry["type"]: (entry["status"], entry["reason"]) for entry in status["conditions"]}


OK_MAP, OK_PASSWORD, OK_SECRETS = ("True", "ScopeMapFound"), ("True", "PasswordActive"), ("True", "Synced")
REFUSED = Problem("staging", Reason.WRITE_REFUSED, "Secret staging/reader-pull: quota")
NOT_OWNED = Problem("web", Reason.SECRET_NOT_OWNED, "Secret web/reader-pull was not made by pullpass")
WAITING = "token server 10.0.0.1:8080 does not accept the new password yet (HTTP 401)"

# case, problems, waiting; Ready; then map, password, secrets; then the abnormal condition
TABLE: dict[str, tuple[Case, tuple[Problem, ...], str | None, tuple[str, str], tuple[Any, Any, Any], str | None]] = {
    "ready": (Case(NO_PLAN), (), None, ("True", "Ready"), (OK_MAP, OK_PASSWORD, OK_SECRETS), None),
    "map missing": (
        Case(NO_PLAN, scope_map="missing", record=EMPTY, targets=BARE),
        (),
        None,
        ("False", "ScopeMapNotFound"),
        (("False", "ScopeMapNotFound"), ("Unknown", "NoPassword"), ("Unknown", "NotWritten")),
        c.RECONCILING,
    ),
    "map invalid": (
        Case(NO_PLAN, scope_map="invalid"),
        (),
        None,
        ("False", "ScopeMapInvalid"),
        (("False", "ScopeMapInvalid"), OK_PASSWORD, OK_SECRETS),
        c.STALLED,
    ),
    "registry not known": (
        Case(NO_PLAN, scope_map=ELSEWHERE),
        (),
        None,
        ("False", "RegistryNotFound"),
        (("False", "RegistryNotFound"), OK_PASSWORD, OK_SECRETS),
        c.RECONCILING,
    ),
    "not allowed": (
        Case(NO_PLAN, scope_map=NONE),
        (),
        None,
        ("False", "NamespaceNotAllowed"),
        (("False", "NamespaceNotAllowed"), OK_PASSWORD, OK_SECRETS),
        c.STALLED,
    ),
    "spec unreadable": (
        Case(NO_PLAN, readable=False),
        (),
        None,
        ("False", "SpecInvalid"),
        (("False", "SpecInvalid"), OK_PASSWORD, ("Unknown", "SpecInvalid")),
        c.STALLED,
    ),
    "disabled": (
        Case(NO_PLAN, {"enabled": False}),
        (),
        None,
        ("False", "TokenDisabled"),
        (OK_MAP, ("False", "TokenDisabled"), OK_SECRETS),
        None,
    ),
    "ended": (
        Case(NO_PLAN, {"expiresAt": NOW}),
        (),
        None,
        ("False", "TokenExpired"),
        (OK_MAP, ("False", "TokenExpired"), OK_SECRETS),
        None,
    ),
    "ended and disabled": (
        Case(NO_PLAN, {"expiresAt": NOW, "enabled": False}),
        (),
        None,
        ("False", "TokenExpired"),
        (OK_MAP, ("False", "TokenExpired"), OK_SECRETS),
        None,
    ),
    "ended and removed": (
        Case(NO_PLAN, {"expiresAt": NOW} | REMOVE, targets=BARE, secrets=()),
        (),
        None,
        ("False", "TokenExpired"),
        (OK_MAP, ("False", "TokenExpired"), ("True", "Removed")),
        None,
    ),
    "password ended": (
        Case(NO_PLAN, REVOKE, record=DEAD),
        (),
        None,
        ("False", "PasswordExpired"),
        (OK_MAP, ("False", "PasswordExpired"), OK_SECRETS),
        None,
    ),
    "password revoked": (
        Case(NO_PLAN, REVOKED_FOR_GOOD),
        (),
        None,
        ("False", "PasswordRevoked"),
        (OK_MAP, ("False", "PasswordRevoked"), OK_SECRETS),
        None,
    ),
    "password revoked before it was published": (
        Case(NO_PLAN, REVOKED_FOR_GOOD, record=PENDING),
        (),
        None,
        ("False", "PasswordRevoked"),
        (OK_MAP, ("False", "PasswordRevoked"), ("Unknown", "NotWritten")),
        None,
    ),
    "password revoked, and no other may be made": (
        Case(NO_PLAN, REVOKED, scope_map=NONE),
        (),
        None,
        ("False", "NamespaceNotAllowed"),
        (("False", "NamespaceNotAllowed"), ("False", "PasswordRevoked"), OK_SECRETS),
        c.STALLED,
    ),
    "password revoked and disabled": (
        Case(NO_PLAN, REVOKED | {"enabled": False}),
        (),
        None,
        ("False", "TokenDisabled"),
        (OK_MAP, ("False", "TokenDisabled"), OK_SECRETS),
        None,
    ),
    "password revoked, and the next waits": (
        Case(NO_PLAN, REVOKED, record=SETTLED.with_slot("password2", replace(FRESH, id="0b7aa2"))),
        (),
        WAITING,
        ("Unknown", "WaitingForTokenServer"),
        (OK_MAP, ("Unknown", "WaitingForTokenServer"), OK_SECRETS),
        c.RECONCILING,
    ),
    "waiting for the first": (
        Case(NO_PLAN, record=PENDING, targets=BARE, secrets=()),
        (),
        WAITING,
        ("Unknown", "WaitingForTokenServer"),
        (OK_MAP, ("Unknown", "WaitingForTokenServer"), ("Unknown", "NotWritten")),
        c.RECONCILING,
    ),
    "waiting for the next": (
        Case(NO_PLAN),
        (),
        WAITING,
        ("True", "Ready"),
        (OK_MAP, OK_PASSWORD, OK_SECRETS),
        c.RECONCILING,
    ),
    "nothing yet": (
        Case(NO_PLAN, record=EMPTY, targets=BARE, secrets=()),
        (),
        None,
        ("Unknown", "NoPassword"),
        (OK_MAP, ("Unknown", "NoPassword"), ("Unknown", "NotWritten")),
        c.RECONCILING,
    ),
    "refused": (
        Case(NO_PLAN),
        (REFUSED,),
        None,
        ("False", "WriteRefused"),
        (OK_MAP, OK_PASSWORD, ("False", "WriteRefused")),
        c.STALLED,
    ),
    "not owned": (
        Case(NO_PLAN),
        (NOT_OWNED,),
        None,
        ("False", "SecretNotOwned"),
        (OK_MAP, OK_PASSWORD, ("False", "SecretNotOwned")),
        c.STALLED,
    ),
    "namespace missing": (
        Case(NO_PLAN, targets=(target(there=secret()), target("staging", seen=None))),
        (),
        None,
        ("False", "NamespaceNotFound"),
        (OK_MAP, OK_PASSWORD, ("False", "NamespaceNotFound")),
        c.RECONCILING,
    ),
    "no consent": (
        Case(NO_PLAN, targets=(target(there=secret()), target("staging", consents=False))),
        (),
        None,
        ("False", "NamespaceNotConsenting"),
        (OK_MAP, OK_PASSWORD, ("False", "NamespaceNotConsenting")),
        c.STALLED,
    ),
    "account missing": (
        Case(NO_PLAN, DEFAULT),
        (),
        None,
        ("False", "ServiceAccountNotFound"),
        (OK_MAP, OK_PASSWORD, ("False", "ServiceAccountNotFound")),
        c.RECONCILING,
    ),
    "contested": (
        Case(
            NO_PLAN, DEFAULT, targets=(target(there=secret(), accounts=(account(),)),), holds={ENTRY: Backoff(NOW + H)}
        ),
        (),
        None,
        ("False", "Contested"),
        (OK_MAP, OK_PASSWORD, ("False", "Contested")),
        c.STALLED,
    ),
    "account there": (
        Case(NO_PLAN, DEFAULT, targets=(target(there=secret(), accounts=(account(entry=True),)),)),
        (),
        None,
        ("True", "Ready"),
        (OK_MAP, OK_PASSWORD, OK_SECRETS),
        None,
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_conditions(name: str) -> None:
    case, problems, waiting, ready, parts, abnormal = TABLE[name]
    conditions = found(status_of(case, *problems, waiting=waiting))
    expected = {
        c.READY: ready,
        c.SCOPE_MAP_RESOLVED: parts[0],
        c.PASSWORDS_VALID: parts[1],
        c.PULL_SECRETS_SYNCED: parts[2],
    }
    if abnormal is not None:
        expected[abnormal] = ("True", "WaitingForTokenServer" if waiting else ready[1])
    assert conditions == expected


def test_every_reason_is_reached() -> None:
    reached = set()
    for case, problems, waiting, *_ in TABLE.values():
        reached |= {reason for _, reason in found(status_of(case, *problems, waiting=waiting)).values()}
    assert reached == {str(reason) for reason in Reason}


@pytest.mark.parametrize("name", TABLE)
def test_every_status_is_one_that_the_api_takes(name: str) -> None:
    case, problems, waiting, *_ = TABLE[name]
    status = status_of(case, *problems, waiting=waiting)
    read = RegistryTokenStatus.model_validate(status)
    assert read.model_dump(by_alias=True, exclude_none=True, exclude_unset=True, mode="json") == status
    assert all(entry["message"] and entry["observedGeneration"] == 1 for entry in status["conditions"])
    assert status["observedGeneration"] == 1
    assert status["username"] == "web.reader"


@pytest.mark.parametrize("name", TABLE)
def test_no_status_holds_hash_or_nonce(name: str) -> None:
    case, problems, waiting, *_ = TABLE[name]
    text = json.dumps(status_of(case, *problems, waiting=waiting))
    assert '"hash"' not in text
    assert '"nonce"' not in text
    assert "seed" not in text


@pytest.mark.parametrize("name", TABLE)
def test_a_second_look_changes_nothing(name: str) -> None:
    case, problems, waiting, *_ = TABLE[name]
    facts = case.facts()
    made_plan = decide(facts, NOW)
    first = build(facts, made_plan, problems, waiting, NOW)
    facts = replace(facts, token=replace(facts.token, status=Document.of(first)))
    assert build(facts, made_plan, problems, waiting, NOW + timedelta(seconds=30)) == first


def test_the_transition_time_moves_with_the_status_alone() -> None:
    case = Case(NO_PLAN)
    facts = case.facts()
    before = build(facts, decide(facts, NOW), (), None, NOW)
    facts = replace(facts, token=replace(facts.token, status=Document.of(before), generation=2))
    later = NOW + timedelta(minutes=5)
    after = {entry["type"]: entry for entry in build(facts, decide(facts, NOW), (REFUSED,), None, later)["conditions"]}
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
    assert status_of(Case(NO_PLAN, record=record))["passwords"] == [
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
        (shown,) = status_of(Case(NO_PLAN, REVOKED_FOR_GOOD, record=record))["passwords"]
        assert shown["state"] == "Revoked"


def test_who_revoked_it_is_told_which_and_how_to_get_another() -> None:
    message = ready_reason(status_of(Case(NO_PLAN, REVOKED_FOR_GOOD)))[2]
    assert message == (
        "password 4f9c1e is revoked (spec.passwords.revoked) and onExpiry is Revoke; "
        "ask for a new one with its full lifetime by the annotation pullpass.dev/rotate-requested-at"
    )
    assert "pullpass.dev/rotate-requested-at" in ready_reason(status_of(Case(NO_PLAN, REVOKE, record=DEAD)))[2]


def test_requests_are_echoed_once_the_password_is_published() -> None:
    keys = ("lastHandledRotateRequest", "lastHandledRegenerateRequest")
    asked, handled = Requests("later", "later"), replace(FRESH, requests=Requests("now", "leak"))

    def told(record: Record, before: dict[str, Any]) -> tuple[Any, ...]:
        facts = Case(NO_PLAN, record=record, requests=asked).facts()
        status = build(replace(facts, token=replace(facts.token, status=Document.of(before))), NO_PLAN, (), None, NOW)
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
    assert status_of(Case(NO_PLAN, spec)).get("accessEndsAt") == ends


def test_what_happens_next_and_when() -> None:
    status = status_of(Case(NO_PLAN))
    assert (status["nextTransition"], status["nextTransitionTime"]) == ("Rotate", "2027-03-01T13:00:00Z")
    assert "nextTransition" not in status_of(Case(NO_PLAN, {"enabled": False, "expiresAt": NOW + H}))
    assert "nextTransition" not in status_of(Case(NO_PLAN, {"passwords": {}}, record=SETTLED))


def test_many_problems_are_counted_and_not_all_listed() -> None:
    problems = [replace(REFUSED, message=f"Secret n{number}/reader-pull: quota") for number in range(64)]
    message = ready_reason(status_of(Case(NO_PLAN), *problems))[2]
    assert message.count("quota") == 5
    assert message.endswith("and 59 more")
    assert len(message) < 1024


def test_the_longest_message_fits() -> None:
    problems = [replace(REFUSED, message="x" * 5000) for _ in range(64)]
    assert RegistryTokenStatus.model_validate(status_of(Case(NO_PLAN), *problems))


@pytest.mark.parametrize("status", [None, {}, {"conditions": None}, {"conditions": [{"type": "Stalled"}]}])
def test_where_there_is_no_ready_condition(status: Any) -> None:
    assert ready_reason(status) == ("", "", "")


def test_the_places_are_counted() -> None:
    one = {entry["type"]: entry["message"] for entry in status_of(Case(NO_PLAN))["conditions"]}
    two = status_of(Case(NO_PLAN, targets=(target(there=secret()), target("staging", secret("staging")))))
    assert one[c.PULL_SECRETS_SYNCED] == "Secret reader-pull is in place in this namespace"
    assert "in place in 2 namespaces" in json.dumps(two)


def test_a_further_namespace_that_goes_counts_as_gone() -> None:
    gone = target("staging", seen=replace(NAMESPACE, terminating=True))
    assert found(status_of(Case(NO_PLAN, targets=(target(there=secret()), gone))))[c.READY] == (
        "False",
        "NamespaceNotFound",
    )
    own = target(there=secret(), seen=replace(NAMESPACE, terminating=True))
    assert found(status_of(Case(NO_PLAN, targets=(own,))))[c.READY] == ("True", "Ready"), "the token goes with it"
