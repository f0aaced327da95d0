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
from pullpass.controller.places.repairs import ManagedItem
from pullpass.controller.tokens.plan import Facts, Plan
from pullpass.credentials.rotation import state_of

_HEALS = {
    Reason.SCOPE_MAP_NOT_FOUND,
    Reason.REGISTRY_NOT_FOUND,
    Reason.NAMESPACE_NOT_FOUND,
    Reason.SERVICE_ACCOUNT_NOT_FOUND,
    Reason.WAITING_FOR_TOKEN_SERVER,
    Reason.NOT_WRITTEN,
    Reason.NO_PASSWORD,
}
"""Reasons that may pass without anybody changing this token: kstatus calls that Reconciling, the rest Stalled."""
_ENDED = {Reason.TOKEN_DISABLED, Reason.TOKEN_EXPIRED, Reason.PASSWORD_EXPIRED, Reason.PASSWORD_REVOKED}
"""Somebody wanted it so: neither Reconciling nor Stalled."""
_SHOWN = 5
"""How many places a message names before it only counts them."""


@dataclass(frozen=True)
class Problem:
    """Something that kept a pull secret from being as it should."""

    namespace: str
    reason: Reason
    message: str
    told: bool = True
    """False where it is only to be tried again."""


def build(facts: Facts, plan: Plan, problems: Sequence[Problem], waiting: str | None, now: datetime) -> dict[str, Any]:
    """The whole status. `waiting` says which token server does not accept a new password yet, if one does not."""
    findings = _findings(facts, plan, problems, waiting, now)
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
    facts: Facts, plan: Plan, problems: Sequence[Problem], waiting: str | None, now: datetime
) -> list[Finding]:
    scope = _scope_map(facts)
    passwords = _password(facts, plan, waiting, now)
    secrets = _pull_secrets(facts, plan, problems)
    parts = [scope, passwords, secrets]
    bad = next((part for part in parts if part.status != "True"), None)
    if bad is None:
        ready = Finding(c.READY, "True", Reason.READY, "pods can pull with this token")
    else:
        ready = Finding(c.READY, bad.status, bad.reason, bad.message)
    findings = [ready, *parts]
    if waiting is not None and ready.status == "True":
        findings.append(Finding(c.RECONCILING, "True", Reason.WAITING_FOR_TOKEN_SERVER, waiting))
    elif ready.status != "True" and ready.reason in _HEALS:
        findings.append(Finding(c.RECONCILING, "True", ready.reason, ready.message))
    elif ready.status != "True" and ready.reason not in _ENDED:
        findings.append(Finding(c.STALLED, "True", ready.reason, ready.message))
    return findings


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


def _password(facts: Facts, plan: Plan, waiting: str | None, now: datetime) -> Finding:
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
    if waiting is not None:
        return finding("Unknown", Reason.WAITING_FOR_TOKEN_SERVER, waiting)
    if revoked is not None:
        message = f"password {revoked} is revoked (spec.passwords.revoked)"
        if plan.ended == "revoked":
            message += (
                " and onExpiry is Revoke; ask for a new one with its full lifetime "
                f"by the annotation {names.ROTATE_ANNOTATION}"
            )
        return finding("False", Reason.PASSWORD_REVOKED, message)
    return finding("Unknown", Reason.NO_PASSWORD, "no password is made until the scope map may be used")


def _pull_secrets(facts: Facts, plan: Plan, problems: Sequence[Problem]) -> Finding:
    def finding(status: c.Status, reason: Reason, message: str) -> Finding:
        return Finding(c.PULL_SECRETS_SYNCED, status, reason, message)

    if facts.spec is None:
        return finding("Unknown", Reason.SPEC_INVALID, "the spec cannot be read")
    if plan.ended is not None and facts.spec.pull_secret.when_revoked == "Remove":
        return finding(
            "True", Reason.REMOVED, "access has ended and the pull secrets are removed (whenRevoked: Remove)"
        )
    found = [*problems, *map(_contested, sorted(plan.contested)), *_missing(facts)]
    if found:
        texts = [problem.message for problem in found[:_SHOWN]]
        if len(found) > _SHOWN:
            texts.append(f"and {len(found) - _SHOWN} more")
        return finding("False", found[0].reason, "; ".join(texts))
    if facts.record.published is None:
        return finding("Unknown", Reason.NOT_WRITTEN, "the pull secret is written once there is a password")
    places = len(facts.targets)
    where = "this namespace" if places == 1 else f"{places} namespaces"
    return finding("True", Reason.SYNCED, f"Secret {facts.targets[0].wanted.name} is in place in {where}")


def _contested(matter: ManagedItem) -> Problem:
    if matter.account:
        message = (
            f"another controller keeps taking {matter.secret} out of the imagePullSecrets of ServiceAccount "
            f"{matter.namespace}/{matter.account}; find out what manages that ServiceAccount and name the Secret in "
            "its manifest, or take the ServiceAccount out of spec.pullSecret.serviceAccounts"
        )
    else:
        message = (
            f"another controller keeps changing or deleting Secret {matter.namespace}/{matter.secret}; "
            "find out what manages that Secret and have it leave the Secret alone"
        )
    return Problem(matter.namespace, Reason.CONTESTED, message)


def _missing(facts: Facts) -> list[Problem]:
    assert facts.spec is not None
    problems = []
    own = facts.token.namespace
    for target in facts.targets:
        place = target.wanted.namespace
        if target.namespace is None:
            problems.append(
                Problem(place, Reason.NAMESPACE_NOT_FOUND, f"namespace {place} of spec.pullSecret does not exist")
            )
        elif target.namespace.terminating and place != own:
            problems.append(Problem(place, Reason.NAMESPACE_NOT_FOUND, f"namespace {place} is being deleted"))
        elif not target.consents:
            problems.append(
                Problem(
                    place,
                    Reason.NAMESPACE_NOT_CONSENTING,
                    f"namespace {place} does not accept pull secrets from {own}; "
                    f"its owner can annotate it with {names.ACCEPT_ANNOTATION}: {own}",
                )
            )
        else:
            problems += [
                Problem(
                    place,
                    Reason.SERVICE_ACCOUNT_NOT_FOUND,
                    f"there is no ServiceAccount {name} in namespace {place}; "
                    "create it or take it out of spec.pullSecret.serviceAccounts",
                )
                for name in facts.spec.pull_secret.service_accounts
                if name != "*" and name not in target.service_accounts
            ]
    return problems


def ready_reason(status: Any) -> tuple[str, str, str]:
    """Status, reason and message of the Ready condition in a status, empty where there is none."""
    for condition in (status or {}).get("conditions") or []:
        if condition.get("type") == c.READY:
            return condition.get("status", ""), condition.get("reason", ""), condition.get("message", "")
    return "", "", ""
