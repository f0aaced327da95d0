"""The status of a RegistryToken: what is so, in conditions for programs and sentences for people. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pullpass.api import conditions as c
from pullpass.api import names
from pullpass.api.conditions import Finding, Reason
from pullpass.api.registrytoken import SLOTS
from pullpass.api.scopemap import ScopeMapSpec
from pullpass.api.times import format_time
from pullpass.controller.facts import Facts
from pullpass.controller.places.plan import Place
from pullpass.controller.places.repairs import Item
from pullpass.controller.places.report import Problem
from pullpass.controller.tokens.plan import PlaceState, TokenPlan
from pullpass.credentials.rotation import state_of

_HEALS = {
    Reason.SCOPE_MAP_NOT_FOUND,
    Reason.REGISTRY_NOT_FOUND,
    Reason.NAMESPACE_NOT_FOUND,
    Reason.SERVICE_ACCOUNT_NOT_FOUND,
    Reason.WAITING_FOR_TOKEN_SERVER,
    Reason.SIGNING_KEY_UNAVAILABLE,
    Reason.NOT_WRITTEN,
    Reason.NO_PASSWORD,
    Reason.WRITE_FAILED,
    Reason.RECORD_NOT_WRITTEN,
}
"""Reasons that may pass without anybody changing this token: kstatus calls that Reconciling, the rest Stalled."""
_ENDED = {
    Reason.TOKEN_DISABLED,
    Reason.TOKEN_EXPIRED,
    Reason.PASSWORD_EXPIRED,
    Reason.PASSWORD_REVOKED,
    Reason.DELETING,
}
"""Somebody wanted it so: neither Reconciling nor Stalled."""
_WITHOUT_KEY = (
    "the password is valid, but logins at registry {} are answered with 503: token servers have no valid signing leaf "
    "of it; the operator's log says why it cannot give them one"
)
_SHOWN = 5
"""How many places a message names before it only counts them."""


@dataclass(frozen=True)
class Obstacle:
    """What keeps the passwords of a token from their next step."""

    reason: Reason
    message: str


def build(
    facts: Facts, plan: TokenPlan, states: Sequence[PlaceState], obstacle: Obstacle | None, now: datetime
) -> dict[str, Any]:
    """Makes the whole status."""
    findings = _findings(facts, plan, states, obstacle, now)
    status: dict[str, Any] = {
        "observedGeneration": facts.token.generation,
        "username": names.username(facts.token.namespace, facts.token.name),
        "conditions": c.to_conditions(
            findings, facts.token.status.read().get("conditions") or [], facts.token.generation, now
        ),
    }
    passwords = _passwords(facts, now)
    if passwords:
        status["passwords"] = passwords
    status |= _handled(facts)
    ends = _access_ends(facts)
    if ends is not None:
        status["accessEndsAt"] = format_time(ends)
    if plan.due is not None and plan.transition is not None:
        status["nextTransitionTime"] = format_time(plan.due)
        status["nextTransition"] = plan.transition
    return status


def _handled(facts: Facts) -> dict[str, str]:
    """The requests that the published password was made under; the last ones told while there is none."""
    keys = ("lastHandledRotateRequest", "lastHandledRegenerateRequest")
    if facts.record.published is None:
        told = facts.token.status.read()
        return {key: told[key] for key in keys if key in told}
    requests = facts.record.slots[facts.record.published].requests
    values = (requests.rotate, requests.regenerate)
    return {key: value for key, value in zip(keys, values, strict=True) if value}


def _revoked(facts: Facts) -> Sequence[str]:
    return facts.spec.passwords.revoked if facts.spec is not None else ()


def _passwords(facts: Facts, now: datetime) -> list[dict[str, Any]]:
    shown = []
    for name in SLOTS:
        slot = facts.record.slots.get(name)
        if slot is None:
            continue
        entry = {"slot": name, "id": slot.id, "createdAt": format_time(slot.created_at)}
        if slot.expires_at is not None:
            entry["expiresAt"] = format_time(slot.expires_at)
        if slot.valid_until is not None:
            entry["validUntil"] = format_time(slot.valid_until)
        entry["state"] = state_of(facts.record, name, slot, _revoked(facts), now)
        shown.append(entry)
    return shown


def _access_ends(facts: Facts) -> datetime | None:
    if facts.spec is None:
        return None
    ends = [facts.spec.expires_at]
    if facts.spec.passwords.on_expiry == "Revoke" and facts.record.published is not None:
        ends.append(facts.record.slots[facts.record.published].expires_at)
    return min((end for end in ends if end is not None), default=None)


def _findings(
    facts: Facts, plan: TokenPlan, states: Sequence[PlaceState], obstacle: Obstacle | None, now: datetime
) -> list[Finding]:
    scope = _scope_map(facts)
    if facts.token.deleting:
        return _deleting(facts, scope)
    passwords = _password(facts, plan, states, obstacle, now)
    secrets = _pull_secrets(facts, plan, states)
    parts = [scope, passwords, secrets]
    bad = next((part for part in parts if part.status != "True"), None)
    if bad is None and _without_key(facts):
        assert facts.registry is not None
        ready = Finding(c.READY, "False", Reason.SIGNING_KEY_UNAVAILABLE, _WITHOUT_KEY.format(facts.registry.name))
    elif bad is None:
        ready = Finding(c.READY, "True", Reason.READY, "pods can pull with this token")
    else:
        ready = Finding(c.READY, bad.status, bad.reason, bad.message)
    findings = [ready, *parts]
    if obstacle is not None and ready.status == "True":
        findings.append(Finding(c.RECONCILING, "True", obstacle.reason, obstacle.message))
    elif ready.status != "True" and ready.reason in _HEALS:
        findings.append(Finding(c.RECONCILING, "True", ready.reason, ready.message))
    elif ready.status != "True" and ready.reason not in _ENDED:
        findings.append(Finding(c.STALLED, "True", ready.reason, ready.message))
    return findings


def _without_key(facts: Facts) -> bool:
    """Whether the token servers cannot issue access tokens. An operator that has not asked them yet takes the word of
    the one before."""
    if facts.issuing is not None:
        return not facts.issuing
    return condition(facts.token.status.read(), c.READY)[1] == Reason.SIGNING_KEY_UNAVAILABLE


def _deleting(facts: Facts, scope: Finding) -> list[Finding]:
    message = "the token is being deleted: its passwords are refused, and no others are made"
    if facts.token.finalizers:
        message += f"; it is gone once its finalizers are: {', '.join(facts.token.finalizers[:_SHOWN])}"
    left = "the token is being deleted: its pull secrets are left as they are until it is gone"
    return [
        Finding(c.READY, "False", Reason.DELETING, message),
        scope,
        Finding(c.PASSWORDS_VALID, "False", Reason.DELETING, message),
        Finding(c.PULL_SECRETS_SYNCED, "Unknown", Reason.DELETING, left),
    ]


def _scope_map(facts: Facts) -> Finding:
    def finding(status: c.Status, reason: Reason, message: str) -> Finding:
        return Finding(c.SCOPE_MAP_RESOLVED, status, reason, message)

    if facts.spec is None:
        return finding(
            "False",
            Reason.SPEC_INVALID,
            "the spec cannot be read; compare it with kubectl explain registrytoken.spec",
        )
    name = facts.spec.scope_map_ref.name
    if facts.scope_map == "missing":
        return finding(
            "False",
            Reason.SCOPE_MAP_NOT_FOUND,
            f"there is no ScopeMap {name}; create it or name another in spec.scopeMapRef",
        )
    if facts.scope_map == "invalid":
        return finding(
            "False",
            Reason.SCOPE_MAP_INVALID,
            f"ScopeMap {name} cannot be read; compare it with kubectl explain scopemap.spec",
        )
    if not facts.allowed:
        return finding(
            "False",
            Reason.NAMESPACE_NOT_ALLOWED,
            f"ScopeMap {name} may not be used from namespace {facts.token.namespace}; "
            "ask its owner to allow it in spec.allowedNamespaces",
        )
    if facts.registry is None:
        assert isinstance(facts.scope_map, ScopeMapSpec)
        return finding(
            "False",
            Reason.REGISTRY_NOT_FOUND,
            f"ScopeMap {name} is for registry {facts.scope_map.registry}, and pullpass has {_those(facts.registries)}; "
            "have that registry added to it, or name a ScopeMap for one that it has",
        )
    return finding("True", Reason.SCOPE_MAP_FOUND, f"ScopeMap {name} may be used from this namespace")


def _those(registries: Sequence[str]) -> str:
    if len(registries) == 1:
        return f"only {registries[0]}"
    shown = registries[:_SHOWN]
    more = f" and {len(registries) - _SHOWN} more" if len(registries) > _SHOWN else ""
    return f"the registries {', '.join(shown)}{more}"


def _password(
    facts: Facts, plan: TokenPlan, states: Sequence[PlaceState], obstacle: Obstacle | None, now: datetime
) -> Finding:
    def finding(status: c.Status, reason: Reason, message: str) -> Finding:
        return Finding(c.PASSWORDS_VALID, status, reason, message)

    spec = facts.spec
    if spec is not None and spec.expires_at is not None and spec.expires_at <= now:
        return finding(
            "False",
            Reason.TOKEN_EXPIRED,
            f"the token ended at {format_time(spec.expires_at)} (spec.expiresAt)",
        )
    if spec is not None and not spec.enabled:
        return finding("False", Reason.TOKEN_DISABLED, "the token is disabled (spec.enabled: false)")
    if plan.ended == "password":
        return finding(
            "False",
            Reason.PASSWORD_EXPIRED,
            "the password has ended and spec.passwords.onExpiry is Revoke; ask for a new one with its full lifetime "
            f"by the annotation {names.ROTATE_ANNOTATION}, or lengthen spec.passwords.lifetime",
        )
    published = facts.record.published
    last = published if published is not None else facts.record.pending
    revoked = facts.record.slots[last].id if last is not None else None
    if revoked not in _revoked(facts):
        revoked = None
    if published is not None and facts.record.slots[published].valid_at(now) and revoked is None:
        return finding("True", Reason.PASSWORD_ACTIVE, f"the password in {published} is valid")
    if obstacle is not None:
        return finding("Unknown", obstacle.reason, obstacle.message)
    if revoked is not None:
        message = f"password {revoked} is revoked (spec.passwords.revoked)"
        if plan.ended == "revoked":
            message += (
                " and onExpiry is Revoke; ask for a new one with its full lifetime "
                f"by the annotation {names.ROTATE_ANNOTATION}"
            )
        return finding("False", Reason.PASSWORD_REVOKED, message)
    if not facts.active:
        return finding("Unknown", Reason.NO_PASSWORD, "no password is made until the scope map may be used")
    pending = facts.record.pending
    if pending is None:
        return finding("Unknown", Reason.NO_PASSWORD, "a password is being made")
    late = [s.place.namespace for s in states if s.place.usable and not s.place.has(facts, pending)]
    waits = f", and waits for namespace {_list(late)}" if late else ""
    message = f"password {facts.record.slots[pending].id} is being published{waits}"
    return finding("Unknown", Reason.NOT_WRITTEN, message)


def _pull_secrets(facts: Facts, plan: TokenPlan, states: Sequence[PlaceState]) -> Finding:
    def finding(status: c.Status, reason: Reason, message: str) -> Finding:
        return Finding(c.PULL_SECRETS_SYNCED, status, reason, message)

    if facts.spec is None:
        return finding("Unknown", Reason.SPEC_INVALID, "the spec cannot be read")
    wanted = [state for state in states if state.place.wanted is not None]
    if plan.ended is not None and facts.spec.pull_secret.when_revoked == "Remove":
        left = [state for state in wanted if state.has_older]
        problems = [problem for s in left if s.report is not None and s.report.told for problem in s.report.problems]
        if problems:
            return finding("False", problems[0].reason, _texts(problems))
        if left:
            where = _list([state.place.namespace for state in left])
            message = f"access has ended, and the pull secret is being removed from namespace {where}"
            return finding("Unknown", Reason.NOT_WRITTEN, message)
        return finding(
            "True", Reason.REMOVED, "access has ended and the pull secrets are removed (whenRevoked: Remove)"
        )
    live = facts.active and plan.ended is None
    reports = [state.report for state in wanted if live and state.place.usable and state.report is not None]
    told = [report for report in reports if report.told]
    problems = [problem for report in told for problem in report.problems]
    problems += [_contested(item) for report in told for item in sorted(report.contested)]
    problems += [problem for state in wanted for problem in _missing(facts, state.place)]
    if problems:
        return finding("False", problems[0].reason, _texts(problems))
    if facts.record.published is None:
        return finding("Unknown", Reason.NOT_WRITTEN, "the pull secret is written once there is a password")
    late = [state.place.namespace for state in wanted if live and state.settling and state.place.usable]
    if late:
        return finding("Unknown", Reason.NOT_WRITTEN, f"the pull secret is being written in namespace {_list(late)}")
    where = "this namespace" if len(wanted) == 1 else f"{len(wanted)} namespaces"
    return finding("True", Reason.SYNCED, f"Secret {facts.token.pull_secret_name} is in place in {where}")


def _texts(problems: Sequence[Problem]) -> str:
    texts = [problem.message for problem in problems[:_SHOWN]]
    if len(problems) > _SHOWN:
        texts.append(f"and {len(problems) - _SHOWN} more")
    return "; ".join(texts)


def _list(namespaces: Sequence[str]) -> str:
    more = f" and {len(namespaces) - _SHOWN} more" if len(namespaces) > _SHOWN else ""
    return ", ".join(namespaces[:_SHOWN]) + more


def _contested(item: Item) -> Problem:
    if item.account:
        message = (
            f"another controller keeps taking {item.secret} out of the imagePullSecrets of ServiceAccount "
            f"{item.namespace}/{item.account}; find out what manages that ServiceAccount and name the Secret in "
            "its manifest, or take the ServiceAccount out of spec.pullSecret.serviceAccounts"
        )
    else:
        message = (
            f"another controller keeps changing or deleting Secret {item.namespace}/{item.secret}; "
            "find out what manages that Secret and have it leave the Secret alone"
        )
    return Problem(item.namespace, Reason.CONTESTED, message)


def _missing(facts: Facts, place: Place) -> list[Problem]:
    assert facts.spec is not None
    own, namespace = facts.token.namespace, place.namespace
    if place.seen is None:
        message = f"namespace {namespace} of spec.pullSecret does not exist"
        return [Problem(namespace, Reason.NAMESPACE_NOT_FOUND, message)]
    if place.seen.terminating and namespace != own:
        return [Problem(namespace, Reason.NAMESPACE_NOT_FOUND, f"namespace {namespace} is being deleted")]
    if not place.consents:
        message = (
            f"namespace {namespace} does not accept pull secrets from {own}; "
            f"its owner can annotate it with {names.ACCEPT_ANNOTATION}: {own}"
        )
        return [Problem(namespace, Reason.NAMESPACE_NOT_CONSENTING, message)]
    return [
        Problem(
            namespace,
            Reason.SERVICE_ACCOUNT_NOT_FOUND,
            f"there is no ServiceAccount {name} in namespace {namespace}; "
            "create it or take it out of spec.pullSecret.serviceAccounts",
        )
        for name in facts.spec.pull_secret.service_accounts
        if name != "*" and name not in place.service_accounts
    ]


def condition(status: Any, *types: str) -> tuple[str, str, str]:
    """Status, reason and message of the first of these conditions that a status has, empty where it has none."""
    found = {condition.get("type"): condition for condition in (status or {}).get("conditions") or []}
    for type_ in types:
        if type_ in found:
            return found[type_].get("status", ""), found[type_].get("reason", ""), found[type_].get("message", "")
    return "", "", ""
