"""Rotation over days of fake time: steps applied as the operator applies them, with delays, crashes and new specs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import chain, repeat

from hypothesis import given, settings
from hypothesis import strategies as st

from pullpass.api.registrytoken import Passwords, RegistryTokenSpec, ScopeMapRef, SlotName
from pullpass.credentials import rotation
from pullpass.credentials.record import Record, Slot

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


@dataclass
class Operator:
    """All that lives through a crash: the record and the pull secret. And what has been promised meanwhile."""

    passwords: Passwords
    delays: Iterator[int]
    crashes: Iterator[bool]
    now: datetime = START
    record: Record = field(default_factory=lambda: Record("uid", "web", "reader"))
    standing: str | None = None
    """Nonce of the password in the pull secret."""
    accepted_at: datetime | None = None
    made: int = 0
    published: list[str] = field(default_factory=list)
    replaced: dict[str, datetime] = field(default_factory=dict)
    """Until when replaced passwords were said to work."""

    def slot_of(self, nonce: str) -> Slot | None:
        return next((slot for slot in self.record.slots.values() if slot.nonce == nonce), None)

    def holds(self) -> None:
        """The promises, at this moment."""
        unpublished = [name for name, slot in self.record.slots.items() if slot.valid_until is None]
        assert len([name for name in unpublished if name != self.record.published]) <= 1
        if self.standing is not None:
            standing = self.slot_of(self.standing)
            assert standing is not None, "the password in the pull secret is unknown"
            assert standing.valid_at(self.now), "the password in the pull secret has ended"
        for nonce, until in self.replaced.items():
            slot = self.slot_of(nonce)
            assert (slot is not None and slot.valid_at(self.now)) == (self.now < until)

    def visit(self) -> datetime | None:
        """Steps until nothing is left to do now; returns when to look again."""
        for _ in range(10):
            self.holds()
            step = rotation.next_step(
                self.record,
                RegistryTokenSpec(scope_map_ref=ScopeMapRef(name="demo"), passwords=self.passwords),
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
            case rotation.Make(slot):
                assert slot != self.record.published
                assert self.record.pending is None
                self.made += 1
                self.record = self.record.with_slot(slot, self.new_slot())
                self.accepted_at = self.now + next(self.delays) * SECOND
            case rotation.Write(record):
                assert record != self.record
                self.record = record
            case rotation.Publish(slot):
                if self.accepted_at is not None and self.now < self.accepted_at:
                    return self.accepted_at
                self.publish(slot)
            case _:
                raise AssertionError(f"{step} for a token that rotates and does not end")
        return None

    def publish(self, slot: SlotName) -> None:
        nonce = self.record.slots[slot].nonce
        self.standing = nonce
        self.holds()
        if next(self.crashes):
            return  # between pull secret and record: comes again
        self.published.append(nonce)
        self.record = rotation.published(self.record, slot, self.passwords, self.now)
        for name, other in self.record.slots.items():
            if name != slot and other.ends_at is not None:
                self.replaced[other.nonce] = other.ends_at

    def new_slot(self) -> Slot:
        return Slot(
            id=f"{self.made:06x}",
            nonce=str(self.made),
            seed="seed",
            hash="",
            created_at=self.now,
            expires_at=rotation.expiry_of_new(self.passwords, self.now),
        )

    def live_until(self, end: datetime) -> None:
        while True:
            due = self.visit()
            if due is None or due >= end:
                break
            self.now = due
        self.now = max(self.now, end)
        self.holds()


delays = st.lists(st.integers(0, LONGEST_DELAY), max_size=40).map(lambda given: chain(given, repeat(0)))
crashes = st.lists(st.booleans(), max_size=20).map(lambda given: chain(given, repeat(False)))


@settings(max_examples=150, deadline=None)
@given(policies(), delays, crashes, st.integers(1, 12))
def test_a_published_password_works_and_a_replaced_one_as_long_as_said(
    passwords: Passwords, delays: Iterator[int], crashes: Iterator[bool], lifetimes: int
) -> None:
    operator = Operator(passwords, delays, crashes)
    operator.live_until(START + lifetimes * (passwords.lifetime or timedelta(days=3)))
    if passwords.lifetime is None:
        assert operator.made == 1
    assert operator.made - len(operator.published) in (0, 1), "a password was made twice"
    assert len(set(operator.published)) == len(operator.published)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(policies(), st.integers(1, 60 * 60 * 24 * 2)), min_size=2, max_size=8), delays, crashes)
def test_a_published_password_works_whatever_becomes_of_the_spec(
    changes: list[tuple[Passwords, int]], delays: Iterator[int], crashes: Iterator[bool]
) -> None:
    operator = Operator(changes[0][0], delays, crashes)
    for passwords, seconds in changes:
        operator.passwords = passwords
        # A shorter lifetime may need the slot of a password that retires.
        operator.replaced.clear()
        operator.live_until(operator.now + seconds * SECOND)
    assert operator.made - len(operator.published) in (0, 1), "a password was made twice"


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60 * 48), st.lists(st.integers(1, 60 * 60 * 24), max_size=20), crashes)
def test_under_revoke_nothing_is_valid_after_the_first_lifetime(
    minutes: int, visits: list[int], crashes: Iterator[bool]
) -> None:
    lifetime = timedelta(minutes=minutes)
    spec = RegistryTokenSpec(
        scope_map_ref=ScopeMapRef(name="demo"), passwords=Passwords(lifetime=lifetime, on_expiry="Revoke")
    )
    operator = Operator(spec.passwords, repeat(0), crashes)
    for seconds in (0, *visits):
        operator.now += seconds * SECOND
        while True:
            step = rotation.next_step(operator.record, spec, "seed", operator.now)
            if isinstance(step, rotation.Settled | rotation.Ended) or next(operator.crashes):
                break
            operator.apply(step)
        first = operator.record.slots.get("password1")
        if first is not None:
            over = operator.now >= first.created_at + lifetime
            assert over != any(slot.valid_at(operator.now) for slot in operator.record.slots.values())
    assert operator.made <= 1
