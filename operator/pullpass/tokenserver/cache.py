"""The token server's cache of Kubernetes objects, compiled for look-up; each watch event updates it in O(1).

It has room for 20,000 tokens and as many scope maps because it keeps only what a decision needs. Objects that cannot be
parsed are left out, so requests that depend on them are refused: a decision never guesses.
"""

import base64
import logging
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pullpass.access.repositories import Rights
from pullpass.api import names
from pullpass.api.registries import Registries, Registry
from pullpass.api.scopemap import AllowedNamespaces, ScopeMapSpec
from pullpass.api.times import parse_time
from pullpass.credentials.record import Record
from pullpass.signing.tokens import Signer

log = logging.getLogger(__name__)

Object = Mapping[str, Any]
_NONE: frozenset[str] = frozenset()
"""Shared by all tokens that revoke nothing, to save memory."""


@dataclass(frozen=True, slots=True)
class Token:
    """The fields of a RegistryToken that decide about access."""

    uid: str
    namespace: str
    name: str
    scope_map: str
    enabled: bool
    expires_at: datetime | None
    revoked: frozenset[str]
    """Public ids of revoked passwords."""


@dataclass(frozen=True, slots=True)
class ScopeMap:
    """A ScopeMap, with its rules compiled."""

    registry: str
    """Name of its registry, which need not be among those of the settings."""
    rights: Rights
    allowed: AllowedNamespaces


@dataclass(frozen=True, slots=True)
class PasswordSlot:
    """One password of a credential record."""

    id: str
    hash: str = field(repr=False)
    ends_at: datetime | None


@dataclass(frozen=True, slots=True)
class Credential:
    """The passwords of one token. `version` changes with each write of the record."""

    version: str
    slots: tuple[PasswordSlot, ...]

    def slot(self, password_id: str) -> PasswordSlot | None:
        """Returns the slot of the password with that public id, None where there is none."""
        return next((slot for slot in self.slots if slot.id == password_id), None)


DecisionInputs = tuple[Token | None, Credential | None, ScopeMap | None, Mapping[str, str] | None, Signer | None]
"""What a decision about one user at one registry depends on, apart from the request and the clock."""


class AccessCache:
    """Objects that decisions depend on, as of the last watch event.

    The four `on_…` methods take watch events (ADDED, MODIFIED or DELETED, and the object) and never raise.
    """

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self.signers: dict[str, Signer] = {}
        """By name of the registry, its newest signing leaf that could be parsed. It stays when its Secret is deleted:
        pulls must not stop for that."""
        self.tokens: dict[str, Token] = {}
        """By user name."""
        self._by_uid: dict[str, Token] = {}
        self.scope_maps: dict[str, ScopeMap] = {}
        """By name."""
        self.namespaces: dict[str, Mapping[str, str]] = {}
        """Labels by name."""
        self.credentials: dict[str, Credential] = {}
        """By name of the record, which holds the token's UID."""
        self._allowed: dict[str, AllowedNamespaces] = {}

    def token(self, username: str) -> Token | None:
        """Returns the RegistryToken with that user name, None where there is none."""
        return self.tokens.get(username)

    def token_of_uid(self, uid: str) -> Token | None:
        """Returns the RegistryToken with that UID, None where there is none."""
        return self._by_uid.get(uid)

    def credential(self, token_uid: str) -> Credential | None:
        """Returns the passwords of the token with that UID, None where there are none."""
        return self.credentials.get(names.record_name(token_uid))

    def decision_inputs(self, username: str, registry: str) -> DecisionInputs:
        """Returns what a decision about that user at that registry depends on.

        Events replace objects and never change them. So as long as this returns the very same objects, nothing was
        written that the decision depends on.
        """
        token, signer = self.tokens.get(username), self.signers.get(registry)
        if token is None:
            return None, None, None, None, signer
        return (
            token,
            self.credential(token.uid),
            self.scope_maps.get(token.scope_map),
            self.namespaces.get(token.namespace),
            signer,
        )

    def on_token(self, type_: str, obj: Object) -> None:
        """Handles a watch event of a RegistryToken."""
        metadata = obj["metadata"]
        username = names.username(metadata["namespace"], metadata["name"])
        before = self.tokens.pop(username, None)
        if before is not None:
            self._by_uid.pop(before.uid, None)
        if type_ == "DELETED":
            return
        try:
            token = _token(obj)
            self.tokens[username] = self._by_uid[token.uid] = token
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            log.warning(
                "cannot parse RegistryToken %s/%s (%s): its logins are refused until it is corrected",
                metadata["namespace"],
                metadata["name"],
                type(error).__name__,
            )

    def on_scope_map(self, type_: str, obj: Object) -> None:
        """Handles a watch event of a ScopeMap."""
        name = obj["metadata"]["name"]
        if type_ == "DELETED":
            self.scope_maps.pop(name, None)
            return
        try:
            spec = ScopeMapSpec.model_validate(obj["spec"])
            self.scope_maps[name] = ScopeMap(
                sys.intern(spec.registry), Rights.of(spec), self._shared(spec.allowed_namespaces)
            )
        except (KeyError, TypeError, ValueError) as error:
            self.scope_maps.pop(name, None)
            log.warning(
                "cannot parse ScopeMap %s (%s): logins with its tokens are refused until it is corrected",
                name,
                type(error).__name__,
            )

    def on_namespace(self, type_: str, obj: Object) -> None:
        """Handles a watch event of a Namespace."""
        metadata = obj["metadata"]
        if type_ == "DELETED":
            self.namespaces.pop(metadata["name"], None)
        else:
            self.namespaces[metadata["name"]] = dict(metadata.get("labels") or {})

    def on_secret(self, type_: str, obj: Object) -> None:
        """Handles a watch event of a Secret of the credentials namespace: a credential record or a signing leaf."""
        name = obj["metadata"]["name"]
        registry = self._registries.of_signing_secret(name)
        if registry is not None:
            if type_ != "DELETED":
                self._take_signer(registry, obj)
            return
        component = (obj["metadata"].get("labels") or {}).get(names.COMPONENT_LABEL)
        if type_ == "DELETED" or component != names.CREDENTIAL_RECORD:
            self.credentials.pop(name, None)
            return
        try:
            self.credentials[name] = _credential(obj)
        except (KeyError, ValueError) as error:
            self.credentials.pop(name, None)
            log.warning(
                "cannot parse the credential record in Secret %s (%s): logins with its token are refused until the "
                "operator replaces it",
                name,
                type(error).__name__,
            )

    def _take_signer(self, registry: Registry, obj: Object) -> None:
        try:
            data = obj["data"]
            self.signers[registry.name] = Signer(
                key_pem=base64.b64decode(data["tls.key"]), chain_pem=base64.b64decode(data["tls.crt"])
            )
        except (KeyError, TypeError, ValueError) as error:
            log.error(
                "cannot use the signing leaf in Secret %s of registry %s (%s): the last usable one signs until the "
                "operator issues another",
                registry.signing_secret,
                registry.name,
                type(error).__name__,
            )

    def _shared(self, allowed: AllowedNamespaces) -> AllowedNamespaces:
        # Thousands of scope maps allow the same few sets of namespaces.
        if len(self._allowed) > 4096:
            self._allowed.clear()
        return self._allowed.setdefault(allowed.model_dump_json(), allowed)


def _token(obj: Object) -> Token:
    metadata, spec = obj["metadata"], obj["spec"]
    enabled = spec.get("enabled", True)
    if not isinstance(enabled, bool):
        raise TypeError("spec.enabled is not a boolean")
    ends = spec.get("expiresAt")
    revoked = (spec.get("passwords") or {}).get("revoked") or []
    if not isinstance(revoked, list):
        raise TypeError("spec.passwords.revoked is not a list")
    return Token(
        uid=str(metadata["uid"]),
        namespace=str(metadata["namespace"]),
        name=str(metadata["name"]),
        scope_map=str(spec["scopeMapRef"]["name"]),
        # A deleted token opens nothing, also while somebody's finalizer keeps the object.
        enabled=enabled and metadata.get("deletionTimestamp") is None,
        expires_at=None if ends is None else parse_time(ends),
        revoked=frozenset(revoked) if revoked else _NONE,
    )


def _credential(obj: Object) -> Credential:
    record = Record.from_secret(obj)
    metadata = obj["metadata"]
    if names.record_name(record.token_uid) != metadata["name"]:
        raise ValueError("the record belongs to another token")
    slots = tuple(PasswordSlot(slot.id, slot.hash, slot.ends_at) for slot in record.slots.values())
    return Credential(str(metadata["resourceVersion"]), slots)
