"""How long to wait after failures in a row."""

import pytest

from pullpass.kube.backoff import Backoff

BACKOFF = Backoff(first=0.5, longest=10)


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(1, 0.5), (2, 1), (3, 2), (4, 4), (5, 8), (6, 10), (7, 10), (10**9, 10), (0, 0.5)],
)
def test_waits_double_from_the_first_to_the_longest(failures: int, seconds: float) -> None:
    assert BACKOFF.delay(failures, 1) == seconds


@pytest.mark.parametrize(("jitter", "seconds"), [(0, 1), (0.5, 1.5), (1, 2)])
def test_jitter_takes_up_to_half_of_it(jitter: float, seconds: float) -> None:
    assert BACKOFF.delay(3, jitter) == seconds
