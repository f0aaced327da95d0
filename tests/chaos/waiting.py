"""Wait for a condition, or for the end of tasks, while everything else goes on."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 180.0
"""Seconds after which a wait is given up. Generous: the machine may be busy, and no test measures time."""


async def until(condition: Callable[[], T | None], what: str, *, seconds: float = PATIENCE, every: float = 0.1) -> T:
    """The first true value of `condition()`. Raises AssertionError with the last value after `seconds`."""

    async def asked() -> T | None:
        return condition()

    return await eventually(asked, what, seconds=seconds, every=every)


async def eventually(
    condition: Callable[[], Awaitable[T | None]], what: str, *, seconds: float = PATIENCE, every: float = 0.1
) -> T:
    """The first true value of `await condition()`. Raises AssertionError with the last value after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := await condition()):
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}; last seen: {value!r}"
        await asyncio.sleep(every)
    return value


async def until_none(
    found: Callable[[], Awaitable[list[str]]], what: str, *, seconds: float = PATIENCE, every: float = 0.3
) -> None:
    """Waits until nothing is found any more. Raises AssertionError with what still is after `seconds`."""
    deadline = time.monotonic() + seconds
    while rest := await found():
        assert time.monotonic() < deadline, f"after {seconds:.0f} s still there of {what}: {'; '.join(rest[:10])}"
        await asyncio.sleep(every)


async def cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancels tasks and waits for their end. Raises what one of them had failed with before."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    for ended in await asyncio.gather(*tasks, return_exceptions=True):
        if isinstance(ended, Exception):
            raise ended
