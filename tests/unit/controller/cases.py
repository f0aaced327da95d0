"""Facts about one token and its places, which plans and a status are made from: of a settled one, and what differs."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pullpass.api.registrytoken import RegistryTokenSpec
from pullpass.api.scopemap import ScopeMapSpec
from pullpass.controller.cache import Namespace, StoredToken
from pullpass.controller.document import Document
from pullpass.controller.facts import Confirmation, Facts
from pullpass.controller.places import plan as place_plans
from pullpass.controller.places.plan import Place
from pullpass.controller.places.pull_secret import StoredPullSecret, Wanted, hosts_digest
from pullpass.controller.places.repairs import Item, Wait
from pullpass.controller.places.report import Aim, Problem, Report
from pullpass.controller.places.service_account import ServiceAccount
from pullpass.controller.tokens.plan import PlaceState
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
NEW = replace(FRESH, id="0b7aa2", expires_at=NOW + 3 * H)
ROTATING = SETTLED.with_slot("password2", NEW)
"""Of two passwords the second one is to be published."""
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
    stored_uid = f"secret-{namespace}"
    return StoredPullSecret(namespace, name, stored_uid, "1", uid, "web/reader", owners, False, digest, hosts)


def account(namespace: str = "web", name: str = "default", entry: bool = False, uid: str = "uid-1") -> ServiceAccount:
    listed, ours = (("reader-pull",), {"reader-pull": uid}) if entry else ((), {})
    return ServiceAccount(namespace, name, f"sa-{namespace}", "1", ("other", *listed), ours, True)


ENTRY = Item("uid-1", "web", "reader-pull", "default", "sa-web")
SECRET = Item("uid-1", "web", "reader-pull")


def place(
    namespace: str = "web",
    there: StoredPullSecret | None = None,
    accounts: Sequence[ServiceAccount] = (),
    seen: Namespace | None = NAMESPACE,
    consents: bool = True,
    named: bool = True,
    others: Sequence[StoredPullSecret] = (),
) -> Place:
    """A place with a pull secret under the wanted name, if any; not `named`: the spec names another namespace."""
    secrets = [secret for secret in (there, *others) if secret is not None and secret.token_uid == "uid-1"]
    return Place(
        namespace=namespace,
        token_uid="uid-1",
        seen=seen,
        wanted=wanted(namespace) if named else None,
        consents=consents,
        secret=there if named else None,
        secrets=tuple(secrets),
        service_accounts={one.name: one for one in accounts},
        entries=tuple(one for one in accounts if "uid-1" in one.ours.values()),
    )


@dataclass
class Case:
    """Facts that differ from those of a settled token in one namespace."""

    spec: dict[str, Any] = field(default_factory=dict)
    record: Record = SETTLED
    scope_map: Any = ALL
    namespace: Namespace | None = NAMESPACE
    places: tuple[Place, ...] = (place(there=secret()),)
    seed: str = "seed"
    digests: dict[Any, str] = field(default_factory=lambda: {"password1": "digest-1", "password2": "digest-2"})
    confirmed: str = ""
    """Id of the password that every token server accepts."""
    readable: bool = True
    waits: dict[Item, Wait] = field(default_factory=dict)
    deleting: bool = False
    issuing: bool | None = None
    requests: Requests = field(default_factory=Requests)
    reports: dict[str, Report] = field(default_factory=dict)
    """What the last pass of a place has left undone, by namespace; for what is wanted now."""

    def facts(self) -> Facts:
        body = {"scopeMapRef": {"name": "demo"}, "passwords": {"lifetime": "3h"}} | self.spec
        empty = Document.of({})
        registry = TWO.named(self.scope_map.registry) if isinstance(self.scope_map, ScopeMapSpec) else None
        return Facts(
            now=NOW,
            token=StoredToken(
                namespace="web",
                name="reader",
                uid="uid-1",
                generation=1,
                resource_version="1",
                spec=empty,
                status=empty,
                deleting=self.deleting,
                pull_secret_name="reader-pull",
                targets=tuple(place.namespace for place in self.places if place.wanted is not None),
                requests=self.requests,
                finalizers=("example.com/keep",) if self.deleting else (),
            ),
            spec=RegistryTokenSpec.model_validate(body) if self.readable else None,
            scope_map=self.scope_map,
            registry=registry,
            registries=TWO.known,
            namespace=self.namespace,
            record=self.record,
            secrets=tuple(secret for place in self.places for secret in place.secrets),
            seed=self.seed,
            digests={slot: digest for slot, digest in self.digests.items() if slot in self.record.slots and registry},
            confirmation=Confirmation(self.confirmed, registry.name, NOW) if self.confirmed and registry else None,
            issuing=self.issuing,
        )

    def plan_of(self, place: Place) -> place_plans.PlacePlan:
        """The plan for one of the places."""
        return place_plans.plan(self.facts(), place, self.waits)

    def states(self) -> list[PlaceState]:
        """How far the places are."""
        facts = self.facts()
        states = []
        for one in self.places:
            report = self.reports.get(one.namespace)
            if report is not None:
                report = replace(report, aim=Aim.of(facts, one))
            work = bool(place_plans.plan(facts, one, self.waits).actions)
            states.append(PlaceState(one, work, report, report is not None))
        return states


NO_AIM = Aim(0, "", "", True)


def report(*problems: Problem, **more: Any) -> Report:
    """What a pass has left undone."""
    return Report(NO_AIM, problems, **more)


DEFAULT = {"pullSecret": {"serviceAccounts": ["default"]}}
EVERY = {"pullSecret": {"serviceAccounts": ["*"]}}
REMOVE = {"pullSecret": {"whenRevoked": "Remove"}}
REVOKE = {"passwords": {"lifetime": "3h", "onExpiry": "Revoke"}}
REVOKED = {"passwords": {"lifetime": "3h", "revoked": [FRESH.id]}}
REVOKED_FOR_GOOD = {"passwords": {"lifetime": "3h", "onExpiry": "Revoke", "revoked": [FRESH.id]}}
BARE = (place(),)
