"""Runs bcrypt checks in bounded thread pools, so that a flood of passwords cannot starve the logins of others.

There are two lanes. A login that names a user and a current password id takes the main lane, unless it is probably a
guess (see limits.py). All others, from guesses to old passwords, take the side lane, which has fewer threads and does
the same work on a dummy hash. The difference in time reveals only whether a password id is current, and an id has 24
random bits: too many to guess within the limits.
"""

import asyncio
import os
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from pullpass.credentials import hashing
from pullpass.tokenserver.errors import BusyError

MAX_WAITING = 2048
"""Checks that may wait in the main lane: a replica that has just started takes a whole cluster's logins at once."""
MAX_WAITING_SIDE = 64
MAX_PER_PASSWORD = 2
"""Concurrent checks against one password id in the main lane. More than that are guesses, and take the side lane."""
NICENESS = 5
"""Added to the niceness of hashing threads, so that the event loop goes first."""


def _yield_to_event_loop() -> None:
    """Lowers the priority of one hashing thread; on Linux niceness belongs to the thread.

    Where seccomp forbids that, the priority stays as it is: an initializer that raises would end the pool.
    """
    thread = threading.get_native_id()
    with suppress(OSError):
        # Relative to the current niceness: without privileges it can only be raised.
        os.setpriority(os.PRIO_PROCESS, thread, os.getpriority(os.PRIO_PROCESS, thread) + NICENESS)


class Lane:
    """A thread pool with a bounded queue."""

    def __init__(self, name: str, threads: int, waiting: int) -> None:
        self._pool = ThreadPoolExecutor(threads, f"bcrypt-{name}", initializer=_yield_to_event_loop)
        self._capacity = self._free = threads + waiting

    @property
    def under_way(self) -> int:
        """Checks that run or wait."""
        return self._capacity - self._free

    def submit(self, text: str, hash_: str) -> asyncio.Future[bool]:
        """Starts checking a password against a hash. Raises BusyError where the queue is full."""
        if self._free <= 0:
            raise BusyError("too many logins at this moment, try again")
        self._free -= 1
        future = asyncio.get_running_loop().run_in_executor(self._pool, hashing.check, text, hash_)
        future.add_done_callback(self._leave)
        return future

    def _leave(self, _: asyncio.Future[bool]) -> None:
        self._free += 1

    def close(self) -> None:
        """Cancels the checks that wait, and lets the threads end after the others."""
        self._pool.shutdown(wait=False, cancel_futures=True)


class Checks:
    """Checks passwords against hashes in the two lanes; `threads` of the main one, by default one for each core."""

    def __init__(self, dummy_hash: str, threads: int | None = None) -> None:
        cores = threads or len(os.sched_getaffinity(0))
        self._dummy_hash = dummy_hash
        self.main = Lane("main", cores, MAX_WAITING)
        self.side = Lane("side", max(1, cores // 2), MAX_WAITING_SIDE)
        self._under_way: Counter[str] = Counter()
        self.count = 0
        """Checks started since the process started."""

    def begin(self, text: str, hash_: str | None) -> asyncio.Future[bool]:
        """Starts checking a password; without a hash against a dummy, in the side lane. Raises BusyError."""
        if hash_ is None or self._under_way.get(hash_, 0) >= MAX_PER_PASSWORD:
            return self.begin_aside(text, hash_)
        future = self.main.submit(text, hash_)
        self._under_way[hash_] += 1
        future.add_done_callback(lambda _: self._leave(hash_))
        self.count += 1
        return future

    def begin_aside(self, text: str, hash_: str | None) -> asyncio.Future[bool]:
        """Starts checking a password in the side lane, without a hash against a dummy. Raises BusyError."""
        future = self.side.submit(text, hash_ or self._dummy_hash)
        self.count += 1
        return future

    def _leave(self, hash_: str) -> None:
        self._under_way[hash_] -= 1
        if not self._under_way[hash_]:
            del self._under_way[hash_]

    def close(self) -> None:
        """Closes both lanes."""
        self.main.close()
        self.side.close()
