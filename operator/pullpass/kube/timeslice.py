"""Divides long work on the event loop into slices, so that a process with little processor time still answers.

With a CPU limit of 50m a tenth of a second of work takes two seconds, and nothing else runs meanwhile.
"""

import asyncio
import time
from collections.abc import Callable

SLICE_SECONDS = 0.01


class TimeSlice:
    """Lets other tasks run each time that the work between them has taken SLICE_SECONDS."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._began = monotonic()

    async def yield_if_over(self) -> None:
        """Yields to the event loop if the slice is over. Call it after each item."""
        if self._monotonic() - self._began >= SLICE_SECONDS:
            await asyncio.sleep(0)
            self._began = self._monotonic()
