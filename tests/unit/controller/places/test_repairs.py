"""The back-off against another controller: when a repair waits, until when, and what is no repair."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.controller.places import repairs as module
from pullpass.controller.places.repairs import LEAST, LEAST_MISSING, QUIET, Item, Repairs, Wait

START = datetime(2027, 3, 1, 12, tzinfo=UTC)
ENTRY = Item("uid-1", "web", "reader-pull", "default", "sa-1")
SECRET = Item("uid-1", "web", "reader-pull")
WAITS = [10, 20, 40, 80, 160, 320, 600, 600, 600]
"""From the first repair to the second, from that to the third, and so on."""


@dataclass
class Other:
    """A controller that undoes what is written as soon as it is there, and us, who look at it all the time."""

    wall: datetime = START
    seconds: float = 1000.0
    repairs: Repairs = field(init=False)

    def __post_init__(self) -> None:
        self.repairs = Repairs(monotonic=lambda: self.seconds)

    def forward(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds

    def hold(self, item: Item = ENTRY, generation: int = 1, missing: str = "") -> Wait | None:
        return self.repairs.waits(item.token_uid, item.namespace, generation, self.wall, missing).get(item)

    def wait(self, item: Item = ENTRY) -> float:
        """How long a repair has to wait now."""
        hold = self.hold(item)
        return (hold.until - self.wall).total_seconds() if hold is not None else 0

    def did(self, item: Item = ENTRY, generation: int = 1, password_id: str = "") -> None:
        self.repairs.did(item, generation, password_id)

    def quarrel(self, repairs: int) -> None:
        """The first writing, and as many repairs of it, each as soon as it may be made."""
        self.did()
        for _ in range(repairs):
            self.forward(self.wait())
            self.did()

    def repairs_within(self, seconds: float, step: float) -> int:
        """How often it is repaired in that time if it is undone and looked at every `step` seconds."""
        end, repairs = self.seconds + seconds, 0
        while self.seconds < end:
            if self.hold() is None:
                self.did()
                repairs += 1
            self.forward(step)
        return repairs


@pytest.fixture
def other() -> Other:
    return Other()


def test_what_was_never_written_and_the_first_repair_are_at_once(other: Other) -> None:
    assert other.hold() is None
    other.did()
    assert other.hold() is None
    other.forward(0.1)
    assert other.hold() is None


def test_from_the_second_repair_on_each_waits_twice_as_long_up_to_a_limit(other: Other) -> None:
    other.quarrel(1)
    for wait in WAITS:
        assert other.wait() == wait
        other.forward(wait - 0.1)
        assert other.hold() is not None
        other.forward(0.1)
        assert other.hold() is None
        other.did()


def test_a_secret_that_is_missing_waits_for_half_a_minute_and_entries_as_ever(other: Other) -> None:
    for item in (SECRET, ENTRY):
        for _ in range(8):
            other.did(item)
    other.forward(LEAST_MISSING.longest - 1)
    assert other.hold(SECRET, missing="reader-pull") is not None
    other.forward(1)
    assert other.hold(SECRET, missing="reader-pull") is None
    assert other.hold(SECRET, missing="other-pull") is not None
    assert other.hold(ENTRY, missing="reader-pull") is not None


@given(st.floats(0.01, 3))
def test_a_fight_of_a_minute_costs_four_writes_however_fast_the_other_is(step: float) -> None:
    other = Other()
    # The first writing, and repairs at 0, 10 and 30 seconds; the next would come at 70.
    assert other.repairs_within(60, step) == 4


def test_a_fight_of_a_day_costs_one_write_in_ten_minutes(other: Other) -> None:
    assert other.repairs_within(24 * 3600, 1) <= 24 * 6 + 8


@pytest.mark.parametrize("repairs", range(1, 10))
def test_a_repair_that_stands_long_enough_ends_the_quarrel(other: Other, repairs: int) -> None:
    other.quarrel(repairs)
    other.forward(WAITS[repairs - 1] + QUIET)
    other.did()
    assert other.wait() == LEAST.first, "that was the first repair of another quarrel"


@pytest.mark.parametrize("repairs", range(1, 9))
def test_until_then_it_goes_on_where_it_was(other: Other, repairs: int) -> None:
    other.quarrel(repairs)
    other.forward(WAITS[repairs - 1] + QUIET - 1)
    assert other.hold() is None, "after so long a time the repair itself does not wait"
    other.did()
    assert other.wait() == WAITS[repairs]


def test_what_breaks_now_and_then_is_always_repaired_at_once(other: Other) -> None:
    other.did()
    for _ in range(50):
        other.forward(LEAST.first + QUIET)
        assert other.hold() is None
        other.did()


def test_one_accident_is_not_told_of_once_it_is_repaired(other: Other) -> None:
    other.quarrel(1)
    hold = other.hold()
    assert hold is not None
    assert not hold.lasting
    other.forward(LEAST.first)
    other.did()
    hold = other.hold()
    assert hold is not None
    assert hold.lasting


def test_what_somebody_else_has_put_back_is_settled_and_yet_remembered(other: Other) -> None:
    other.quarrel(3)
    other.repairs.missed(ENTRY)
    hold = other.hold()
    assert hold is not None
    assert not hold.lasting
    assert other.wait() == WAITS[2], "should it vanish again, it is no faster for that"
    other.forward(WAITS[2])
    other.did()
    hold = other.hold()
    assert hold is not None
    assert hold.lasting


@pytest.mark.parametrize("first", [SECRET, ENTRY])
def test_another_spec_is_no_repair(other: Other, first: Item) -> None:
    other.did(first, 1, "")
    other.did(first, 1, "")
    assert other.hold(first, generation=1) is not None
    assert other.hold(first, generation=2) is None
    other.did(first, 2, "")
    assert other.hold(first, generation=2) is None, "and its first repair is at once again"


def test_another_password_is_no_repair(other: Other) -> None:
    for _ in range(3):
        other.did(SECRET, 1, "4f9c1e")
    hold = other.hold(SECRET)
    assert hold is not None
    assert hold.password_id == "4f9c1e", "a repair with another password is none, and whoever decides can tell"
    other.did(SECRET, 1, "0b7aa2")
    assert other.hold(SECRET) is None


def test_what_we_took_away_ourselves_is_no_repair(other: Other) -> None:
    other.quarrel(4)
    other.did(ENTRY._replace(removal=True))
    assert other.hold() is None
    other.did()
    assert other.hold() is None


@pytest.mark.parametrize(
    "another",
    [
        SECRET,
        ENTRY._replace(token_uid="uid-2"),
        ENTRY._replace(namespace="staging"),
        ENTRY._replace(secret="other-pull"),
        ENTRY._replace(account="builder"),
        ENTRY._replace(account_uid="sa-2"),
    ],
)
def test_each_thing_has_its_own_quarrel(other: Other, another: Item) -> None:
    other.quarrel(5)
    assert other.hold(another) is None
    other.did(another)
    assert other.hold(another) is None
    assert other.hold() is not None


@pytest.mark.parametrize("jump", [timedelta(days=365), timedelta(days=-365), timedelta(hours=1), timedelta(hours=-1)])
def test_the_wall_clock_may_jump(other: Other, jump: timedelta) -> None:
    other.quarrel(3)
    other.wall += jump
    assert other.wait() == WAITS[2], "as many seconds as before, counted from the new time"
    other.seconds += WAITS[2]
    assert other.hold() is None


@given(st.lists(st.floats(0.001, 20), max_size=20))
def test_one_wait_has_one_end_whenever_it_is_asked_for(steps: list[float]) -> None:
    other = Other()
    other.forward(0.123456)
    other.quarrel(4)
    hold = other.hold()
    assert hold is not None
    for step in steps:
        other.forward(step)
        now = other.hold()
        if now is not None:
            # The two clocks are read one after the other, so within one second at least.
            assert abs(now.until - hold.until) <= timedelta(seconds=1)
            assert now.until.microsecond == 0
            assert now.until >= other.wall


@given(st.lists(st.tuples(st.sampled_from(["look", "did", "missed"]), st.floats(0, 2000)), max_size=60))
def test_two_repairs_are_never_closer_than_the_wait_in_between(steps: list[tuple[str, float]]) -> None:
    other = Other()
    written: list[float] = []
    for step, seconds in steps:
        other.forward(seconds)
        if step == "missed":
            other.repairs.missed(ENTRY)
        elif other.hold() is None:
            other.did()
            written.append(other.seconds)
        assert other.wait() <= LEAST.longest + 1
    # The first of all is no repair, so the repair after it may be at once.
    assert all(later - earlier >= LEAST.first - 0.001 for earlier, later in pairwise(written[1:]))


def test_memory_is_bounded_and_the_oldest_goes(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    for _ in range(3):
        other.did()
    for number in range(3):
        other.did(SECRET._replace(token_uid=f"uid-{number + 2}"))
    assert other.hold() is None
    assert len(other.repairs._histories) == 3
    assert set(other.repairs._of) == {("uid-2", "web"), ("uid-3", "web"), ("uid-4", "web")}


def test_a_quarrel_that_goes_on_is_not_the_oldest(other: Other, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    other.did()
    for number in range(5):
        other.did(SECRET._replace(token_uid=f"uid-{number + 2}"))
        other.did()
    assert other.hold() is not None


def test_what_is_unknown_is_neither_missed_nor_forgotten(other: Other) -> None:
    other.repairs.missed(ENTRY)
    other.repairs.forget(ENTRY)
    assert other.hold() is None
