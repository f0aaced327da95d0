"""The work queue: the one way anything gets done.

A key is in it once, however often it is added; while it is worked on, another add makes it run again afterwards.
Failures back off per key, with jitter. Due times come from stored dates and follow the wall clock, also when it jumps.

What somebody waits for goes before what is merely due, and namespaces take turns: neither 20,000 passwords that are
due at once nor a namespace with thousands of tokens keeps a new token of another namespace waiting.
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
SHARE = 4
"""Of so many keys one is taken from those that are not urgent, also while urgent ones wait."""
CLOCK_CHECK = 10.0
"""Seconds after which due times are looked at again, in case the wall clock jumped."""


Kind = Literal["token", "orphan", "signing-keys", "server-keys"]


class Key(NamedTuple):
    """What is to be looked at: a RegistryToken, the rests of one (by its UID), or the signing keys of a registry (by
    the name of its leaf's Secret)."""

    kind: Kind
    namespace: str = ""
    name: str = ""


def _utcnow() -> datetime:
    return datetime.now(UTC)


class _Lane:
    """Keys in the order they came, the namespaces in turn."""

    def __init__(self) -> None:
        self._keys: dict[str, dict[Key, None]] = {}
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: Key) -> bool:
        return key in self._keys.get(key.namespace, ())

    def add(self, key: Key) -> None:
        if key not in self:
            self._keys.setdefault(key.namespace, {})[key] = None
            self._count += 1

    def discard(self, key: Key) -> None:
        if key in self:
            self._take(key.namespace, key)

    def pop(self) -> Key:
        namespace = next(iter(self._keys))
        key = next(iter(self._keys[namespace]))
        self._take(namespace, key)
        if namespace in self._keys:
            self._keys[namespace] = self._keys.pop(namespace)
        return key

    def _take(self, namespace: str, key: Key) -> None:
        keys = self._keys[namespace]
        del keys[key]
        self._count -= 1
        if not keys:
            del self._keys[namespace]


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
        self._urgent = _Lane()
        self._others = _Lane()
        self._turn = 0
        self._running: dict[Key, bool] = {}
        self._again: dict[Key, bool] = {}
        self._delayed: list[tuple[float, Key, bool]] = []
        self._dated: list[tuple[datetime, Key]] = []
        self._due: dict[Key, datetime] = {}
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for nothing but a worker, or are being worked on."""
        return len(self._urgent) + len(self._others) + len(self._running)

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """The key is to be looked at as soon as possible; an urgent one before others."""
        if key in self._running:
            self._again[key] = urgent or self._again.get(key, False)
            return
        if urgent:
            self._others.discard(key)
            self._urgent.add(key)
        elif key not in self._urgent:
            self._others.add(key)
        self._changed.set()

    def add_after(self, key: Key, seconds: float, *, urgent: bool = False) -> None:
        """The key is to be looked at after some seconds, whatever the wall clock does."""
        heapq.heappush(self._delayed, (self._monotonic() + seconds, key, urgent))
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
            if self._urgent or self._others:
                return self._take()
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def _take(self) -> Key:
        self._turn = (self._turn + 1) % SHARE
        urgent = bool(self._urgent) and not (self._others and self._turn == 0)
        key = (self._urgent if urgent else self._others).pop()
        self._running[key] = urgent
        return key

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
        self.add_after(key, delay, urgent=self._running.get(key, False))
        self._finish(key)
        return delay

    def _finish(self, key: Key) -> None:
        self._running.pop(key, None)
        urgent = self._again.pop(key, None)
        if urgent is not None:
            self.add(key, urgent=urgent)

    def _collect(self) -> float | None:
        """Moves what has come due to the ready keys; returns seconds until the next may come due."""
        clock, now = self._monotonic(), self._now()
        while self._delayed and self._delayed[0][0] <= clock:
            _, key, urgent = heapq.heappop(self._delayed)
            self.add(key, urgent=urgent)
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
