"""Limits a rate by letting callers wait.

For writes, so that 20,000 passwords that are due at once do not overload the API server; and for refusals, so that a
flood of wrong passwords does not delay good logins.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """Lets `rate` callers a second through, first come first served, after an idle second twice as many."""

    def __init__(
        self,
        rate: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._interval = 1 / rate
        self._monotonic = monotonic
        self._sleep = sleep
        self._next = float("-inf")
        """The turn of the next caller if bursts were not allowed."""

    async def wait(self) -> None:
        """Returns when it is the caller's turn."""
        now = self._monotonic()
        turn = max(self._next, now - 1)
        self._next = turn + self._interval
        if turn > now:
            await self._sleep(turn - now)
