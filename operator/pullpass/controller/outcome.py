"""What comes out of working on a key."""

from dataclasses import dataclass
from datetime import datetime

from pullpass.controller.queue import Key


@dataclass(frozen=True)
class Outcome:
    """When the key is next due, whether it has to be tried again before, with back-off, and which keys follow it."""

    due: datetime | None = None
    retry: str | None = None
    """Why it has to be tried again."""
    retry_after: float = 0
    """Seconds that the API server asked to wait at least."""
    follow: frozenset[Key] = frozenset()
    """Keys that may have something to do because of this pass."""
    defect: bool = False
    """Whether something went wrong that nobody expects; the log says where."""
    recovered: bool = False
    """Whether something was written in the key's namespace."""
