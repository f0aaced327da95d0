"""Notices that this process stood still while the world went on: frozen, suspended, or starved of the processor.

Whoever was away for longer than a probe waits is taken for dead by others, who go on without it. When it wakes up,
what it remembers may be outdated, and nothing else tells it so.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import NoReturn

log = logging.getLogger(__name__)

STALL_SECONDS = 3.0
"""Longest time between two beats that nobody notices. The readiness probe of the chart takes four seconds to fail."""
BEAT_SECONDS = 0.5


_CLOCK: int = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def elapsed() -> float:
    """Seconds since some moment; they also pass while the machine is asleep."""
    return time.clock_gettime(_CLOCK)


class Heartbeat:
    """Calls `awoken` once the process goes on after more than STALL_SECONDS.

    `beat` before each answer that must not be outdated, as the loop may come to that before it comes to `run`.
    """

    def __init__(self, awoken: Callable[[], None], *, elapsed: Callable[[], float] = elapsed) -> None:
        self._awoken = awoken
        self._elapsed = elapsed
        self._last = elapsed()

    def beat(self) -> None:
        """Records that the process runs at this moment."""
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
