"""What should next become of a token's passwords: the rotation decision, a pure function of record, spec and clock.

A rotation is Make (the idle slot gets a password), Publish (once every token server accepts it), and later Drop
(the replaced password's overlap is over). Each is one write of the record, so a rotation that was cut off anywhere
is taken up where it stopped.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from pullpass.api.registrytoken import SLOTS, Passwords, RegistryTokenSpec, SlotName
from pullpass.credentials.record import Record, Slot


@dataclass(frozen=True)
class Make:
    """Make a password in this slot."""

    slot: SlotName


@dataclass(frozen=True)
class Publish:
    """The password of this slot is to be accepted by all token servers, then to go into the pull secrets."""

    slot: SlotName


@dataclass(frozen=True)
class Write:
    """Dates in the record have to change."""

    record: Record


@dataclass(frozen=True)
class Settled:
    """Nothing is to be done before `due`, when `transition` happens by itself."""

    due: datetime | None
    transition: Literal["Rotate", "Retire", "Expire"] | None


@dataclass(frozen=True)
class Ended:
    """Access has ended: the token's own end has passed, or the password's under `onExpiry: Revoke`."""

    of: Literal["token", "password"]


Step = Make | Publish | Write | Settled | Ended


def next_step(record: Record, spec: RegistryTokenSpec, seed: str, now: datetime) -> Step:
    """The next step for a token that is enabled and may use its scope map.

    `seed` is the fingerprint of the operator's seed: a password that was derived from another one is replaced.
    """
    if spec.expires_at is not None and spec.expires_at <= now:
        return Ended("token")
    over = [name for name, slot in record.slots.items() if slot.valid_until is not None and slot.valid_until <= now]
    if over:
        for name in over:
            record = record.without_slot(name)
        return Write(record)
    if record.pending is not None:
        return _of_pending(record, record.pending, spec, seed, now)
    if record.published is None:
        return Make(_idle(record))
    return _of_current(record, record.published, spec, seed, now)


def _of_pending(record: Record, name: SlotName, spec: RegistryTokenSpec, seed: str, now: datetime) -> Step:
    slot = record.slots[name]
    if slot.seed == seed and slot.valid_at(now):
        return Publish(name)
    if slot.seed == seed and spec.passwords.on_expiry == "Revoke" and record.published is None:
        # Access ends with the first password, also where its publication was cut off.
        return _of_current(record, name, spec, seed, now)
    return Write(record.without_slot(name))


def _of_current(record: Record, name: SlotName, spec: RegistryTokenSpec, seed: str, now: datetime) -> Step:
    policy, current = spec.passwords, record.slots[name]
    expires_at = None if policy.lifetime is None else current.created_at + policy.lifetime
    dated = Write(record.with_slot(name, replace(current, expires_at=expires_at)))
    if policy.on_expiry == "Revoke" and current.expires_at != expires_at:
        return dated
    if policy.on_expiry == "Revoke" and expires_at is not None and expires_at <= now:
        return Ended("password")
    # Under Revoke access ends with this password, so one of a lost seed is not replaced: its successor would live on.
    lost = current.seed != seed and (policy.on_expiry == "Rotate" or expires_at is None)
    rotate_at = _rotation_time(record, policy, expires_at, now if lost else None)
    if rotate_at is not None and rotate_at <= now:
        # The dates of the current password stay: it must work until the new one is published.
        return Make(_idle(record))
    if current.expires_at != expires_at:
        return dated
    return _wait(record, spec, expires_at if policy.on_expiry == "Revoke" else None, rotate_at)


def published(record: Record, slot: SlotName, passwords: Passwords, now: datetime) -> Record:
    """The record once the password of `slot` stands in the pull secrets: the other slot's overlap begins."""
    result = replace(record, published=slot)
    for name, other in record.slots.items():
        if name != slot:
            result = result.with_slot(name, replace(other, valid_until=now + passwords.effective_overlap))
    return result


def expiry_of_new(passwords: Passwords, now: datetime) -> datetime | None:
    """When a password made now ends by its lifetime."""
    return None if passwords.lifetime is None else now + passwords.lifetime


def _idle(record: Record) -> SlotName:
    return next(name for name in SLOTS if name != record.published)


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
    retiring = [slot.valid_until for slot in record.slots.values() if slot.valid_until is not None]
    at = max([at, *retiring])
    return min(at, expires_at - policy.effective_renew_before / 2) if expires_at is not None and rotates else at


def _wait(record: Record, spec: RegistryTokenSpec, expire_at: datetime | None, rotate_at: datetime | None) -> Settled:
    coming: list[tuple[datetime, Literal["Rotate", "Retire", "Expire"]]] = [
        (slot.valid_until, "Retire") for slot in record.slots.values() if slot.valid_until is not None
    ]
    coming += [(end, "Expire") for end in (expire_at, spec.expires_at) if end is not None]
    if rotate_at is not None:
        coming.append((rotate_at, "Rotate"))
    due, transition = min(coming, default=(None, None))
    return Settled(due, transition)


def state_of(
    record: Record, name: SlotName, slot: Slot, now: datetime
) -> Literal["Pending", "Active", "Retiring", "Expired"]:
    """The word for a slot in the status."""
    if not slot.valid_at(now):
        return "Expired"
    if slot.valid_until is not None:
        return "Retiring"
    return "Active" if record.published == name else "Pending"
