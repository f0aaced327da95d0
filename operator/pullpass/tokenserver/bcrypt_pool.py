"""bcrypt checks in bounded thread pools, so that a flood of passwords cannot starve the logins of others.

There are two lanes. Who names a user and a current password id takes the main one, unless it is likely a guess (see
limits.py). Everybody else, from guessers to holders of an old password, takes the side lane, which has fewer threads
and does the same work on a hash that fits nothing. The id is 24 random bits, so the lane tells a guesser nothing that
can be found out by guessing.
"""

import asyncio
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pullpass.credentials import hashing
from pullpass.tokenserver.errors import BusyError

WAITING = 2048
"""Checks that may wait in the main lane: a cold replica takes a whole cluster's logins at once."""
WAITING_ASIDE = 64
PER_PASSWORD = 2
"""Checks against one password id in the main lane at a time; more of them are guesses and go aside."""
NICENESS = 5
"""By how much hashing threads give way to the event loop."""


def _yield_to_event_loop() -> None:
    """Lowers the priority of one hashing thread; on Linux niceness belongs to the thread.

    Where that is forbidden (seccomp), passwords are checked all the same: an initializer that fails would end the pool.
    """
    thread = threading.get_native_id()
    with suppress(OSError):
        # From where the process is: nobody may go back from a lower priority.
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


class Lane:
    """A thread pool with a bounded queue."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, f"bcrypt-{name}", initializer=_yield_to_event_loop)
        self._most = self._room = threads + waiting

    @property
    def under_way(self) -> int:
        """Checks that run or wait."""
        return self._most - self._room

    def submit(self, text: str, hash_: str) -> asyncio.Future[bool]:
        """Begins a check. Raises BusyError when the queue is full."""
        if self._room <= 0:
            raise BusyError("too many logins at this moment, try again")
        self._room -= 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, hashing.check, text, hash_)
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _: asyncio.Future[bool]) -> None:
        self._room += 1

    def close(self) -> None:
        """Drops what waits and lets the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Checks:
    """Checks passwords against hashes, each exactly once."""

    def __init__(self, dummy_hash: str, threads: int | None = None) -> None:
        cores = threads or len(os.sched_getaffinity(0))
        self._dummy_hash = dummy_hash
        self.main = Lane("main", cores, WAITING)
        self.side = Lane("side", max(1, cores // 2), WAITING_ASIDE)
        self._under_way: Counter[str] = Counter()
        self.count = 0
        """Checks begun since start."""

    def begin(self, text: str, hash_: str | None) -> asyncio.Future[bool]:
        """Begins to check a password, with None as the hash of nobody. Raises BusyError."""
        if hash_ is None or self._under_way.get(hash_, 0) >= PER_PASSWORD:
            return self.begin_aside(text, hash_)
        future = self.main.submit(text, hash_)
        self._under_way[hash_] += 1
        future.add_done_callback(lambda _: self._leave(hash_))
        self.count += 1
        return future

    def begin_aside(self, text: str, hash_: str | None) -> asyncio.Future[bool]:
        """Begins to check a password in the side lane. Raises BusyError."""
        future = self.side.submit(text, hash_ or self._dummy_hash)
        self.count += 1
        return future

    def _leave(self, hash_: str) -> None:
        self._under_way[hash_] -= 1
        if not self._under_way[hash_]:
            del self._under_way[hash_]

    def close(self) -> None:
        """Stops checking."""
        self.main.close()
        self.side.close()
