"""Conditions of a RegistryToken: types, reasons, and how a list of them changes over time.

Follows metav1.Condition and the abnormal-true conditions of kstatus (Reconciling, Stalled).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field

from pullpass.api.fields import Model, Time
from pullpass.api.times import format_time

READY = "Ready"
SCOPE_MAP_RESOLVED = "ScopeMapResolved"
PASSWORDS_VALID = "PasswordsValid"
PULL_SECRETS_SYNCED = "PullSecretsSynced"
RECONCILING = "Reconciling"
STALLED = "Stalled"

Status = Literal["True", "False", "Unknown"]


class Reason(StrEnum):
    """Every reason a condition or event of ours can give; docs/troubleshooting.md has a section for each."""

    READY = "Ready"
    SCOPE_MAP_FOUND = "ScopeMapFound"
    SCOPE_MAP_NOT_FOUND = "ScopeMapNotFound"
    SCOPE_MAP_INVALID = "ScopeMapInvalid"
    REGISTRY_NOT_FOUND = "RegistryNotFound"
    NAMESPACE_NOT_ALLOWED = "NamespaceNotAllowed"
    SPEC_INVALID = "SpecInvalid"
    PASSWORD_ACTIVE = "PasswordActive"
    PASSWORD_EXPIRED = "PasswordExpired"
    PASSWORD_REVOKED = "PasswordRevoked"
    NO_PASSWORD = "NoPassword"
    TOKEN_DISABLED = "TokenDisabled"
    TOKEN_EXPIRED = "TokenExpired"
    DELETING = "Deleting"
    WAITING_FOR_TOKEN_SERVER = "WaitingForTokenServer"
    SIGNING_KEY_UNAVAILABLE = "SigningKeyUnavailable"
    SYNCED = "Synced"
    REMOVED = "Removed"
    NOT_WRITTEN = "NotWritten"
    SECRET_NOT_OWNED = "SecretNotOwned"
    NAMESPACE_NOT_FOUND = "NamespaceNotFound"
    NAMESPACE_NOT_CONSENTING = "NamespaceNotConsenting"
    SERVICE_ACCOUNT_NOT_FOUND = "ServiceAccountNotFound"
    WRITE_REFUSED = "WriteRefused"
    WRITE_FAILED = "WriteFailed"
    RECORD_NOT_WRITTEN = "RecordNotWritten"
    STATUS_NOT_WRITTEN = "StatusNotWritten"
    CONTESTED = "Contested"


class Condition(Model):
    """A metav1.Condition."""

    type: Annotated[str, Field(max_length=316)]
    """Type of the condition."""
    status: Status
    """True, False or Unknown."""
    observed_generation: Annotated[int | None, Field(json_schema_extra={"format": "int64"})] = None
    """The generation of the spec that the condition speaks of."""
    last_transition_time: Time
    """When the status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=1024)]
    """The reason in one word."""
    message: Annotated[str, Field(max_length=32768)]
    """The reason in words, with the next step."""


@dataclass(frozen=True)
class Finding:
    """What is so now; becomes a Condition once it is known since when."""

    type: str
    status: Status
    reason: Reason
    message: str


def to_conditions(
    findings: Iterable[Finding], previous: Iterable[Mapping[str, Any]], generation: int, now: datetime
) -> list[dict[str, Any]]:
    """Conditions for the status; lastTransitionTime moves only where the status differs from `previous`."""
    before = {condition.get("type"): condition for condition in previous}
    conditions = []
    for finding in findings:
        old = before.get(finding.type)
        same = old is not None and old.get("status") == finding.status and old.get("lastTransitionTime")
        conditions.append(
            {
                "type": finding.type,
                "status": finding.status,
                "observedGeneration": generation,
                "lastTransitionTime": old["lastTransitionTime"] if old is not None and same else format_time(now),
                "reason": str(finding.reason),
                "message": finding.message,
            }
        )
    return conditions
