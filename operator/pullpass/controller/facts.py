"""What is decided about a RegistryToken is decided from these facts, gathered from the cache. Reads only.

Its own pass decides on its passwords by them, and the pass of each of its places on what has to be in there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Literal

from pydantic import ValidationError

from pullpass.access.namespaces import allows
from pullpass.api import names
from pullpass.api.registries import Registry
from pullpass.api.registrytoken import RegistryTokenSpec, SlotName
from pullpass.api.scopemap import ScopeMapSpec
from pullpass.controller.cache import Cache, Namespace, StoredToken
from pullpass.controller.places import pull_secret
from pullpass.controller.places.pull_secret import StoredPullSecret, hosts_digest
from pullpass.controller.settings import OperatorSettings
from pullpass.credentials import password as passwords
from pullpass.credentials import rotation
from pullpass.credentials.record import Record, Slot


@dataclass(frozen=True)
class Confirmation:
    """That every token server accepts a password at a registry."""

    password_id: str
    registry: str
    at: datetime


@dataclass(frozen=True)
class Facts:
    """A token with all that it refers to, at one moment."""

    now: datetime
    token: StoredToken
    spec: RegistryTokenSpec | None
    """None where the spec cannot be read."""
    scope_map: ScopeMapSpec | Literal["missing", "invalid"]
    registry: Registry | None
    """The one that the scope map is for; None where it is not known, or this release does not have it."""
    registries: tuple[str, ...]
    """Names of those that this release has."""
    namespace: Namespace | None
    record: Record
    secrets: tuple[StoredPullSecret, ...]
    """All pull secrets that carry this token's UID, wherever they are."""
    seed: str
    digests: Mapping[SlotName, str]
    """What a pull secret's content must be, by slot, for slots whose password can be derived."""
    confirmation: Confirmation | None = None
    issuing: bool | None = None
    """Whether the token servers can issue access tokens for the registry; None while that is not known."""

    @property
    def allowed(self) -> bool:
        """Whether the scope map lets this token's namespace use it."""
        return (
            isinstance(self.scope_map, ScopeMapSpec)
            and self.namespace is not None
            and allows(self.scope_map.allowed_namespaces, self.token.namespace, self.namespace.labels)
        )

    @cached_property
    def active(self) -> bool:
        """Whether passwords are made and published for it: enabled, not being deleted, with a scope map that it may
        use, for a registry that is known."""
        wished = self.spec is not None and self.spec.enabled and not self.token.deleting
        return wished and self.allowed and self.registry is not None

    @cached_property
    def step(self) -> rotation.Step | None:
        """What should next become of the passwords; None while the token is not active."""
        if not self.active:
            return None
        assert self.spec is not None
        return rotation.next_step(self.record, self.spec, self.token.requests, self.seed, self.now)

    def confirmed(self, slot: SlotName) -> bool:
        """Whether every token server accepts the slot's password at the token's registry, as far as is known."""
        confirmed, registry = self.confirmation, self.registry
        if confirmed is None or registry is None:
            return False
        return (confirmed.password_id, confirmed.registry) == (self.record.slots[slot].id, registry.name)

    @property
    def moved(self) -> bool:
        """Whether a pull secret is for the hosts of another registry than that of the scope map by now."""
        assert self.registry is not None
        token = self.token
        ours = (s for s in self.secrets if s.name == token.pull_secret_name and s.namespace in token.targets)
        return bool({secret.hosts for secret in ours} - {"", hosts_digest(self.registry.hosts)})

    @cached_property
    def published(self) -> SlotName | None:
        """The slot whose password every place should have; None where nothing may be written.

        That of a new password as soon as every token server has confirmed it, otherwise the published one while it is
        valid. Token servers that have not heard yet that a token is for another registry by now refuse its password
        there, so that has to be confirmed as well.
        """
        if self.step is None or isinstance(self.step, rotation.Ended):
            return None
        if isinstance(self.step, rotation.Publish) and self.confirmed(self.step.slot):
            return self.step.slot if self.step.slot in self.digests else None
        name = self.record.published
        if name is None or name not in self.digests or (self.moved and not self.confirmed(name)):
            return None
        slot = self.record.slots[name]
        assert self.spec is not None
        return name if slot.valid_at(self.now) and slot.id not in self.spec.passwords.revoked else None


class Gatherer:
    """Turns what the cache has into facts, and derives passwords."""

    def __init__(self, cache: Cache, settings: OperatorSettings, seed: bytes, now: Callable[[], datetime]) -> None:
        self._cache = cache
        self._settings = settings
        self._seed = seed
        self._now = now
        self._confirmations: dict[str, Confirmation] = {}
        self.seed_id = passwords.seed_id(seed)

    def facts(self, token: StoredToken) -> Facts:
        """All that a decision on this token depends on, as the cache has it now."""
        cache = self._cache
        token = cache.tokens.get(token.key, token)
        try:
            spec = RegistryTokenSpec.model_validate(token.spec.read())
        except ValidationError:
            spec = None
        stored = cache.records.get(token.uid)
        record = stored.record if stored is not None and stored.record is not None else None
        if record is None:
            record = Record(token_uid=token.uid, namespace=token.namespace, name=token.name)
        scope_map = self._scope_map(spec)
        registries = self._settings.registries
        registry = registries.named(scope_map.registry) if isinstance(scope_map, ScopeMapSpec) else None
        return Facts(
            now=self._now(),
            token=token,
            spec=spec,
            scope_map=scope_map,
            registry=registry,
            registries=registries.known,
            namespace=cache.namespaces.get(token.namespace),
            record=record,
            secrets=tuple(cache.pull_secrets[place] for place in sorted(cache.secrets_of.get(token.uid, ()))),
            seed=self.seed_id,
            digests={
                name: pull_secret.digest(self.content(registry, token, slot))
                for name, slot in record.slots.items()
                if registry is not None and slot.seed == self.seed_id
            },
            confirmation=self._confirmations.get(token.uid),
            issuing=cache.issuing.get(registry.name) if registry is not None else None,
        )

    def _scope_map(self, spec: RegistryTokenSpec | None) -> ScopeMapSpec | Literal["missing", "invalid"]:
        stored = self._cache.scope_maps.get(spec.scope_map_ref.name) if spec is not None else None
        if stored is None:
            return "missing"
        try:
            return ScopeMapSpec.model_validate(stored.spec.read())
        except ValidationError:
            return "invalid"

    def confirm(self, facts: Facts, slot: SlotName) -> None:
        """Remembers that every token server has just confirmed the slot's password at the token's registry."""
        assert facts.registry is not None
        confirmation = Confirmation(facts.record.slots[slot].id, facts.registry.name, self._now())
        self._confirmations[facts.token.uid] = confirmation

    def forget(self, token_uid: str) -> None:
        """Forgets what was confirmed for a token that is gone."""
        self._confirmations.pop(token_uid, None)

    def password(self, token: StoredToken, slot: Slot) -> passwords.Password:
        """The password of a slot; right only for a slot of the present seed."""
        return passwords.derive(self._seed, token.uid, slot.nonce, slot.id)

    def content(self, registry: Registry, token: StoredToken, slot: Slot) -> str:
        """What stands in a pull secret for a registry with the password of a slot, base64 as in Secret data."""
        username = names.username(token.namespace, token.name)
        return pull_secret.content(registry.hosts, username, self.password(token, slot))
