"""Computes how long to wait before a retry."""

from dataclasses import dataclass

_MAX_DOUBLINGS = 64
"""Keeps the arithmetic finite, however often something fails."""


@dataclass(frozen=True)
class Backoff:
    """Waits that double with each failure in a row, from `first` to `longest` seconds."""

    first: float
    longest: float

    def delay(self, failures: int, jitter: float) -> float:
        """Returns the seconds to wait after so many failures in a row, 1 for the first one.

        `jitter`, from 0 to 1, chooses between half of the wait and all of it: many that failed at the same moment
        must not come back at the same one.
        """
        whole = min(self.longest, self.first * 2.0 ** min(max(failures - 1, 0), _MAX_DOUBLINGS))
        return whole * (0.5 + jitter / 2)
