"""The RegistryToken kind: an identity with rotating passwords, bound to one ScopeMap.

Modelled on the tokens of Azure Container Registry: two password slots, optional ends, enabled or not.
"""

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from pullpass.api import names
from pullpass.api.conditions import Condition
from pullpass.api.fields import (
    SUBDOMAIN,
    Duration,
    EndTime,
    Model,
    NamespaceName,
    ObjectName,
    Time,
    rule,
    rules,
)

DEFAULT_OVERLAP = timedelta(hours=1)

LONGEST_REQUEST = 64
"""Characters of a request's annotation value that are read; what is longer is cut to that."""

OVERLAP_TOO_LONG = (
    "overlap must not be longer than the time between two rotations, which is lifetime less renewBefore "
    "(a third of lifetime if not given): there are two password slots"
)

SlotName = Literal["password1", "password2"]
SLOTS: tuple[SlotName, SlotName] = ("password1", "password2")


class ScopeMapRef(Model):
    """Names a ScopeMap."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-map-type": "atomic"})

    name: ObjectName
    """Name of the ScopeMap, which is cluster-scoped."""


# Whatever matches can be converted by CEL's duration().
_CONVERTIBLE = "^([0-9]{1,6}[hm]|[0-9]{1,8}s)+$"


def _compared(*names: str) -> str:
    """Begins a CEL rule on durations: it holds where one is absent, or malformed, which has its own sentence."""
    return "".join(f"!has(self.{n}) || !self.{n}.matches('{_CONVERTIBLE}') || " for n in names)


PasswordId = Annotated[
    str,
    Field(
        # Longer than an id, so that a typing error gets the sentence. A whole password is too long: it is not quoted.
        max_length=16,
        json_schema_extra=rules(
            rule(
                "self.matches('^[0-9a-f]{6}$')",
                "the id of a password is six hexadecimal digits, such as 4f9c1e; status.passwords shows it",
            )
        ),
    ),
]


class Passwords(Model):
    """How long passwords live and what happens at their end."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                _compared("lifetime") + "duration(self.lifetime) >= duration('1m')",
                "lifetime is at least one minute",
            ),
            rule(
                "!has(self.renewBefore) || has(self.lifetime)",
                "renewBefore needs a lifetime: a password without one never expires",
            ),
            rule(
                "!has(self.renewBefore) || self.onExpiry == 'Rotate'",
                "renewBefore goes with 'onExpiry: Rotate', and only with it",
            ),
            rule(
                _compared("renewBefore", "lifetime") + "duration(self.renewBefore) < duration(self.lifetime)",
                "renewBefore must be shorter than lifetime",
            ),
            rule(
                _compared("renewBefore") + "duration(self.renewBefore) >= duration('10s')",
                "renewBefore is at least ten seconds: the new password must be in place before the old one ends",
            ),
            rule(
                "self.onExpiry != 'Rotate' || has(self.renewBefore) || "
                + _compared("overlap", "lifetime")
                + "duration(self.overlap).getSeconds() * 3 <= duration(self.lifetime).getSeconds() * 2",
                OVERLAP_TOO_LONG,
            ),
            rule(
                "self.onExpiry != 'Rotate' || "
                + _compared("renewBefore", "overlap", "lifetime")
                + "duration(self.renewBefore) >= duration(self.lifetime) || "
                "duration(self.overlap) <= duration(self.lifetime) - duration(self.renewBefore)",
                OVERLAP_TOO_LONG,
            ),
        )
    )

    lifetime: Duration | None = None
    """How long a password is valid, such as 720h. Omitted: passwords do not expire."""
    on_expiry: Literal["Rotate", "Revoke"] = "Rotate"
    """Rotate: a new password takes over before the old one ends. Revoke: access ends with the password."""
    renew_before: Duration | None = None
    """How long before its end a password is replaced. Default: a third of lifetime."""
    overlap: Duration | None = None
    """How long the replaced password stays valid once the new one is in the pull secrets.
    Default: 1h, or half the time between two rotations if that is shorter."""

    revoked: Annotated[list[PasswordId], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "set"})] = []
    """Public ids of passwords that are refused from now on, whatever their dates. One that is in use is replaced
    at once, unless access ends with it (onExpiry: Revoke with a lifetime)."""

    @property
    def effective_renew_before(self) -> timedelta:
        """renewBefore with its default; zero where passwords do not expire."""
        return self.renew_before if self.renew_before is not None else (self.lifetime or timedelta()) / 3

    @property
    def effective_overlap(self) -> timedelta:
        """Overlap with its default."""
        if self.overlap is not None:
            return self.overlap
        if self.lifetime is None or self.on_expiry == "Revoke":
            return DEFAULT_OVERLAP
        return min(DEFAULT_OVERLAP, (self.lifetime - self.effective_renew_before) / 2)


ServiceAccountName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra=rules(
            rule(
                f"self == '*' || self.matches('^{SUBDOMAIN}$')",
                "a ServiceAccount is named by lower-case letters, digits, dashes and dots; * alone stands for all",
            )
        ),
    ),
]


class PullSecret(Model):
    """Where the password is published as a kubernetes.io/dockerconfigjson Secret."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(has(self.name) ? self.name : '') == (has(oldSelf.name) ? oldSelf.name : '')",
                "the name of the pull secret cannot be changed, pods refer to it; make another RegistryToken",
            ),
        )
    )

    name: ObjectName | None = None
    """Name of the Secret. Default: the token's name with -pull at its end."""
    service_accounts: Annotated[
        list[ServiceAccountName],
        Field(
            max_length=64,
            json_schema_extra=rules(
                rule(
                    "!self.exists(s, s == '*') || self.size() == 1",
                    "* stands for all ServiceAccounts of the namespace and must be the only entry",
                ),
                **{"x-kubernetes-list-type": "set"},
            ),
        ),
    ] = []
    """ServiceAccounts whose imagePullSecrets get the Secret, in each namespace it is written to; * for all."""
    namespaces: Annotated[
        list[NamespaceName], Field(max_length=64, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = []
    """Further namespaces that get the Secret. Each must consent by the annotation
    pullpass.dev/accept-pull-secrets-from on the Namespace."""
    when_revoked: Literal["Keep", "Remove"] = "Keep"
    """What becomes of the Secret once the token has ended: Keep leaves it with its dead password,
    Remove deletes it."""
    deletion_policy: Literal["Delete", "Retain"] = "Delete"
    """What becomes of the Secret once the RegistryToken is deleted."""


class RegistryTokenSpec(Model):
    """What the token may do, until when, and where its password goes."""

    scope_map_ref: ScopeMapRef
    """The ScopeMap that says what this token may do."""
    enabled: bool = True
    """False: refused from now on. Nothing is deleted, so true gives access back."""
    expires_at: EndTime | None = None
    """End of the whole token, an RFC 3339 time. Omitted: none."""
    passwords: Annotated[Passwords, Field(json_schema_extra={"default": {}})] = Passwords()
    """How long passwords live and what happens at their end."""
    pull_secret: Annotated[PullSecret, Field(json_schema_extra={"default": {}})] = PullSecret()
    """Where the password is published."""

    def pull_secret_name(self, token_name: str) -> str:
        """Name of the pull secret of a token of that name."""
        return names.pull_secret(token_name, self.pull_secret.name)


class PasswordStatus(Model):
    """One password slot; never the password."""

    slot: SlotName
    """The slot: password1 or password2."""
    id: Annotated[str, Field(max_length=16)]
    """Public id of the password; it also stands inside the password, and in audit lines."""
    created_at: Time
    """When the password was made."""
    expires_at: Time | None = None
    """When it ends by its lifetime."""
    valid_until: Time | None = None
    """When a replaced password ends."""
    state: Literal["Pending", "Active", "Retiring", "Expired", "Revoked"]
    """Pending: made, not yet published. Active: in the pull secrets. Retiring: replaced, valid until validUntil.
    Expired: past its end. Revoked: named in spec.passwords.revoked."""


class RegistryTokenStatus(Model):
    """What is so, as last seen by the operator."""

    observed_generation: Annotated[int | None, Field(json_schema_extra={"format": "int64"})] = None
    """The generation of the spec that this status speaks of."""
    username: Annotated[str | None, Field(max_length=317)] = None
    """The login name: <namespace>.<name>."""
    passwords: Annotated[
        list[PasswordStatus],
        Field(
            max_length=2,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["slot"]},
        ),
    ] = []
    """The password slots in use."""
    access_ends_at: Time | None = None
    """When access ends if nobody does anything; absent if it does not."""
    last_handled_rotate_request: Annotated[str | None, Field(max_length=LONGEST_REQUEST)] = None
    """The value of the annotation pullpass.dev/rotate-requested-at that the published password was made under."""
    last_handled_regenerate_request: Annotated[str | None, Field(max_length=LONGEST_REQUEST)] = None
    """The value of the annotation pullpass.dev/regenerate-requested-at that the published password was made
    under."""
    next_transition_time: Time | None = None
    """When something next happens by itself."""
    next_transition: Literal["Rotate", "Retire", "Expire"] | None = None
    """What happens then: Rotate (a new password), Retire (the replaced password ends), Expire (access ends)."""
    conditions: Annotated[
        list[Condition],
        Field(
            max_length=16,
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]},
        ),
    ] = []
    """Ready, ScopeMapResolved, PasswordsValid, PullSecretsSynced; Reconciling and Stalled while they hold."""


ROOT_RULES: list[dict[str, Any]] = [
    rule(
        "self.metadata.name.size() <= 63",
        "the name of a RegistryToken is at most 63 characters: it is part of the login name",
    )
]
