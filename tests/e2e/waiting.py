"""Wait for a condition: tests here wait for what they want to see, never for some time."""

import time
from collections.abc import Callable, Collection
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T | None], what: str, *, timeout: float = 60, every: float = 0.3) -> T:
    """The first true value of `condition()`; after `timeout` seconds an AssertionError with the last value."""
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not within {timeout:.0f} s: {what}; last seen: {value!r}"
        time.sleep(every)
    return value


def until_empty(found: Callable[[], Collection[object]], what: str, *, timeout: float = 60) -> None:
    """Wait until nothing is found any more; after `timeout` seconds an AssertionError with what still is."""
    deadline = time.monotonic() + timeout
    while rest := found():
        assert time.monotonic() < deadline, f"after {timeout:.0f} s still there of {what}: {rest!r}"
        time.sleep(0.3)
