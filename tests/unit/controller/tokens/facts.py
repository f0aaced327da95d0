"""Facts about one token, as a decision or a status is made from: those of a settled token, and what differs."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pullpass.api.registrytoken import RegistryTokenSpec
from pullpass.api.scopemap import ScopeMapSpec
from pullpass.controller.cache import Namespace, StoredToken
from pullpass.controller.document import Document
from pullpass.controller.places.pull_secret import StoredPullSecret, Wanted, hosts_digest
from pullpass.controller.places.repairs import Backoff, ManagedItem
from pullpass.controller.places.service_account import ServiceAccount
from pullpass.controller.tokens.plan import (
    Action,
    Facts,
    Plan,
    Target,
)
from pullpass.credentials.record import Record, Requests, Slot
from tests.registries import TWO

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
H = timedelta(hours=1)
RULES = [{"repositories": ["demo/nginx"], "actions": ["content/read"]}]
ALL = ScopeMapSpec.model_validate({"rules": RULES, "allowedNamespaces": {"from": "All"}})
NONE = ScopeMapSpec.model_validate({"rules": RULES, "allowedNamespaces": {"from": "Names", "names": []}})
ELSEWHERE = ScopeMapSpec.model_validate({"registry": "elsewhere", "rules": RULES, "allowedNamespaces": {"from": "All"}})
OTHERS = ScopeMapSpec.model_validate({"registry": "other", "rules": RULES, "allowedNamespaces": {"from": "All"}})
TEAM = ScopeMapSpec.model_validate(
    {"rules": RULES, "allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "web"}}}}
)
NAMESPACE = Namespace(labels={}, accepts=frozenset(), terminating=False, resource_version="1", uid="ns")
FRESH = Slot("4f9c1e", "nonce", "seed", "hash", NOW - H, NOW + 2 * H)
SETTLED = Record("uid-1", "web", "reader", {"password1": FRESH}, "password1")
PENDING = replace(SETTLED, published=None)
EMPTY = Record("uid-1", "web", "reader")
DEAD = replace(SETTLED, slots={"password1": replace(FRESH, expires_at=NOW - H, created_at=NOW - 4 * H)})


def wanted(namespace: str = "web") -> Wanted:
    return Wanted(namespace, "reader-pull", "web", "reader", "uid-1", retain=False)


def secret(
    namespace: str = "web",
    digest: str = "digest-1",
    uid: str = "uid-1",
    name: str = "reader-pull",
    hosts: str = hosts_digest(TWO.default.hosts),
) -> StoredPullSecret:
    owners = ("uid-1",) if namespace == "web" else ()
    return StoredPullSecret(
        namespace, name, f"secret-{namespace}", "1", uid, "web/reader", owners, False, digest, hosts
    )


def account(namespace: str = "web", name: str = "default", entry: bool = False, uid: str = "uid-1") -> ServiceAccount:
    listed, ours = (("reader-pull",), {"reader-pull": uid}) if entry else ((), {})
    return ServiceAccount(namespace, name, f"sa-{namespace}", "1", ("other", *listed), ours, True)


ENTRY = ManagedItem("uid-1", "web", "reader-pull", "default", "sa-web")
SECRET = ManagedItem("uid-1", "web", "reader-pull")


def target(
    namespace: str = "web",
    there: StoredPullSecret | None = None,
    accounts: tuple[ServiceAccount, ...] = (),
    seen: Namespace | None = NAMESPACE,
    consents: bool = True,
) -> Target:
    return Target(wanted(namespace), seen, consents, there, {a.name: a for a in accounts})


@dataclass
class Case:
    """Facts that differ from those of a settled token in one namespace, and the plan."""

    plan: Plan
    spec: dict[str, Any] = field(default_factory=dict)
    record: Record = SETTLED
    scope_map: Any = ALL
    namespace: Namespace | None = NAMESPACE
    targets: tuple[Target, ...] = (target(there=secret()),)
    secrets: tuple[StoredPullSecret, ...] = (secret(),)
    entries: tuple[ServiceAccount, ...] = ()
    seed: str = "seed"
    digests: dict[Any, str] = field(default_factory=lambda: {"password1": "digest-1"})
    readable: bool = True
    holds: dict[ManagedItem, Backoff] = field(default_factory=dict)
    deleting: bool = False
    requests: Requests = field(default_factory=Requests)

    def facts(self) -> Facts:
        body = {"scopeMapRef": {"name": "demo"}, "passwords": {"lifetime": "3h"}} | self.spec
        empty = Document.of({})
        return Facts(
            token=StoredToken("web", "reader", "uid-1", 1, "1", empty, empty, self.deleting, self.requests),
            spec=RegistryTokenSpec.model_validate(body) if self.readable else None,
            scope_map=self.scope_map,
            registry=TWO.named(self.scope_map.registry) if isinstance(self.scope_map, ScopeMapSpec) else None,
            registries=TWO.known,
            namespace=self.namespace,
            record=self.record,
            targets=self.targets,
            secrets=self.secrets,
            entries=self.entries,
            seed=self.seed,
            digests=self.digests,
            holds=self.holds,
        )


def plan(*actions: Action, **more: Any) -> Plan:
    return Plan(tuple(actions), **more)


DEFAULT = {"pullSecret": {"serviceAccounts": ["default"]}}
EVERY = {"pullSecret": {"serviceAccounts": ["*"]}}
REMOVE = {"pullSecret": {"whenRevoked": "Remove"}}
REVOKE = {"passwords": {"lifetime": "3h", "onExpiry": "Revoke"}}
REVOKED = {"passwords": {"lifetime": "3h", "revoked": [FRESH.id]}}
REVOKED_FOR_GOOD = {"passwords": {"lifetime": "3h", "onExpiry": "Revoke", "revoked": [FRESH.id]}}
BARE = (target(),)
