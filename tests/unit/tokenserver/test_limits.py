"""How many failures are allowed, when they are forgiven, and what a flood of keys does to the table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.tokenserver import limits
from pullpass.tokenserver.errors import LimitedError
from pullpass.tokenserver.limits import Allowance, Failures, Limits

THREE = Allowance(3, 10.0)


def test_an_allowance_is_used_up_and_comes_back_one_by_one() -> None:
    failures = Failures(THREE)
    for _ in range(3):
        assert failures.wait(1, 0.0) == 0
        failures.count(1, 0.0)
    assert failures.wait(1, 0.0) == 10
    assert failures.wait(1, 4.0) == 6
    assert failures.wait(1, 10.0) == 0
    failures.count(1, 10.0)
    assert failures.wait(1, 10.0) == 10
    assert failures.wait(2, 10.0) == 0
    assert (failures.over(10.0), failures.over(20.0)) == (1, 0)
    assert failures.wait(1, 1000.0) == 0


def test_failures_beyond_the_allowance_make_nobody_wait_longer() -> None:
    failures = Failures(THREE)
    for _ in range(50):
        failures.count(1, 0.0)
    assert failures.wait(1, 0.0) == 10


@given(st.lists(st.tuples(st.floats(0, 30), st.booleans()), max_size=60))
def test_in_no_span_of_time_are_there_more_failures_than_the_allowance_says(steps: list[tuple[float, bool]]) -> None:
    failures, now, allowed = Failures(THREE), 0.0, []
    for passed, _ in steps:
        now += passed
        if failures.wait(1, now) == 0:
            failures.count(1, now)
            allowed.append(now)
    for first, begun in enumerate(allowed):
        for last in range(first, len(allowed)):
            assert last - first + 1 <= 3 + (allowed[last] - begun) / 10 + 1e-6


@given(st.lists(st.integers(0, 10_000), max_size=400))
def test_the_table_is_bounded_and_keeps_those_over_their_limit(strangers: list[int]) -> None:
    failures = Failures(THREE, tracked=16)
    for key in (-1, -2):
        for _ in range(3):
            failures.count(key, 0.0)
    for key in strangers:
        if failures.wait(key, 0.0) == 0 and key < 3 * 10_000:
            failures.count(key * 10_000 + len(failures), 0.0)
        assert len(failures) <= 16
    assert failures.wait(-1, 0.0) == failures.wait(-2, 0.0) == 10


def test_who_is_forgiven_is_forgotten_first() -> None:
    failures = Failures(THREE, tracked=8)
    for key in range(8):
        failures.count(key, 0.0)
    failures.count(100, 1000.0)
    assert len(failures) == 1


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def spend(limit: Limits, sender: str, user: str) -> int:
    """Seconds to wait, 0 where the failure was allowed."""
    try:
        limit.spend(sender, user)
    except LimitedError as error:
        return error.retry_after
    return 0


def test_a_refused_failure_is_not_counted() -> None:
    clock = Clock()
    limit = Limits(clock)
    assert [spend(limit, "192.0.2.1", f"u{n}") for n in range(limits.PER_SENDER.failures)] == [0] * 60
    for _ in range(100):
        assert spend(limit, "192.0.2.1", "u") == 1
    clock.now += 1
    assert spend(limit, "192.0.2.1", "u") == 0


def test_a_user_is_limited_whoever_sends() -> None:
    limit = Limits(Clock())
    waits = [spend(limit, f"192.0.2.{n}", "web.reader") for n in range(limits.PER_USER.failures + 1)]
    assert waits == [0] * 20 + [3]
    assert spend(limit, "192.0.2.99", "web.other") == 0


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.2", False),
        ("192.0.2.1", "::ffff:192.0.2.1", True),
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff::2", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("unix:", "unix:", True),
    ],
)
def test_what_counts_as_one_sender(one: str, other: str, same: bool) -> None:
    limit = Limits(Clock())
    for number in range(limits.PER_SENDER.failures):
        limit.spend(one, f"u{number}")
    assert (spend(limit, other, "u") > 0) is same


def test_suspicious_is_who_fails_much_at_a_user_who_is_failed_at_much() -> None:
    limit = Limits(Clock())
    for number in range(limits.PER_SENDER.failures):
        limit.count("192.0.2.1", f"u{number}")
    assert not limit.suspicious("192.0.2.1", "web.reader")
    for _ in range(limits.PER_USER.failures):
        limit.count("192.0.2.2", "web.reader")
    assert limit.suspicious("192.0.2.1", "web.reader")
    assert not limit.suspicious("192.0.2.3", "web.reader")
