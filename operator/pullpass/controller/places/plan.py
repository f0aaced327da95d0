"""What is to be done in one place: a pure function from facts and what is in there to a plan.

A place is a namespace that gets a token's pull secret and entries in its ServiceAccounts, or got them once. The order
of a plan is the order in which it is carried out. A pull secret that is there gets the new password first of all. One
that is not there yet comes after the entries: a pod that is made in between then heals by itself.
"""

from collections import deque
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from pullpass.api.registrytoken import SlotName
from pullpass.controller.cache import Cache, Namespace
from pullpass.controller.facts import Facts
from pullpass.controller.places.pull_secret import StoredPullSecret, Wanted
from pullpass.controller.places.repairs import Item, Wait
from pullpass.controller.places.service_account import ServiceAccount
from pullpass.credentials import rotation

AT_ONCE = 50
"""How many entries and Secrets are put right in one pass; then others have their turn. A namespace may have thousands
of ServiceAccounts, and whoever may write in it decides how many at once are not as they should be."""


@dataclass(frozen=True)
class Place:
    """One namespace, as far as a token goes."""

    namespace: str
    token_uid: str
    seen: Namespace | None
    """The Namespace; None where there is none."""
    wanted: Wanted | None
    """The pull secret that the token's spec asks for here; None where it names another namespace, or is gone."""
    consents: bool
    """Whether the namespace takes pull secrets of the token; its own one always does."""
    secret: StoredPullSecret | None
    """What is there under the name that is wanted, if it carries our labels."""
    secrets: tuple[StoredPullSecret, ...]
    """The pull secrets here that carry the token's UID."""
    service_accounts: Mapping[str, ServiceAccount]
    """All that are here."""
    entries: tuple[ServiceAccount, ...]
    """Those of them that carry an entry of the token."""

    @property
    def usable(self) -> bool:
        """Whether anything may be written here."""
        return self.wanted is not None and self.seen is not None and not self.seen.terminating and self.consents

    def named(self, facts: Facts, account: str) -> bool:
        """Whether the token's pull secret is wanted in that ServiceAccount."""
        listed = facts.spec.pull_secret.service_accounts if facts.spec is not None else ()
        return self.wanted is not None and ("*" in listed or account in listed)

    def has(self, facts: Facts, slot: SlotName | None) -> bool:
        """Whether the pull secret is as it should be with the password of that slot."""
        digest = facts.digests.get(slot) if slot is not None else None
        return (
            digest is not None
            and self.wanted is not None
            and self.secret is not None
            and self.wanted.matches(self.secret, digest)
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
    keep: str | None = None


@dataclass(frozen=True)
class WritePullSecret:
    """Write the password of the slot into the pull secret."""

    wanted: Wanted
    slot: SlotName
    password_id: str


@dataclass(frozen=True)
class DeletePullSecret:
    """Delete a pull secret of ours that is not wanted any more."""

    secret: StoredPullSecret


Action = AddEntry | RemoveEntry | WritePullSecret | DeletePullSecret


@dataclass(frozen=True)
class PlacePlan:
    """What to do now."""

    actions: tuple[Action, ...] = ()
    missed: frozenset[Item] = frozenset()
    """What would have to be repaired, and must wait."""
    contested: frozenset[Item] = frozenset()
    """What another controller keeps undoing: what of it is missed, or was put back only just now."""
    repair: datetime | None = None
    """When the first of all these may be repaired, or counts as settled."""


def places(cache: Cache, facts: Facts) -> tuple[Place, ...]:
    """The places of a token: those that its spec names, in that order, and those that still have something of it."""
    further = cache.namespaces_with(facts.token.uid) - set(facts.token.targets)
    return tuple(place(cache, facts, namespace) for namespace in (*facts.token.targets, *sorted(further)))


def place(cache: Cache, facts: Facts, namespace: str) -> Place:
    """One namespace of a token, as the cache has it now."""
    token, seen = facts.token, cache.namespaces.get(namespace)
    wanted = None
    if namespace in token.targets and facts.spec is not None:
        wanted = Wanted(
            namespace=namespace,
            name=token.pull_secret_name,
            token_namespace=token.namespace,
            token_name=token.name,
            token_uid=token.uid,
            retain=facts.spec.pull_secret.deletion_policy == "Retain",
        )
    return Place(
        namespace=namespace,
        token_uid=token.uid,
        seen=seen,
        wanted=wanted,
        consents=namespace == token.namespace or (seen is not None and token.namespace in seen.accepts),
        secret=cache.pull_secrets.get((namespace, token.pull_secret_name)) if wanted is not None else None,
        secrets=_secrets(cache, namespace, token.uid),
        service_accounts=cache.service_accounts.get(namespace, {}),
        entries=_entries(cache, namespace, token.uid),
    )


def leftovers(cache: Cache, namespace: str, token_uid: str) -> Place:
    """One namespace of a token that is gone."""
    return Place(
        namespace=namespace,
        token_uid=token_uid,
        seen=cache.namespaces.get(namespace),
        wanted=None,
        consents=False,
        secret=None,
        secrets=_secrets(cache, namespace, token_uid),
        service_accounts=cache.service_accounts.get(namespace, {}),
        entries=_entries(cache, namespace, token_uid),
    )


def _secrets(cache: Cache, namespace: str, token_uid: str) -> tuple[StoredPullSecret, ...]:
    there = cache.secrets_of.get(token_uid, ())
    return tuple(cache.pull_secrets[place] for place in sorted(there) if place[0] == namespace)


def _entries(cache: Cache, namespace: str, token_uid: str) -> tuple[ServiceAccount, ...]:
    there = cache.entries_of.get(token_uid, ())
    return tuple(cache.service_accounts[place[0]][place[1]] for place in sorted(there) if place[0] == namespace)


def plan(facts: Facts, place: Place, waits: Mapping[Item, Wait]) -> PlacePlan:
    """The plan for a place of a token; `waits` are the repairs that must wait."""
    if facts.token.deleting or facts.spec is None:
        return PlacePlan()
    tidy = _tidy(facts, place)
    if not facts.active:
        # Nothing is taken away: the last good pull secret stays for the day that access is given back.
        return _held_back(facts, place, tidy, waits, ended=True)
    if isinstance(facts.step, rotation.Ended):
        if facts.spec.pull_secret.when_revoked == "Remove":
            tidy = tuple(DeletePullSecret(secret) for secret in place.secrets)
        return _held_back(facts, place, tidy, waits, ended=True)
    write = _write(facts, place)
    there, anew = (write, ()) if place.secret is not None else ((), write)
    return _held_back(facts, place, (*there, *_missing_entries(facts, place), *anew, *tidy), waits, ended=False)


def plan_leftovers(place: Place, waits: Mapping[Item, Wait]) -> PlacePlan:
    """The plan for a place of a token that is gone: what is retained stays."""
    actions: list[Action] = [DeletePullSecret(secret) for secret in place.secrets if not secret.retained]
    actions += [RemoveEntry(account) for account in place.entries]
    missed = frozenset(item for action in actions for item in items(place, action) if item in waits)
    going = tuple(action for action in actions if not missed.intersection(items(place, action)))
    repair = min((waits[item].until for item in missed), default=None)
    return PlacePlan(going, missed, repair=repair)


def _tidy(facts: Facts, place: Place) -> tuple[Action, ...]:
    """Takes away what the spec does not name, or names no more."""
    actions: list[Action] = []
    for account in place.entries:
        keep = place.wanted.name if place.wanted and place.usable and place.named(facts, account.name) else None
        mine = {secret for secret, uid in account.ours.items() if uid == place.token_uid}
        if mine - {keep}:
            actions.append(RemoveEntry(account, keep))
    name = place.wanted.name if place.wanted is not None and place.usable else None
    actions += [DeletePullSecret(secret) for secret in place.secrets if secret.name != name]
    return tuple(actions)


def _missing_entries(facts: Facts, place: Place) -> tuple[AddEntry, ...]:
    if place.wanted is None or not place.usable:
        return ()
    secret = place.wanted.name
    return tuple(
        AddEntry(account, secret)
        for name, account in sorted(place.service_accounts.items())
        if place.named(facts, name) and secret not in account.pull_secrets
    )


def _write(facts: Facts, place: Place) -> tuple[WritePullSecret, ...]:
    slot = facts.published
    if slot is None or place.wanted is None or not place.usable or place.has(facts, slot):
        return ()
    # A new password that is here already stays, also where this process has not seen yet that it is confirmed.
    if place.has(facts, facts.record.pending):
        return ()
    return (WritePullSecret(place.wanted, slot, facts.record.slots[slot].id),)


def items(place: Place, action: Action) -> tuple[Item, ...]:
    """What of an action others can undo."""
    uid, namespace = place.token_uid, place.namespace
    match action:
        case AddEntry(account, secret):
            return (Item(uid, namespace, secret, account.name, account.uid),)
        case RemoveEntry(account, keep):
            mine = {secret for secret, of in account.ours.items() if of == uid and secret != keep}
            return tuple(Item(uid, namespace, secret, account.name, account.uid, removal=True) for secret in mine)
        case WritePullSecret(wanted):
            return (Item(uid, namespace, wanted.name),)
        case DeletePullSecret(secret_):
            return (Item(uid, namespace, secret_.name, removal=True),)


def _held_back(
    facts: Facts, place: Place, actions: tuple[Action, ...], waits: Mapping[Item, Wait], *, ended: bool
) -> PlacePlan:
    """The plan without the repairs that must wait."""
    held = [action for action in actions if waits and _must_wait(place, action, waits)]
    missed = frozenset(item for action in held for item in items(place, action))
    # Of what somebody else puts where it does not belong, nothing is told: everybody can write a label or annotation
    # that names this token.
    contested = frozenset(item for item in missed if not item.removal)
    if not ended:
        contested |= {item for item, wait in waits.items() if wait.lasting and _is_wanted(facts, place, item)}
    repair = min((waits[item].until for item in missed | contested), default=None)
    return PlacePlan(tuple(a for a in actions if a not in held), missed, contested, repair)


def _must_wait(place: Place, action: Action, waits: Mapping[Item, Wait]) -> bool:
    password_id = action.password_id if isinstance(action, WritePullSecret) else ""
    found = [waits.get(item) for item in items(place, action)]
    return bool(found) and all(wait is not None and wait.password_id == password_id for wait in found)


def _is_wanted(facts: Facts, place: Place, item: Item) -> bool:
    if item.removal or place.wanted is None or not place.usable or place.wanted.name != item.secret:
        return False
    account = place.service_accounts.get(item.account)
    return not item.account or (
        place.named(facts, item.account) and account is not None and account.uid == item.account_uid
    )


def turns(
    place: Place, actions: Iterable[Action], failed: Collection[Item]
) -> tuple[deque[Action], tuple[Action, ...]]:
    """Returns what to try in one pass, in that order, and what has no turn in it.

    What failed the last time comes last, and a pull secret always has its turn: it waits for no ServiceAccount.
    """
    ordered = sorted(
        actions,
        key=lambda one: not isinstance(one, WritePullSecret) and not set(items(place, one)).isdisjoint(failed),
    )
    now, later = ordered[:AT_ONCE], ordered[AT_ONCE:]
    for write in [one for one in later if isinstance(one, WritePullSecret)]:
        later.remove(write)
        later.insert(0, now.pop())
        now.append(write)
    return deque(now), tuple(later)


def entries_last(actions: Iterable[Action]) -> deque[Action]:
    """Returns the actions in the order in which to try them after a ServiceAccount has failed."""
    return deque(sorted(actions, key=lambda one: isinstance(one, AddEntry | RemoveEntry)))
