"""An operator in fake time: steps applied as the real one applies them, with delays and crashes, and the promises."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat

from hypothesis import strategies as st

from pullpass.api.registrytoken import Passwords, RegistryTokenSpec, ScopeMapRef, SlotName
from pullpass.credentials import rotation
from pullpass.credentials.record import Record, Requests, Slot

START = datetime(2027, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)
RESTART = timedelta(seconds=2)
LONGEST_DELAY = 40
"""Seconds until all token servers accept a password; the shortest lifetime below leaves 100 for all."""


@st.composite
def policies(draw: st.DrawFn) -> Passwords:
    """Policies with `onExpiry: Rotate` as the API server lets them in."""
    minutes = draw(st.none() | st.integers(10, 60) | st.integers(60, 60 * 24 * 3))
    if minutes is None:
        return Passwords(overlap=draw(st.none() | st.integers(0, 7200).map(lambda s: timedelta(seconds=s))))
    lifetime = timedelta(minutes=minutes)
    seconds = int(lifetime.total_seconds())
    renew = draw(st.none() | st.integers(200, seconds - 60).map(lambda s: timedelta(seconds=s)))
    between = lifetime - (renew or lifetime / 3)
    overlap = draw(st.none() | st.integers(0, int(between.total_seconds())).map(lambda s: timedelta(seconds=s)))
    return Passwords(lifetime=lifetime, renew_before=renew, overlap=overlap)


delays = st.lists(st.integers(0, LONGEST_DELAY), max_size=40).map(lambda given: chain(given, repeat(0)))
crashes = st.lists(st.booleans(), max_size=20).map(lambda given: chain(given, repeat(False)))


@dataclass
class Operator:
    """All that lives through a crash: the record and the pull secret. And what has been promised meanwhile."""

    passwords: Passwords
    delays: Iterator[int]
    crashes: Iterator[bool]
    now: datetime = START
    record: Record = field(default_factory=lambda: Record("uid", "web", "reader"))
    asked: Requests = field(default_factory=Requests)
    standing: str | None = None
    """Nonce of the password in the pull secret."""
    accepted_at: datetime | None = None
    made: int = 0
    published: list[str] = field(default_factory=list)
    replaced: dict[str, datetime] = field(default_factory=dict)
    """Until when replaced passwords were said to work."""
    killed: set[str] = field(default_factory=set)
    """Nonces of passwords that people revoked."""
    answered: list[str] = field(default_factory=list)
    """Values of requests that a password was made for."""

    def slot_of(self, nonce: str) -> Slot | None:
        return next((slot for slot in self.record.slots.values() if slot.nonce == nonce), None)

    def works(self, nonce: str) -> bool:
        slot = self.slot_of(nonce)
        return slot is not None and slot.valid_at(self.now) and slot.id not in self.passwords.revoked

    def holds(self) -> None:
        """The promises, at this moment."""
        unpublished = [name for name, slot in self.record.slots.items() if slot.valid_until is None]
        assert len([name for name in unpublished if name != self.record.published]) <= 1
        if self.standing is not None and self.standing not in self.killed:
            assert self.works(self.standing), "the password in the pull secret does not work"
        for nonce, until in list(self.replaced.items()):
            assert self.works(nonce) == (self.now < until)
            if self.now >= until:
                del self.replaced[nonce]

    def revoke(self, name: SlotName) -> None:
        """Somebody names the password of that slot in spec.passwords.revoked."""
        slot = self.record.slots.get(name)
        if slot is not None:
            self.passwords = self.passwords.model_copy(update={"revoked": [*self.passwords.revoked, slot.id]})
            self.killed.add(slot.nonce)
            self.replaced.pop(slot.nonce, None)

    def visit(self) -> datetime | None:
        """Steps until nothing is left to do now; returns when to look again."""
        for _ in range(10):
            self.holds()
            step = rotation.next_step(
                self.record,
                RegistryTokenSpec(scope_map_ref=ScopeMapRef(name="demo"), passwords=self.passwords),
                self.asked,
                "seed",
                self.now,
            )
            if isinstance(step, rotation.Settled):
                assert step.due is None or step.due > self.now
                return step.due
            if next(self.crashes):
                return self.now + RESTART
            wait = self.apply(step)
            self.holds()
            if wait is not None:
                return wait
            if next(self.crashes):
                return self.now + RESTART
        raise AssertionError("does not settle")

    def apply(self, step: rotation.Step) -> datetime | None:
        match step:
            case rotation.MakePassword(slot):
                self.make(slot)
            case rotation.WriteRecord(record):
                assert record != self.record
                for name in set(self.record.slots) - set(record.slots):
                    if name == self.record.pending:
                        gone = self.record.slots[name].requests
                        self.answered = [v for v in self.answered if v not in (gone.rotate, gone.regenerate)]
                self.record = record
            case rotation.Publish(slot):
                if self.accepted_at is not None and self.now < self.accepted_at:
                    return self.accepted_at
                self.publish(slot)
            case _:
                raise AssertionError(f"{step} for a token that rotates and does not end")
        return None

    def make(self, name: SlotName) -> None:
        over = self.record.slots.get(name)
        if name in (self.record.published, self.record.pending):
            assert over is not None
            assert over.nonce in self.killed, "a living password was overwritten"
        else:
            assert self.record.pending is None
        if self.record.published is not None:
            opened = self.asked.beyond(self.record.slots[self.record.published].requests)
            for value in filter(None, (opened.rotate, opened.regenerate)):
                assert value not in self.answered, "two passwords were made for one value"
                self.answered.append(value)
            if over is not None and opened.regenerate:
                self.replaced.pop(over.nonce, None)
        self.made += 1
        self.record = rotation.made(self.record, name, self.new_slot(), self.asked)
        self.accepted_at = self.now + next(self.delays) * SECOND

    def publish(self, slot: SlotName) -> None:
        new = self.record.slots[slot]
        self.standing = new.nonce
        self.holds()
        if next(self.crashes):
            return  # between pull secret and record: comes again
        self.published.append(new.nonce)
        before = self.record
        self.record = rotation.published(self.record, slot, self.passwords, self.now)
        for name, other in before.slots.items():
            if name == slot:
                continue
            after = self.record.slots.get(name)
            if other.requests.regenerate != new.requests.regenerate:
                assert after is None, "an older password outlives a regenerated one"
                self.replaced.pop(other.nonce, None)
            else:
                assert after is not None
                assert after.ends_at is not None
                assert self.replaced.get(other.nonce, after.ends_at) == after.ends_at
                if other.nonce not in self.killed:
                    self.replaced[other.nonce] = after.ends_at

    def new_slot(self) -> Slot:
        return Slot(
            id=f"{self.made:06x}",
            nonce=str(self.made),
            seed="seed",
            hash="",
            created_at=self.now,
            expires_at=rotation.end_by_lifetime(self.passwords, self.now),
        )

    def live_until(self, end: datetime) -> None:
        while True:
            due = self.visit()
            if due is None or due >= end:
                break
            self.now = due
        self.now = max(self.now, end)
        self.holds()
