"""Gathers the facts about one RegistryToken from the mirror, and derives its passwords. Reads only."""

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from pullpass.api import names
from pullpass.api.registries import Registry
from pullpass.api.registrytoken import RegistryTokenSpec
from pullpass.api.scopemap import ScopeMapSpec
from pullpass.controller.cache import Cache, StoredToken
from pullpass.controller.places import pull_secret as pullsecrets
from pullpass.controller.places.pull_secret import Wanted
from pullpass.controller.places.repairs import Repairs
from pullpass.controller.settings import OperatorSettings
from pullpass.controller.tokens import plan as d
from pullpass.credentials import password as passwords
from pullpass.credentials.record import Record, Slot


class Gatherer:
    """Turns what the mirror has into facts to decide upon."""

    def __init__(
        self, mirror: Cache, settings: OperatorSettings, seed: bytes, contention: Repairs, now: Callable[[], datetime]
    ) -> None:
        self._mirror = mirror
        self._settings = settings
        self._seed = seed
        self._contention = contention
        self._now = now
        self.seed_id = passwords.seed_id(seed)

    def facts(self, token: StoredToken) -> d.Facts:
        """All that a decision on this token depends on, as the mirror has it now."""
        mirror = self._mirror
        token = mirror.tokens.get(token.key, token)
        try:
            spec = RegistryTokenSpec.model_validate(token.spec.read())
        except ValidationError:
            spec = None
        stored = mirror.records.get(token.uid)
        record = stored.record if stored is not None and stored.record is not None else None
        if record is None:
            record = Record(token_uid=token.uid, namespace=token.namespace, name=token.name)
        scope_map = self._scope_map(spec)
        registries = self._settings.registries
        registry = registries.named(scope_map.registry) if isinstance(scope_map, ScopeMapSpec) else None
        return d.Facts(
            token=token,
            spec=spec,
            scope_map=scope_map,
            registry=registry,
            registries=registries.known,
            namespace=mirror.namespaces.get(token.namespace),
            record=record,
            targets=tuple(self._targets(token, spec)) if spec is not None else (),
            secrets=tuple(mirror.pull_secrets[place] for place in sorted(mirror.secrets_of.get(token.uid, ()))),
            entries=tuple(
                mirror.service_accounts[namespace][name]
                for namespace, name in sorted(mirror.entries_of.get(token.uid, ()))
            ),
            seed=self.seed_id,
            digests={
                name: pullsecrets.digest(self.content(registry, token, slot))
                for name, slot in record.slots.items()
                if registry is not None and slot.seed == self.seed_id
            },
            holds=self._contention.holds(token.uid, token.generation, self._now()),
        )

    def _scope_map(self, spec: RegistryTokenSpec | None) -> ScopeMapSpec | Literal["missing", "invalid"]:
        stored = self._mirror.scope_maps.get(spec.scope_map_ref.name) if spec is not None else None
        if stored is None:
            return "missing"
        try:
            return ScopeMapSpec.model_validate(stored.spec.read())
        except ValidationError:
            return "invalid"

    def _targets(self, token: StoredToken, spec: RegistryTokenSpec) -> list[d.Target]:
        targets = []
        for namespace in token.target_namespaces():
            seen = self._mirror.namespaces.get(namespace)
            wanted = Wanted(
                namespace=namespace,
                name=spec.pull_secret_name(token.name),
                token_namespace=token.namespace,
                token_name=token.name,
                token_uid=token.uid,
                retain=spec.pull_secret.deletion_policy == "Retain",
            )
            targets.append(
                d.Target(
                    wanted=wanted,
                    namespace=seen,
                    consents=namespace == token.namespace or (seen is not None and token.namespace in seen.accepts),
                    secret=self._mirror.pull_secrets.get((namespace, wanted.name)),
                    service_accounts=self._mirror.service_accounts.get(namespace, {}),
                )
            )
        return targets

    def password(self, token: StoredToken, slot: Slot) -> passwords.Password:
        """The password of a slot; right only for a slot of the present seed."""
        return passwords.derive(self._seed, token.uid, slot.nonce, slot.id)

    def content(self, registry: Registry, token: StoredToken, slot: Slot) -> str:
        """What stands in a pull secret for a registry with the password of a slot, base64 as in Secret data."""
        username = names.username(token.namespace, token.name)
        return pullsecrets.content(registry.hosts, username, self.password(token, slot))
