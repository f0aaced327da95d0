"""Detects that this process stood still: frozen, suspended, or without processor time.

A process that does not answer probes is taken for dead, and others continue without it. When it runs again, what it
remembers may be outdated, and nothing else tells it so.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger(__name__)

STALL_SECONDS = 3.0
"""Longest time between two beats that does not count. The chart's readiness probe takes four seconds to fail."""
BEAT_SECONDS = 0.5


_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Returns seconds of a clock that, unlike the monotonic one, goes on while the machine is suspended."""
    return time.clock_gettime(_CLOCK)


class Heartbeat:
    """Calls `awoken` when the process runs again after it stood still for more than STALL_SECONDS.

    Call `beat` before each answer that must not be outdated: the event loop may get there before it gets to `run`.
    """

    def __init__(self, awoken: Callable[[], None], *, elapsed: Callable[[], float] = elapsed) -> None:
        self._awoken = awoken
        self._elapsed = elapsed
        self._last = elapsed()

    def beat(self) -> None:
        """Records that the process runs now, and calls `awoken` if it stood still before."""
        now = self._elapsed()
        still, self._last = now - self._last, now
        if still > STALL_SECONDS:
            log.warning("this process stood still for %.1f s (frozen, suspended, or without processor time)", still)
            self._awoken()

    async def run(self) -> NoReturn:
        """Beats until cancelled."""
        while True:
            self.beat()
            await asyncio.sleep(BEAT_SECONDS)
