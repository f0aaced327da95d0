"""Limits failed logins per sender and per user name: beyond the limit they are refused without a check.

A password that works must not suffer from the failures of others. So a limit never refuses a login that names a current
password of its user: only one that cannot succeed at this moment, such as one with a password id that no record has. A
wrong password is one failure, however often it is sent.

The clock is monotonic, in seconds, and an argument: wall-clock time may jump, and a limit must not jump with it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter

from pullpass.tokenserver.errors import LimitedError
from pullpass.tokenserver.http.proxies import network

TRACKED = 16_384
"""How many senders, and how many user names, are remembered with their failures; about 2 MiB each."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A burst of `failures`, of which one is regained every `seconds`."""

    failures: int
    seconds: float


PER_SENDER = Allowance(60, 1.0)
"""Large, as nodes behind one address share it, and each of them may have stale pull secrets."""
PER_USER = Allowance(20, 3.0)


class Failures:
    """Counts failures by key, by the generic cell rate algorithm (GCRA).

    It stores one number for each key: the moment at which the key has its full allowance again.
    """

    def __init__(self, allowance: Allowance, tracked: int = TRACKED) -> None:
        self._seconds = allowance.seconds
        self._full = allowance.failures * allowance.seconds
        self._tracked = tracked
        self._full_at: dict[int, float] = {}

    def wait(self, key: int, now: float) -> float:
        """Returns the seconds until the key is allowed another failure, 0 where it is allowed one now."""
        return max(0.0, self._full_at.get(key, now) - now - (self._full - self._seconds))

    def count(self, key: int, now: float) -> None:
        """Counts a failure of the key."""
        full_at = max(self._full_at.get(key, now), now) + self._seconds
        # Checks that run at the same time can fail beyond the allowance. Such failures do not lengthen the wait.
        self._full_at[key] = min(full_at, now + self._full)
        if len(self._full_at) > self._tracked:
            self._forget(now)

    def _forget(self, now: float) -> None:
        """Drops an eighth of the keys, those with the fewest failures first.

        So a flood of new senders displaces itself and not those over their limit. An eighth at a time, because it
        means sorting all of them.
        """
        kept = sorted(self._full_at.items(), key=itemgetter(1))[self._tracked // 8 :]
        self._full_at = {key: full_at for key, full_at in kept if full_at > now}

    def over(self, now: float) -> int:
        """Returns how many keys are over their limit."""
        return sum(full_at - now > self._full - self._seconds for full_at in self._full_at.values())

    def __len__(self) -> int:
        return len(self._full_at)


class Limits:
    """Applies both limits, by sender and by user name; `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float], tracked: int = TRACKED) -> None:
        self._clock = clock
        self.senders = Failures(PER_SENDER, tracked)
        """By address: an IPv4 address, or the first 64 bits of an IPv6 address."""
        self.users = Failures(PER_USER, tracked)
        """By user name, whether the user exists or not."""

    def now(self) -> float:
        """Returns the time on the clock of the limits, in seconds."""
        return self._clock()

    def spend(self, sender: str, username: str) -> None:
        """Counts a login that cannot succeed. Raises LimitedError instead if sender or user name is over its limit."""
        now, (sender_key, user_key) = self._clock(), _keys(sender, username)
        wait = max(self.senders.wait(sender_key, now), self.users.wait(user_key, now))
        if wait > 0:
            raise LimitedError(math.ceil(wait))
        self.senders.count(sender_key, now)
        self.users.count(user_key, now)

    def count(self, sender: str, username: str) -> None:
        """Counts a failed check of a password whose id is current. Never raises: the check has been made already."""
        now, (sender_key, user_key) = self._clock(), _keys(sender, username)
        self.senders.count(sender_key, now)
        self.users.count(user_key, now)

    def suspicious(self, sender: str, username: str) -> bool:
        """Tells whether both sender and user name are over their limits: probably this sender guesses at this user."""
        now, (sender_key, user_key) = self._clock(), _keys(sender, username)
        return self.senders.wait(sender_key, now) > 0 and self.users.wait(user_key, now) > 0


def _keys(sender: str, username: str) -> tuple[int, int]:
    # Python's hashes of text are keyed at random by each process, and take no more room for longer names.
    return hash(network(sender)), hash(username)
