"""Decides the next step for a token's passwords: a pure function of record, spec and clock.

A rotation is MakePassword (the idle slot gets a password), Publish (once every token server accepts it), and later
WriteRecord (the replaced password is dropped after its overlap). Each is one write of the record, so a rotation that
was interrupted continues where it stopped.

By hand it goes the same way. What was asked for is kept with each password, and a request is open while it differs
from that of the published one. A regenerated password has no overlap; a dead one is replaced in its own slot.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pullpass.api.registrytoken import SLOTS, Passwords, RegistryTokenSpec, SlotName
from pullpass.credentials.record import Record, Requests, Slot


@dataclass(frozen=True)
class MakePassword:
    """Make a password in this slot, and write its hash into the record."""

    slot: SlotName


@dataclass(frozen=True)
class Publish:
    """The password of this slot is to be accepted by all token servers, then to go into the pull secrets."""

    slot: SlotName


@dataclass(frozen=True)
class WriteRecord:
    """Write this record: dates change, or a slot is dropped."""

    record: Record


@dataclass(frozen=True)
class Settled:
    """Nothing is to be done before `due`, when `transition` happens by itself."""

    due: datetime | None
    transition: Literal["Rotate", "Retire", "Expire"] | None


@dataclass(frozen=True)
class Ended:
    """Access has ended: the token's own end has passed, or the password's under `onExpiry: Revoke`, by its lifetime or
    because it is revoked."""

    of: Literal["token", "password", "revoked"]
    due: datetime | None = None
    """When the overlap of a replaced password is over, which goes on until then."""


Step = MakePassword | Publish | WriteRecord | Settled | Ended


def next_step(record: Record, spec: RegistryTokenSpec, asked: Requests, seed: str, now: datetime) -> Step:
    """The next step for a token that is enabled and may use its scope map.

    `seed` is the fingerprint of the operator's seed: a password that was derived from another one is replaced.
    """
    if spec.expires_at is not None and spec.expires_at <= now:
        return Ended("token")
    over = [
        name
        for name, slot in record.slots.items()
        if slot.valid_until is not None and (slot.valid_until <= now or slot.id in spec.passwords.revoked)
    ]
    if over:
        for name in over:
            record = record.without_slot(name)
        return WriteRecord(record)
    if record.pending is not None:
        return _of_pending(record, record.pending, spec, asked, seed, now)
    if record.published is None:
        return MakePassword(_idle(record))
    return _of_current(record, record.published, spec, asked, seed, now)


def _of_pending(
    record: Record, name: SlotName, spec: RegistryTokenSpec, asked: Requests, seed: str, now: datetime
) -> Step:
    slot = record.slots[name]
    revoked = slot.id in spec.passwords.revoked
    if slot.seed == seed and slot.valid_at(now) and not revoked:
        return Publish(name)
    if record.published is None and (revoked or (slot.seed == seed and spec.passwords.on_expiry == "Revoke")):
        # Access ends with the first password, also where its publication was cut off.
        return _of_current(record, name, spec, asked, seed, now)
    return WriteRecord(record.without_slot(name))


def _of_current(
    record: Record, name: SlotName, spec: RegistryTokenSpec, asked: Requests, seed: str, now: datetime
) -> Step:
    policy, current = spec.passwords, record.slots[name]
    opened = asked.beyond(current.requests)
    expires_at = end_by_lifetime(policy, current.created_at)
    dated = WriteRecord(record.with_slot(name, replace(current, expires_at=expires_at)))
    if policy.on_expiry == "Revoke" and current.expires_at != expires_at:
        return dated
    end = expires_at if policy.on_expiry == "Revoke" else None
    revoked = current.id in policy.revoked
    if revoked or (end is not None and end <= now):
        if end is not None and opened == Requests():
            return Ended("revoked" if revoked else "password", min(_overlaps(record), default=None))
        # It opens nothing any more, so it is replaced in its own slot: the other may hold one that still does.
        return MakePassword(name)
    if opened.regenerate:
        return MakePassword(_idle(record))
    # Under Revoke access ends with this password, so one of a lost seed is not replaced: its successor would live on.
    lost = current.seed != seed and end is None
    rotate_at = _rotation_time(record, policy, expires_at, now if lost or opened.rotate else None)
    if rotate_at is not None and end is not None:
        rotate_at = min(rotate_at, end)
    if rotate_at is not None and rotate_at <= now:
        # The dates of the current password stay: it must work until the new one is published.
        return MakePassword(_idle(record))
    if current.expires_at != expires_at:
        return dated
    return _wait(record, spec, end, rotate_at, requested=opened.rotate != "")


def made(record: Record, name: SlotName, slot: Slot, asked: Requests) -> Record:
    """The record with a new password in the slot of that name. It bears what is asked for now, and where nothing is,
    what its predecessor bears: so a value counts as handled also once the annotation is gone."""
    known = (record.slots.get(key) for key in (record.published, name, *SLOTS) if key is not None)
    predecessor = next((slot for slot in known if slot is not None), None)
    if predecessor is not None:
        asked = asked.or_else(predecessor.requests)
    result = record.with_slot(name, replace(slot, requests=asked))
    return replace(result, published=None) if name == record.published else result


def published(record: Record, slot: SlotName, passwords: Passwords, now: datetime) -> Record:
    """The record once the password of `slot` stands in the pull secrets: the other slot's overlap begins.

    There is none where the new password was regenerated and the other was made before that was asked for.
    """
    result = replace(record, published=slot)
    for name, other in record.slots.items():
        if name == slot:
            continue
        if other.requests.regenerate != record.slots[slot].requests.regenerate:
            result = result.without_slot(name)
        elif other.valid_until is None:
            result = result.with_slot(name, replace(other, valid_until=now + passwords.effective_overlap))
    return result


def waits_for_every_place(record: Record, slot: SlotName, passwords: Passwords, asked: Requests, now: datetime) -> bool:
    """Whether `slot` counts as published only once its password stands in every pull secret.

    So it is as long as the current one may be of use in a place that was not written: until its own end, also where the
    spec has a shorter lifetime by now. After a leak it has to go.
    """
    if record.published is None:
        return False
    current = record.slots[record.published]
    end = end_by_lifetime(passwords, current.created_at)
    leaked = any(requests.beyond(current.requests).regenerate for requests in (asked, record.slots[slot].requests))
    ended = not current.valid_at(now) or (end is not None and end <= now)
    return not ended and current.id not in passwords.revoked and not leaked


def end_by_lifetime(passwords: Passwords, created_at: datetime) -> datetime | None:
    """When a password that was made then ends by the lifetime in the spec; None without one."""
    return None if passwords.lifetime is None else created_at + passwords.lifetime


def _idle(record: Record) -> SlotName:
    return min((name for name in SLOTS if name != record.published), key=lambda name: name in record.slots)


def _overlaps(record: Record) -> list[datetime]:
    """When the overlaps of replaced passwords are over."""
    return [slot.valid_until for slot in record.slots.values() if slot.valid_until is not None]


def _rotation_time(
    record: Record, policy: Passwords, expires_at: datetime | None, at: datetime | None
) -> datetime | None:
    """When the current password is to be replaced: at the given time, otherwise by the policy, if ever."""
    rotates = policy.on_expiry == "Rotate" and expires_at is not None
    if at is None and expires_at is not None and rotates:
        at = expires_at - policy.effective_renew_before
    if at is None:
        return None
    # Two slots: a replaced password that is still valid delays the next rotation, but leaves it time to be published
    # before the current one ends. Only a spec that was changed since has so long an overlap.
    at = max([at, *_overlaps(record)])
    return min(at, expires_at - policy.effective_renew_before / 2) if expires_at is not None and rotates else at


def _wait(
    record: Record,
    spec: RegistryTokenSpec,
    expire_at: datetime | None,
    rotate_at: datetime | None,
    *,
    requested: bool,
) -> Settled:
    coming: list[tuple[datetime, Literal["Rotate", "Retire", "Expire"]]] = [
        (end, "Expire") for end in (expire_at, spec.expires_at) if end is not None
    ]
    coming += [(end, "Retire") for end in _overlaps(record)]
    if rotate_at is not None:
        # Of what happens at the same time the first is told: what somebody asked for and waits for.
        coming.insert(0 if requested else len(coming), (rotate_at, "Rotate"))
    due, transition = min(coming, key=lambda entry: entry[0], default=(None, None))
    return Settled(due, transition)


def state_of(
    record: Record, name: SlotName, slot: Slot, revoked: Collection[str], now: datetime
) -> Literal["Pending", "Active", "Retiring", "Expired", "Revoked"]:
    """The word for a slot in the status. `revoked` are the ids in spec.passwords.revoked."""
    if slot.id in revoked:
        return "Revoked"
    if not slot.valid_at(now):
        return "Expired"
    if slot.valid_until is not None:
        return "Retiring"
    return "Active" if record.published == name else "Pending"
