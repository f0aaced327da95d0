"""Spreads what is done over time: writes, so that 20,000 passwords that are due at once are no storm for the API
server, and refusals, so that a flood of wrong passwords is none for those with good ones."""

import asyncio
import time
from collections.abc import Awaitable, Callable


class Pace:
    """At most `rate` a second in the long run, in the order of their coming. An idle second saves up for a burst."""

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
        """When the next one would have its turn if none ever came in a burst."""

    async def wait(self) -> None:
        """Returns when it is the caller's turn."""
        now = self._monotonic()
        turn = max(self._next, now - 1)
        self._next = turn + self._interval
        if turn > now:
            await self._sleep(turn - now)
