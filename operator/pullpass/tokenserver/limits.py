"""How many wrong credentials may come from one sender, and for one user name, before more of them are refused unread.

A password that works must not suffer from the failures of others. So a limit never refuses a login that names a current
password of its user: only one that cannot succeed at this moment, such as a password id that no record has. A wrong
password is one failure, however often it is sent.

The clock is monotonic, in seconds, and an argument: the time of day may jump, and a limit must not jump with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

from pullpass.tokenserver.errors import LimitedError
from pullpass.tokenserver.http.proxies import network

TRACKED = 16_384
"""Senders, and user names, whose failures are remembered; about 2 MiB each."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """So many failures at once, and another one each time that `seconds` have passed."""

    failures: int
    seconds: float


PER_SENDER = Allowance(60, 1.0)
"""Many nodes share an address, and each has its stale pull secrets."""
PER_USER = Allowance(20, 3.0)


class Failures:
    """Failures by key: for each the moment at which its allowance is whole again, and nothing else (the generic cell
    rate algorithm)."""

    def __init__(self, allowance: Allowance, tracked: int = TRACKED) -> None:
        self._seconds = allowance.seconds
        self._whole = allowance.failures * allowance.seconds
        self._tracked = tracked
        self._whole_at: dict[int, float] = {}

    def wait(self, key: int, now: float) -> float:
        """Seconds until the key is allowed another failure; 0 when it is now."""
        return max(0.0, self._whole_at.get(key, now) - now - (self._whole - self._seconds))

    def count(self, key: int, now: float) -> None:
        """One more failure."""
        whole_at = max(self._whole_at.get(key, now), now) + self._seconds
        # Failures beyond the allowance happen where checks ran at the same time; they make nobody wait longer.
        self._whole_at[key] = min(whole_at, now + self._whole)
        if len(self._whole_at) > self._tracked:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Who has failed least goes first, so that a flood of new senders pushes out itself and not those over their
        limit. An eighth at a time, as it means sorting."""
        kept = sorted(self._whole_at.items(), key=itemgetter(1))[self._tracked // 8 :]
        self._whole_at = {key: whole_at for key, whole_at in kept if whole_at > now}

    def over(self, now: float) -> int:
        """How many keys are over their limit."""
        return sum(whole_at - now > self._whole - self._seconds for whole_at in self._whole_at.values())

    def __len__(self) -> int:
        return len(self._whole_at)


class Limits:
    """The failures of senders and those for users."""

    def __init__(self, clock: Callable[[], float], tracked: int = TRACKED) -> None:
        self._clock = clock
        self.senders = Failures(PER_SENDER, tracked)
        """By network: an IPv4 address, or 64 bits of an IPv6 one."""
        self.users = Failures(PER_USER, tracked)
        """By user name, whether there is such a user or not."""

    def now(self) -> float:
        """The moment that all of this is about."""
        return self._clock()

    def spend(self, sender: str, username: str) -> None:
        """Counts a login that cannot succeed. Raises LimitedError in its place where too many were before it."""
        now, (from_, for_) = self._clock(), _keys(sender, username)
        wait = max(self.senders.wait(from_, now), self.users.wait(for_, now))
        if wait > 0:
            raise LimitedError(math.ceil(wait))
        self.senders.count(from_, now)
        self.users.count(for_, now)

    def count(self, sender: str, username: str) -> None:
        """Counts a wrong password that could have been right."""
        now, (from_, for_) = self._clock(), _keys(sender, username)
        self.senders.count(from_, now)
        self.users.count(for_, now)

    def suspicious(self, sender: str, username: str) -> bool:
        """Whether both are over their limits: likely the one who guesses at this user, though it need not be."""
        now, (from_, for_) = self._clock(), _keys(sender, username)
        return self.senders.wait(from_, now) > 0 and self.users.wait(for_, now) > 0


def _keys(sender: str, username: str) -> tuple[int, int]:
    # Python's hashes of text are keyed at random by each process, and take no more room for longer names.
    return hash(network(sender)), hash(username)
