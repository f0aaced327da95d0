"""The work queue: the one way anything gets done.

A key is in it once, however often it is added; while it is worked on, another add makes it run again afterwards.
Failures back off per key, with jitter. Due times come from stored dates and follow the wall clock, also when it jumps.
"""

import asyncio
import heapq
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

FIRST_BACKOFF = 0.5
LAST_BACKOFF = 300.0
"""Seconds before a failed key is tried again: doubling from the first to the last."""
CLOCK_CHECK = 10.0
"""Seconds after which due times are looked at again, in case the wall clock jumped."""


class Key(NamedTuple):
    """What is to be looked at: a RegistryToken, the rests of one (by its UID), the signing keys, or the mirror."""

    kind: Literal["token", "orphan", "signing-keys", "resync"]
    namespace: str = ""
    name: str = ""


def _utcnow() -> datetime:
    return datetime.now(UTC)


class WorkQueue:
    """Keys waiting to be worked on."""

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _utcnow,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._now = now
        self._monotonic = monotonic
        self._jitter = jitter
        self._ready: dict[Key, None] = {}
        self._running: set[Key] = set()
        self._again: set[Key] = set()
        self._delayed: list[tuple[float, Key]] = []
        self._dated: list[tuple[datetime, Key]] = []
        self._due: dict[Key, datetime] = {}
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for nothing but a worker, or are being worked on."""
        return len(self._ready) + len(self._running)

    def add(self, key: Key) -> None:
        """The key is to be looked at as soon as possible."""
        if key in self._running:
            self._again.add(key)
        else:
            self._ready[key] = None
            self._changed.set()

    def add_after(self, key: Key, seconds: float) -> None:
        """The key is to be looked at after some seconds, whatever the wall clock does."""
        heapq.heappush(self._delayed, (self._monotonic() + seconds, key))
        self._changed.set()

    def set_due(self, key: Key, due: datetime | None) -> None:
        """The key is to be looked at when this time has come; replaces the due time it had."""
        if due is None:
            self._due.pop(key, None)
        elif self._due.get(key) != due:
            self._due[key] = due
            heapq.heappush(self._dated, (due, key))
            self._changed.set()

    async def get(self) -> Key:
        """The next key. The caller says `done` or `failed` afterwards."""
        while True:
            self._changed.clear()
            wait = self._collect()
            if self._ready:
                key = next(iter(self._ready))
                del self._ready[key]
                self._running.add(key)
                return key
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """The key was worked on and is as it should be."""
        self._failures.pop(key, None)
        self._finish(key)

    def failed(self, key: Key, at_least: float = 0) -> float:
        """The key could not be worked on; it comes again after a growing time, returned in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        backoff = min(FIRST_BACKOFF * 2 ** min(failures, 16), LAST_BACKOFF)
        delay: float = max(backoff * (0.5 + self._jitter() / 2), at_least)
        self.add_after(key, delay)
        self._finish(key)
        return delay

    def _finish(self, key: Key) -> None:
        self._running.discard(key)
        if key in self._again:
            self._again.discard(key)
            self.add(key)

    def _collect(self) -> float | None:
        """Moves what has come due to the ready keys; returns seconds until the next may come due."""
        clock, now = self._monotonic(), self._now()
        while self._delayed and self._delayed[0][0] <= clock:
            self.add(heapq.heappop(self._delayed)[1])
        while self._dated and self._dated[0][0] <= now:
            due, key = heapq.heappop(self._dated)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        waits = []
        if self._delayed:
            waits.append(self._delayed[0][0] - clock)
        if self._dated:
            waits.append(min((self._dated[0][0] - now).total_seconds(), CLOCK_CHECK))
        return max(min(waits), 0) if waits else None
