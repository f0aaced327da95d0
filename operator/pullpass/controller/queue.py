"""The work queue: the one way anything gets done.

A key is in it once, however often it is added; while it is worked on, another add makes it run again afterwards.
Due times come from stored dates and follow the wall clock, also when it jumps.

Whoever is slow or broken harms only itself:

- A key that failed comes again after a back-off of its own, of which news leaves the shortest. Such retries are paced
  over all keys, one of a namespace at a time, and run beside the others, never in their place. Where one of a namespace
  succeeds again, the others of it are retried at once.
- A pass that hangs gives its turn to another key after some seconds. Meanwhile no other key of its kind and namespace
  begins, and once it has failed they all count as failed: a namespace that hangs costs one turn, or two, however many
  keys it has. So a hundred may begin to hang at the same moment, and a healthy one waits for some seconds.
- No namespace, and no kind of key, can have so many passes under way that none is left for the others.
- What somebody waits for goes before what is merely due, and namespaces take turns: neither 20,000 passwords that are
  due at once nor a namespace with thousands of tokens keeps a new token of another namespace waiting.
"""

import asyncio
import heapq
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, NamedTuple, get_args

from pullpass.api.times import utcnow
from pullpass.kube.backoff import Backoff

BACKOFF = Backoff(first=0.5, longest=15.0)
"""Before a failed key is tried again. What was broken works again within the longest wait once it is mended, as nothing
tells us of most repairs."""
RETRIES_PER_SECOND = 20.0
"""Keys that failed before are tried again at this rate at most: a fifth of the writes that there may be by default."""
SHARE = 4
"""Of so many keys one is taken from those that are not urgent, also while urgent ones wait."""
SLOW_SECONDS = 2.0
"""A pass under way for longer than this gives its turn to another key."""
MAX_OF_NAMESPACE = 12
"""Passes of one kind under way at once in one namespace."""
MAX_OF_KIND = 128
"""Passes of one kind under way at once, slow ones included."""
MAX_RETRIES = 64
"""So many of them may be of keys that failed before. The rest is left to those that did not."""
CLOCK_CHECK = 10.0
"""Seconds after which due times are looked at again, in case the wall clock jumped."""


Kind = Literal["token", "place", "status", "cleanup", "signing-keys", "availability", "server-keys"]
KINDS: tuple[Kind, ...] = get_args(Kind)


class Key(NamedTuple):
    """What is to be looked at.

    `token`: a RegistryToken. `place`: a namespace and the UID of the RegistryToken whose pull secret and entries are in
    it, or were. `status`: the status of a RegistryToken, to be written. `cleanup`: the UID of a RegistryToken that is
    gone. `signing-keys`: the keys of a registry, by the name of its leaf's Secret. `availability`: which registries
    the token servers can issue access tokens for. `server-keys`: all certificates of our servers.
    """

    kind: Kind
    namespace: str = ""
    name: str = ""


class _Lane:
    """Keys of one kind in the order they came, the namespaces in turn."""

    def __init__(self, kind: Kind) -> None:
        self._kind = kind
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

    def pop_namespace(self, namespace: str) -> list[Key]:
        """Returns all keys of a namespace."""
        keys = list(self._keys.pop(namespace, ()))
        self._count -= len(keys)
        return keys

    def pop(self, full_namespace: Callable[[tuple[Kind, str]], bool]) -> Key | None:
        """Returns the next key of a namespace that is not full, None where all are."""
        for namespace, keys in self._keys.items():
            if not full_namespace((self._kind, namespace)):
                key = next(iter(keys))
                self._take(namespace, key)
                if namespace in self._keys:
                    self._keys[namespace] = self._keys.pop(namespace)
                return key
        return None

    def _take(self, namespace: str, key: Key) -> None:
        keys = self._keys[namespace]
        del keys[key]
        self._count -= 1
        if not keys:
            del self._keys[namespace]


class _Lanes:
    """A lane for each kind, which take turns: where one kind has to wait, the others go on."""

    def __init__(self) -> None:
        self._lanes: dict[Kind, _Lane] = {kind: _Lane(kind) for kind in KINDS}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def __contains__(self, key: Key) -> bool:
        return key in self._lanes[key.kind]

    def add(self, key: Key) -> None:
        self._lanes[key.kind].add(key)

    def discard(self, key: Key) -> None:
        self._lanes[key.kind].discard(key)

    def pop_namespace(self, kind: Kind, namespace: str) -> list[Key]:
        return self._lanes[kind].pop_namespace(namespace)

    def pop(self, full: Callable[[Kind], bool], full_namespace: Callable[[tuple[Kind, str]], bool]) -> Key | None:
        for kind, lane in list(self._lanes.items()):
            if full(kind):
                continue
            key = lane.pop(full_namespace)
            if key is not None:
                self._lanes[kind] = self._lanes.pop(kind)
                return key
        return None


@dataclass(slots=True)
class _Pass:
    """A key that is being worked on."""

    begun: float
    urgent: bool
    retry: bool
    again: bool | None = None
    """Whether the key was added meanwhile; if so, whether as an urgent one."""

    def slow(self, clock: float) -> bool:
        """Whether it has given its turn to another key."""
        return self.begun <= clock - SLOW_SECONDS


class WorkQueue:
    """Keys waiting to be worked on. `workers` is how many passes may be under way, slow ones not counted."""

    def __init__(
        self,
        *,
        workers: int = 32,
        now: Callable[[], datetime] = utcnow,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._workers = workers
        self._now = now
        self._monotonic = monotonic
        self._jitter = jitter
        self._urgent = _Lanes()
        self._others = _Lanes()
        self._retries = _Lanes()
        self._turn = 0
        self._next_retry = float("-inf")
        self._running: dict[Key, _Pass] = {}
        self._delayed: list[tuple[float, Key]] = []
        self._backing_off: dict[Key, float] = {}
        """Keys whose back-off goes on, and when it ends; other entries of `_delayed` do not count any more."""
        self._failing: defaultdict[str, set[Key]] = defaultdict(set)
        """By namespace, those of them."""
        self._dated: list[tuple[datetime, Key]] = []
        self._due: dict[Key, datetime] = {}
        self._failures: dict[Key, int] = {}
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        """Keys that wait for nothing but a worker, or are being worked on."""
        return len(self._urgent) + len(self._others) + len(self._retries) + len(self._running)

    def add(self, key: Key, *, urgent: bool = False) -> None:
        """Has the key looked at as soon as possible, an urgent one before others; one that has failed, after the first
        back-off at the latest."""
        running = self._running.get(key)
        if running is not None:
            running.again = urgent or bool(running.again)
            return
        if key in self._failures:
            self._retry_after(key, BACKOFF.first)
            return
        if urgent:
            self._others.discard(key)
            self._urgent.add(key)
        elif key not in self._urgent:
            self._others.add(key)
        self._changed.set()

    def add_beside(self, key: Key, other: Key) -> None:
        """Has the key looked at, as urgently as the other one, which is being worked on."""
        self.add(key, urgent=self.is_urgent(other))

    def is_urgent(self, key: Key) -> bool:
        """Whether a key is being worked on that is urgent."""
        return key in self._running and self._running[key].urgent

    def set_due(self, key: Key, due: datetime | None) -> None:
        """Has the key looked at when this time has come; replaces the due time it had."""
        if due is None:
            self._due.pop(key, None)
        elif self._due.get(key) != due:
            self._due[key] = due
            heapq.heappush(self._dated, (due, key))
            self._changed.set()

    async def get(self) -> Key:
        """Waits for the next key. The caller says `done` or `failed` afterwards."""
        while True:
            self._changed.clear()
            wait = self._collect()
            key = self._take()
            if key is not None:
                return key
            try:
                async with asyncio.timeout(wait):
                    await self._changed.wait()
            except TimeoutError:
                continue

    def done(self, key: Key) -> None:
        """The key was worked on and is as it should be."""
        self._failures.pop(key, None)
        again = self._running.pop(key).again
        if again is not None:
            self.add(key, urgent=again)
        self._changed.set()

    def failed(self, key: Key, at_least: float = 0) -> float:
        """The key could not be worked on; it comes again after a growing time, returned in seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        delay = max(BACKOFF.delay(failures + 1, self._jitter()), at_least)
        under_way = self._running.pop(key)
        if under_way.again is not None:
            delay = min(delay, max(BACKOFF.first, at_least))
        self._retry_after(key, delay)
        if _hangs_as_a_whole(key) and under_way.slow(self._monotonic()):
            self._have_failed(key.kind, key.namespace)
        self._changed.set()
        return delay

    def recovered(self, namespace: str) -> None:
        """Something of that namespace that may have failed before works again: the others there need not wait."""
        for key in list(self._failing.get(namespace, ())):
            self._stop_waiting(key)
            self._retries.add(key)
            self._changed.set()

    def _have_failed(self, kind: Kind, namespace: str) -> None:
        """Has those that wait for a turn in a namespace that hangs count as failed."""
        for lanes in (self._urgent, self._others):
            for key in lanes.pop_namespace(kind, namespace):
                self._failures[key] = 0
                self._retries.add(key)

    def _retry_after(self, key: Key, delay: float) -> None:
        """Has a failed key come again after some seconds, or before that if that was settled already."""
        at = self._monotonic() + delay
        if key in self._retries or self._backing_off.get(key, at + 1) <= at:
            return
        self._backing_off[key] = at
        self._failing[key.namespace].add(key)
        heapq.heappush(self._delayed, (at, key))
        self._changed.set()

    def _stop_waiting(self, key: Key) -> None:
        if self._backing_off.pop(key, None) is not None:
            failing = self._failing[key.namespace]
            failing.discard(key)
            if not failing:
                del self._failing[key.namespace]

    def _take(self) -> Key | None:
        """The next key whose turn it is, which is then being worked on; None while none may begin."""
        clock = self._monotonic()
        passes = self._running.items()
        of_kind = Counter(key.kind for key in self._running)
        if self._next_retry <= clock:
            retries = [key for key, under_way in passes if under_way.retry]
            of_kind_again = Counter(key.kind for key in retries)
            again = {(key.kind, key.namespace) for key in retries if key.namespace}
            key = self._retries.pop(
                lambda kind: of_kind_again[kind] >= MAX_RETRIES or of_kind[kind] >= MAX_OF_KIND, again.__contains__
            )
            if key is not None:
                self._next_retry = max(self._next_retry, clock - 1) + 1 / RETRIES_PER_SECOND
                self._running[key] = _Pass(clock, urgent=True, retry=True)
                return key
        if sum(not under_way.slow(clock) for under_way in self._running.values()) >= self._workers:
            return None
        of_namespace = Counter((key.kind, key.namespace) for key in self._running if key.namespace)
        most = defaultdict[tuple[Kind, str], int](lambda: MAX_OF_NAMESPACE)
        for key, under_way in passes:
            if _hangs_as_a_whole(key) and under_way.slow(clock):
                # One that had failed before tells less about the others, so one more of them may begin.
                most[key.kind, key.namespace] = min(most[key.kind, key.namespace], 2 if under_way.retry else 1)
        self._turn = (self._turn + 1) % SHARE
        for lanes in (self._others, self._urgent) if self._turn == 0 else (self._urgent, self._others):
            key = lanes.pop(
                lambda kind: of_kind[kind] >= MAX_OF_KIND,
                lambda of: of_namespace[of] >= most[of],
            )
            if key is not None:
                self._running[key] = _Pass(clock, urgent=lanes is self._urgent, retry=False)
                return key
        return None

    def _collect(self) -> float | None:
        """Moves what has come due to the lanes; returns seconds until the next key may begin, None if unknown."""
        clock, now = self._monotonic(), self._now()
        while self._delayed and self._delayed[0][0] <= clock:
            at, key = heapq.heappop(self._delayed)
            if self._backing_off.get(key) == at:
                self._stop_waiting(key)
                self._retries.add(key)
        while self._dated and self._dated[0][0] <= now:
            due, key = heapq.heappop(self._dated)
            if self._due.get(key) == due:
                del self._due[key]
                self.add(key)
        waits = [under_way.begun + SLOW_SECONDS - clock for under_way in self._running.values()]
        waits = [wait for wait in waits if wait > 0] if self._urgent or self._others else []
        if self._retries and self._next_retry > clock:
            waits.append(self._next_retry - clock)
        if self._delayed:
            waits.append(self._delayed[0][0] - clock)
        if self._dated:
            waits.append(min((self._dated[0][0] - now).total_seconds(), CLOCK_CHECK))
        return max(min(waits), 0) if waits else None


def _hangs_as_a_whole(key: Key) -> bool:
    """Whether a pass that hangs tells that others of its kind and namespace would. A token waits for token servers and
    for its record, which are not in its namespace."""
    return key.kind != "token" and bool(key.namespace)
