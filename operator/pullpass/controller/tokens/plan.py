"""What is to be done for one RegistryToken: a pure function from facts and the clock to a plan.

A plan is a list of actions in their order. Where it says `again`, the facts are gathered anew once the actions are
done and decided upon again; otherwise the token has settled, and the status can be written. The order is what keeps
a published password working: record, acceptance by every token server, pull secrets, record, status.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pullpass.access.namespaces import allows
from pullpass.api.registries import Registry
from pullpass.api.registrytoken import RegistryTokenSpec, SlotName
from pullpass.api.scopemap import ScopeMapSpec
from pullpass.controller.cache import Namespace, StoredToken
from pullpass.controller.places.pull_secret import StoredPullSecret, Wanted, hosts_digest
from pullpass.controller.places.repairs import Backoff, ManagedItem
from pullpass.controller.places.service_account import ServiceAccount
from pullpass.credentials import rotation
from pullpass.credentials.record import Record

AT_ONCE = 50
"""How many entries and Secrets are put right in one pass; then others have their turn. A namespace may have thousands
of ServiceAccounts, and whoever may write in it decides how many at once are not as they should be."""


@dataclass(frozen=True)
class Target:
    """A namespace that the pull secret is wanted in."""

    wanted: Wanted
    namespace: Namespace | None
    consents: bool
    secret: StoredPullSecret | None
    """What is there under the name, if it carries our labels."""
    service_accounts: Mapping[str, ServiceAccount]

    @property
    def usable(self) -> bool:
        """Whether anything may be written there."""
        return self.namespace is not None and not self.namespace.terminating and self.consents


@dataclass(frozen=True)
class Facts:
    """All that a decision depends on, apart from the clock."""

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
    targets: tuple[Target, ...]
    secrets: tuple[StoredPullSecret, ...]
    """All pull secrets that carry this token's UID."""
    entries: tuple[ServiceAccount, ...]
    """All ServiceAccounts that carry an entry of this token."""
    seed: str
    digests: Mapping[SlotName, str]
    """What a pull secret's content must be, by slot, for slots whose password can be derived."""
    holds: Mapping[ManagedItem, Backoff]
    """Repairs that must wait, should they be needed."""

    @property
    def allowed(self) -> bool:
        """Whether the scope map lets this token's namespace use it."""
        return (
            isinstance(self.scope_map, ScopeMapSpec)
            and self.namespace is not None
            and allows(self.scope_map.allowed_namespaces, self.token.namespace, self.namespace.labels)
        )

    @property
    def resolved(self) -> bool:
        """Whether there is a scope map that may be used, for a registry that is known."""
        return self.allowed and self.registry is not None


@dataclass(frozen=True)
class AddEntry:
    """Put the pull secret into a ServiceAccount's imagePullSecrets."""

    account: ServiceAccount
    secret: str


@dataclass(frozen=True)
class RemoveEntry:
    """Take what we added for this token out of a ServiceAccount, apart from `keep`."""

    account: ServiceAccount
    keep: str | None


@dataclass(frozen=True)
class MakePassword:
    """Make a password and write its hash into the record."""

    slot: SlotName


@dataclass(frozen=True)
class WriteRecord:
    """Write the record as given."""

    record: Record


@dataclass(frozen=True)
class AwaitAcceptance:
    """Go on only when every ready token server accepts the password of the slot."""

    slot: SlotName


@dataclass(frozen=True)
class WritePullSecret:
    """Write the password of the slot into a pull secret."""

    wanted: Wanted
    slot: SlotName


@dataclass(frozen=True)
class MarkPublished:
    """Note in the record that the slot's password stands in the pull secrets."""

    slot: SlotName


@dataclass(frozen=True)
class DeletePullSecret:
    """Delete a pull secret of ours that is not wanted any more."""

    secret: StoredPullSecret


Action = (
    AddEntry
    | RemoveEntry
    | MakePassword
    | WriteRecord
    | AwaitAcceptance
    | WritePullSecret
    | MarkPublished
    | DeletePullSecret
)


@dataclass(frozen=True)
class Plan:
    """What to do now."""

    actions: tuple[Action, ...] = ()
    again: bool = False
    due: datetime | None = None
    """When to look at the token again, if nothing happens before."""
    transition: Literal["Rotate", "Retire", "Expire"] | None = None
    ended: Literal["token", "password", "revoked"] | None = None
    missed: frozenset[ManagedItem] = frozenset()
    """What would have to be repaired, and must wait."""
    contested: frozenset[ManagedItem] = frozenset()
    """What another controller keeps undoing: what of it is missed, or was put back only just now."""
    repair: datetime | None = None
    """When the first of all these may be repaired, or counts as settled."""
    more: bool = False
    """Whether there is more to put right than is done in one pass."""


def decide(facts: Facts, now: datetime) -> Plan:
    """The plan for the token as it is at `now`."""
    plan = _plan(facts, now)
    return _portion(_hold_back(facts, plan) if facts.holds else plan)


def _plan(facts: Facts, now: datetime) -> Plan:
    if facts.token.deleting or facts.spec is None:
        return Plan()
    tidy = _tidy(facts)
    if not facts.spec.enabled or not facts.resolved:
        # Nothing is taken away: the last good pull secret stays for the day that access is given back.
        return Plan(tidy, due=_next_end(facts, now))
    entries = _entries(facts)
    step = rotation.next_step(facts.record, facts.spec, facts.token.requests, facts.seed, now)
    match step:
        case rotation.Make(slot):
            return Plan((*tidy, *entries, MakePassword(slot)), again=True)
        case rotation.Write(record):
            return Plan((WriteRecord(record),), again=True)
        case rotation.Publish(slot):
            writes = _writes(facts, slot)
            return Plan((*tidy, *entries, AwaitAcceptance(slot), *writes, MarkPublished(slot)), again=True)
        case rotation.Ended(of, due):
            removals = (
                tuple(DeletePullSecret(secret) for secret in facts.secrets)
                if facts.spec.pull_secret.when_revoked == "Remove"
                else tidy
            )
            retires: Literal["Retire"] | None = "Retire" if due is not None else None
            return Plan(removals, due=due or _next_end(facts, now), transition=retires, ended=of)
        case rotation.Settled(due, transition):
            slot_ = facts.record.published
            repairs = _repairs(facts, slot_) if slot_ is not None else ()
            return Plan((*tidy, *entries, *repairs), due=due, transition=transition)


def _next_end(facts: Facts, now: datetime) -> datetime | None:
    """When the status has to tell of another end although nothing is to be done."""
    assert facts.spec is not None
    ends = [facts.spec.expires_at, *(slot.ends_at for slot in facts.record.slots.values())]
    return min((end for end in ends if end is not None and end > now), default=None)


def _tidy(facts: Facts) -> tuple[Action, ...]:
    """Takes away what stands in places that the spec does not name, or names no more."""
    wanted = {(t.wanted.namespace, t.wanted.name) for t in facts.targets if t.usable}
    assert facts.spec is not None  # decided by the caller
    named = facts.spec.pull_secret.service_accounts
    actions: list[Action] = []
    for account in facts.entries:
        target = next((t for t in facts.targets if t.usable and t.wanted.namespace == account.namespace), None)
        keep = target.wanted.name if target and ("*" in named or account.name in named) else None
        mine = {secret for secret, uid in account.ours.items() if uid == facts.token.uid}
        if mine - {keep}:
            actions.append(RemoveEntry(account, keep))
    actions += [DeletePullSecret(s) for s in facts.secrets if (s.namespace, s.name) not in wanted]
    return tuple(actions)


def _entries(facts: Facts) -> tuple[Action, ...]:
    """Entries come before the Secret exists: a pod that is made in between then heals by itself."""
    assert facts.spec is not None
    named = facts.spec.pull_secret.service_accounts
    return tuple(
        AddEntry(account, target.wanted.name)
        for target in facts.targets
        if target.usable
        for name, account in sorted(target.service_accounts.items())
        if ("*" in named or name in named) and target.wanted.name not in account.pull_secrets
    )


def _writes(facts: Facts, slot: SlotName) -> tuple[WritePullSecret, ...]:
    digest = facts.digests.get(slot)
    if digest is None:
        return ()
    return tuple(
        WritePullSecret(target.wanted, slot)
        for target in facts.targets
        if target.usable and not (target.secret is not None and target.wanted.matches(target.secret, digest))
    )


def _repairs(facts: Facts, slot: SlotName) -> tuple[Action, ...]:
    """Where a pull secret was for other hosts, the token is for another registry by now, and token servers that have
    not heard of that refuse its password there."""
    writes = _writes(facts, slot)
    assert facts.registry is not None  # decided by the caller
    written = {(write.wanted.namespace, write.wanted.name) for write in writes}
    there = [t.secret for t in facts.targets if t.secret and (t.secret.namespace, t.secret.name) in written]
    moved = {secret.hosts for secret in there} - {"", hosts_digest(facts.registry.hosts)}
    return (AwaitAcceptance(slot), *writes) if moved else writes


def matters(facts: Facts, action: Action) -> tuple[ManagedItem, ...]:
    """What of an action others can undo; empty for what is out of their reach."""
    uid = facts.token.uid
    match action:
        case AddEntry(account, secret):
            return (ManagedItem(uid, account.namespace, secret, account.name, account.uid),)
        case RemoveEntry(account, keep):
            mine = {secret for secret, of in account.ours.items() if of == uid and secret != keep}
            return tuple(ManagedItem(uid, account.namespace, s, account.name, account.uid, removal=True) for s in mine)
        case WritePullSecret(wanted):
            return (ManagedItem(uid, wanted.namespace, wanted.name),)
        case DeletePullSecret(secret_):
            return (ManagedItem(uid, secret_.namespace, secret_.name, removal=True),)
        case _:
            return ()


def _hold_back(facts: Facts, plan: Plan) -> Plan:
    """The plan without the repairs that must wait."""
    held = [action for action in plan.actions if _must_wait(facts, action)]
    actions = tuple(action for action in plan.actions if action not in held)
    if plan.again or facts.spec is None:
        return replace(plan, actions=actions)
    missed = frozenset(matter for action in held for matter in matters(facts, action))
    # Of what somebody else puts where it does not belong, nothing is told: everybody can write a label or annotation
    # that names this token.
    contested = frozenset(matter for matter in missed if not matter.removal)
    if facts.spec.enabled and facts.resolved and plan.ended is None:
        contested |= {matter for matter, hold in facts.holds.items() if hold.lasting and _is_wanted(facts, matter)}
    repair = min((facts.holds[matter].until for matter in missed | contested), default=None)
    return replace(plan, actions=actions, missed=missed, contested=contested, repair=repair)


def _portion(plan: Plan) -> Plan:
    many = [a for a in plan.actions if isinstance(a, AddEntry | RemoveEntry | DeletePullSecret)]
    if len(many) <= AT_ONCE:
        return plan
    later = set(map(id, many[AT_ONCE:]))
    return replace(plan, actions=tuple(a for a in plan.actions if id(a) not in later), more=True)


def _must_wait(facts: Facts, action: Action) -> bool:
    password_id = facts.record.slots[action.slot].id if isinstance(action, WritePullSecret) else ""
    holds = [facts.holds.get(matter) for matter in matters(facts, action)]
    return bool(holds) and all(hold is not None and hold.password_id == password_id for hold in holds)


def _is_wanted(facts: Facts, matter: ManagedItem) -> bool:
    assert facts.spec is not None
    target = next((t for t in facts.targets if t.usable and t.wanted.namespace == matter.namespace), None)
    if matter.removal or target is None or target.wanted.name != matter.secret:
        return False
    account = target.service_accounts.get(matter.account)
    named = facts.spec.pull_secret.service_accounts
    listed = "*" in named or matter.account in named
    return not matter.account or (listed and account is not None and account.uid == matter.account_uid)
