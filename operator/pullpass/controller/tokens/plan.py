"""What is to be done about the passwords of one RegistryToken: a pure function from facts and places to a plan.

The order keeps a published password working: record, confirmation by every token server, the places, record, status.
The places have passes of their own; here is only what the token waits for. A new password takes the place of the
old one once every place that can have it has it. A place that cannot be written keeps nobody waiting: the others have
the new password by then, and the old one goes on for it as long as it may.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pullpass.api.registrytoken import SlotName
from pullpass.controller.facts import Facts
from pullpass.controller.places.plan import Place
from pullpass.controller.places.report import Report
from pullpass.credentials import rotation

FIRST_WAIT = timedelta(seconds=10)
"""How long the first password of a token waits for places. It replaces none, so nothing is lost where it is published
before it is everywhere; as long as it is not published, nothing takes its place when it ends."""


@dataclass(frozen=True)
class PlaceState:
    """A place of the token, and how far it is."""

    place: Place
    work: bool
    """Whether something is to be done there now."""
    report: Report | None
    """What its last pass left undone."""
    current: bool
    """Whether that pass wanted what is wanted now."""

    @property
    def tried(self) -> bool:
        """Whether what is to be done was tried, and failed: it is tried again by itself."""
        return self.current and self.report is not None and self.report.attempts > 0

    @property
    def blocked(self) -> bool:
        """Whether its pull secret cannot be written, as far as is known."""
        return self.current and self.report is not None and (self.report.blocked or self.report.secret_contested)

    @property
    def settling(self) -> bool:
        """Whether it is heard of soon, so that nothing of it is told yet."""
        return self.work and not (self.tried and self.report is not None and self.report.told)

    @property
    def has_older(self) -> bool:
        """Whether a pull secret of this token is there, whose password may be in use."""
        return self.place.secret is not None and self.place.secret.token_uid == self.place.token_uid


@dataclass(frozen=True)
class Confirm:
    """Go on only when every token server accepts the password of the slot."""

    slot: SlotName


@dataclass(frozen=True)
class MarkPublished:
    """Note in the record that the slot's password is in the places; the other one begins to retire."""

    slot: SlotName


Action = rotation.MakePassword | rotation.WriteRecord | Confirm | MarkPublished


@dataclass(frozen=True)
class TokenPlan:
    """What to do now. After an action the facts are gathered anew, and decided upon again."""

    action: Action | None = None
    due: datetime | None = None
    """When to look at the token again, if nothing happens before."""
    transition: Literal["Rotate", "Retire", "Expire"] | None = None
    ended: Literal["token", "password", "revoked"] | None = None
    settling: bool = False
    """Whether there is something to tell only once places that are worked on were heard of."""


def plan(facts: Facts, states: Sequence[PlaceState]) -> TokenPlan:
    """The plan for the token as it is."""
    if facts.token.deleting or facts.spec is None:
        return TokenPlan(due=_next_end(facts))
    settling = any(state.settling for state in states)
    match facts.step:
        case None:
            return TokenPlan(due=_next_end(facts))
        case rotation.MakePassword() | rotation.WriteRecord():
            return TokenPlan(facts.step)
        case rotation.Publish(slot):
            if not facts.confirmed(slot):
                return TokenPlan(Confirm(slot))
            if not any(_waits(facts, state, slot) for state in states):
                return TokenPlan(MarkPublished(slot))
            # The next step may be possible as soon as a password has ended.
            slots = [known for known in facts.record.slots.values() if known.valid_at(facts.now)]
            ends = [known.ends_at for known in slots]
            ends += [rotation.end_by_lifetime(facts.spec.passwords, known.created_at) for known in slots]
            if facts.record.published is None:
                ends.append(_first_until(facts))
            coming = (end for end in ends if end is not None and end > facts.now)
            return TokenPlan(due=min(coming, default=None), settling=settling)
        case rotation.Ended(of, due):
            retires: Literal["Retire"] | None = "Retire" if due is not None else None
            return TokenPlan(due=due or _next_end(facts), transition=retires, ended=of)
        case rotation.Settled(due, transition):
            published = facts.record.published
            if published is not None and facts.moved and not facts.confirmed(published):
                return TokenPlan(Confirm(published))
            return TokenPlan(due=due, transition=transition, settling=settling)


def _waits(facts: Facts, state: PlaceState, slot: SlotName) -> bool:
    """Whether a new password counts as published only once there is news of that place."""
    if not state.place.usable or state.place.has(facts, slot):
        return False
    assert facts.spec is not None
    record, policy = facts.record, facts.spec.passwords
    if state.blocked:
        # The old one is in use there, perhaps, so it must not begin to retire.
        return state.has_older and rotation.waits_for_every_place(record, slot, policy, facts.token.requests, facts.now)
    if record.published is None:
        return state.work and facts.now < _first_until(facts)
    old = record.slots[record.published]
    return state.work and old.valid_at(facts.now) and old.id not in policy.revoked


def _first_until(facts: Facts) -> datetime:
    """Until when the first password waits for places that were not heard of."""
    assert facts.confirmation is not None
    return facts.confirmation.at + FIRST_WAIT


def _next_end(facts: Facts) -> datetime | None:
    """When the status has to tell of another end although nothing is to be done."""
    ends = [slot.ends_at for slot in facts.record.slots.values()]
    if facts.spec is not None:
        ends.append(facts.spec.expires_at)
    return min((end for end in ends if end is not None and end > facts.now), default=None)
