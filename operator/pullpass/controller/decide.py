"""What is to be done for one RegistryToken: a pure function from facts and the clock to a plan.

A plan is a list of actions in their order. Where it says `again`, the facts are gathered anew once the actions are
done and decided upon again; otherwise the token has settled, and the status can be written. The order is what keeps
a published password working: record, acceptance by every token server, pull secrets, record, status.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pullpass.access.namespaces import allows
from pullpass.api.registrytoken import RegistryTokenSpec, SlotName
from pullpass.api.scopemap import ScopeMapSpec
from pullpass.controller.mirror import Namespace, Token
from pullpass.controller.pullsecrets import PullSecret, Wanted
from pullpass.controller.serviceaccounts import ServiceAccount
from pullpass.credentials import rotation
from pullpass.credentials.record import Record


@dataclass(frozen=True)
class Target:
    """A namespace that the pull secret is wanted in."""

    wanted: Wanted
    namespace: Namespace | None
    consents: bool
    secret: PullSecret | None
    """What is there under the name, if it carries our labels."""
    service_accounts: Mapping[str, ServiceAccount]

    @property
    def usable(self) -> bool:
        """Whether anything may be written there."""
        return self.namespace is not None and not self.namespace.terminating and self.consents


@dataclass(frozen=True)
class Facts:
    """All that a decision depends on, apart from the clock."""

    token: Token
    spec: RegistryTokenSpec | None
    """None where the spec cannot be read."""
    scope_map: ScopeMapSpec | Literal["missing", "invalid"]
    namespace: Namespace | None
    record: Record
    targets: tuple[Target, ...]
    secrets: tuple[PullSecret, ...]
    """All pull secrets that carry this token's UID."""
    entries: tuple[ServiceAccount, ...]
    """All ServiceAccounts that carry an entry of this token."""
    seed: str
    digests: Mapping[SlotName, str]
    """What a pull secret's content must be, by slot, for slots whose password can be derived."""

    @property
    def allowed(self) -> bool:
        """Whether the scope map lets this token's namespace use it."""
        return (
            isinstance(self.scope_map, ScopeMapSpec)
            and self.namespace is not None
            and allows(self.scope_map.allowed_namespaces, self.token.namespace, self.namespace.labels)
        )


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

    secret: PullSecret


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
    ended: Literal["token", "password"] | None = None


def decide(facts: Facts, now: datetime) -> Plan:
    """The plan for the token as it is at `now`."""
    if facts.token.deleting or facts.spec is None:
        return Plan()
    tidy = _tidy(facts)
    if not facts.spec.enabled or not facts.allowed:
        # Nothing is taken away: the last good pull secret stays for the day that access is given back.
        end = facts.spec.expires_at
        return Plan(tidy, due=end if end is not None and end > now else None)
    entries = _entries(facts)
    step = rotation.next_step(facts.record, facts.spec, facts.seed, now)
    match step:
        case rotation.Make(slot):
            return Plan((*tidy, *entries, MakePassword(slot)), again=True)
        case rotation.Write(record):
            return Plan((WriteRecord(record),), again=True)
        case rotation.Publish(slot):
            writes = _writes(facts, slot)
            return Plan((*tidy, *entries, AwaitAcceptance(slot), *writes, MarkPublished(slot)), again=True)
        case rotation.Ended(of):
            removals = (
                tuple(DeletePullSecret(secret) for secret in facts.secrets)
                if facts.spec.pull_secret.when_revoked == "Remove"
                else tidy
            )
            return Plan(removals, ended=of)
        case rotation.Settled(due, transition):
            slot_ = facts.record.published
            repairs = _writes(facts, slot_) if slot_ is not None else ()
            return Plan((*tidy, *entries, *repairs), due=due, transition=transition)


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
