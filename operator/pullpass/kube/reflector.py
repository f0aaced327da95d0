"""Follows all objects of one kind: a list, then a watch, for as long as the process lives.

No error of the API ends it: it keeps retrying, and the user of the events keeps its objects meanwhile. It remembers the
key, UID and version of each object: to report, after another list, which objects were deleted meanwhile, and to skip
those that did not change.

It suits a process with little processor time. Lists come in small pages, the event loop gets a turn between objects,
and no work is repeated: a list that starts over handles only what changed since, and after a standstill the watch
resumes from its version, without a list.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, Protocol

from pullpass.kube.backoff import Backoff
from pullpass.kube.client import Gone, KubeError, Page, Unavailable
from pullpass.kube.resources import Resource
from pullpass.kube.standstill import STALL_SECONDS, elapsed
from pullpass.kube.timeslice import TimeSlice

log = logging.getLogger(__name__)

Object = dict[str, Any]

BACKOFF = Backoff(first=0.25, longest=10.0)
RELIST_AFTER = 6
"""Failed watches in a row after which it lists again: the version may be unknown, as after etcd was restored."""
WATCH_SECONDS = 290
"""How long a watch lasts before the server ends it."""
CATCH_UP_SECONDS = 3
"""The same for a watch that has to catch up. Two seconds before its end the server sends a bookmark, if there was
anything new."""


class Source(Protocol):
    """The part of the Kubernetes client that a reflector needs."""

    def pages(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None
    ) -> AsyncIterator[Page]:
        """Yields a list page by page."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        label_selector: str | None = None,
        opened: Callable[[], None] = ...,
        server_seconds: int = ...,
    ) -> AsyncIterator[Object]:
        """Yields watch events from a version on, with bookmarks; ends or raises when the connection is silent.

        Calls `opened` when the server has accepted the watch.
        """
        ...


class Reflector:
    """Calls `on_event(type, object)` with ADDED, MODIFIED or DELETED for all objects and all their changes.

    An object whose deletion was missed is reported as DELETED with its name, namespace and UID only; so is one that was
    deleted and created again, before the ADDED of the new one. `on_event` must not raise.
    """

    def __init__(
        self,
        kube: Source,
        resource: Resource,
        *,
        namespace: str | None = None,
        label_selector: str | None = None,
        on_event: Callable[[str, Object], None],
        pause: Callable[[float], Awaitable[Any]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        elapsed: Callable[[], float] = elapsed,
    ) -> None:
        self.synced = asyncio.Event()
        """Set when all objects have been reported and a watch is open; cleared by `doubt` only.

        That is when a watch opens at a version that was current less than STALL_SECONDS ago. Otherwise when the watch
        has caught up: at its first bookmark, which comes after all earlier events, or at its regular end. Later writes
        are reported at once; so a token server that is ready once this is set has not missed what was published while
        it started, or stood still.
        """
        self.last_contact = float("-inf")
        """When a page, an event or a bookmark last came from the API server, on the monotonic clock."""
        self._kube = kube
        self._resource = resource
        self._namespace = namespace
        self._selector = label_selector
        self._on_event = on_event
        self._pause = pause
        self._monotonic = monotonic
        self._elapsed = elapsed
        self._known: dict[str, tuple[str, str]] = {}
        """UID and version of each object, by key."""
        self._position: str | None = None
        self._position_at = float("-inf")
        """When the position was last known to be current, on the clock of `elapsed`."""
        self._opened_at = float("-inf")
        """When the watch opened, on the same clock."""
        self._failures = 0
        self._watching = False
        self._following: asyncio.Task[NoReturn] | None = None

    async def run(self) -> NoReturn:
        """Lists and watches until cancelled."""
        while True:
            self._following = asyncio.create_task(self._follow())
            try:
                await self._following
            except asyncio.CancelledError:
                this = asyncio.current_task()
                if this is None or this.cancelling():
                    raise

    def doubt(self) -> None:
        """Clears `synced` until the watch has caught up. Call it after the process stood still.

        The watch is opened again from its position, as its connection may be dead. A list under way continues, so
        that a process that stands still again and again makes progress.
        """
        self.synced.clear()
        if self._watching and self._following is not None:
            self._following.cancel()

    async def _follow(self) -> NoReturn:
        while True:
            asked_to_wait = 0.0
            try:
                if self._position is None:
                    self._position = await self._list()
                if await self._watch(self._position):
                    self._failures = 0
                    continue
                self._failures += 1
            except Gone:
                self._failures += 1
                self._position = None
            except KubeError as error:
                self._failures += 1
                asked_to_wait = error.retry_after if isinstance(error, Unavailable) else 0.0
                log.warning("cannot list or watch %s: %s; trying again", self._resource.plural, error)
            except Exception:
                # Something else may answer in place of the API server, with any content. It must not end the reflector.
                self._failures += 1
                self._position = None
                log.exception("cannot list or watch %s: cannot parse the answer; trying again", self._resource.plural)
            if self._failures % RELIST_AFTER == 0:
                self._position = None
                # After a restore the API server may use a version again for another content.
                self._known = {key: (uid, "") for key, (uid, _) in self._known.items()}
            await self._pause(self._delay(asked_to_wait))

    def _delay(self, asked: float) -> float:
        delay = BACKOFF.delay(self._failures, random.random())  # noqa: S311
        return max(delay, min(asked, BACKOFF.longest))

    async def _list(self) -> str:
        begun, seen, slice_ = self._elapsed(), set[str](), TimeSlice()
        version = ""
        async for page in self._kube.pages(self._resource, self._namespace, label_selector=self._selector):
            for item in page.items:
                seen.add(self._take("ADDED", item))
                await slice_.yield_if_over()
            self.last_contact = self._monotonic()
            version = page.resource_version
        for key in self._known.keys() - seen:
            self._vanish(key)
        self._position_at = begun
        return version

    async def _watch(self, position: str) -> bool:
        """Watches from a position until the server ends the watch. Returns whether it brought events or caught up."""
        heard, slice_ = False, TimeSlice()
        events = self._kube.watch(
            self._resource,
            self._namespace,
            position,
            label_selector=self._selector,
            opened=self._opened,
            server_seconds=WATCH_SECONDS if self.synced.is_set() else CATCH_UP_SECONDS,
        )
        self._watching, catches_up = True, not self.synced.is_set()
        try:
            async for event in events:
                heard = True
                self._failures = 0
                if event["type"] != "BOOKMARK":
                    self._take(event["type"], event["object"])
                else:
                    self.synced.set()
                self._position = event["object"]["metadata"]["resourceVersion"]
                self.last_contact = self._monotonic()
                await slice_.yield_if_over()
        finally:
            self._watching = False
        # A watch that ends early, as when the API server shuts down, may have missed events.
        if catches_up and self._elapsed() - self._opened_at > CATCH_UP_SECONDS - 1:
            heard = True
            self.synced.set()
        return heard

    def _opened(self) -> None:
        self._opened_at = self._elapsed()
        if self._elapsed() - self._position_at <= STALL_SECONDS:
            self.synced.set()

    def _take(self, type_: str, item: Object) -> str:
        metadata = item["metadata"]
        key = f"{metadata.get('namespace', '')}/{metadata['name']}"
        if type_ == "DELETED":
            self._known.pop(key, None)
        else:
            before, now = self._known.get(key), (metadata["uid"], metadata["resourceVersion"])
            if before == now:
                return key
            if before is not None and before[0] != metadata["uid"]:
                self._vanish(key)
            self._known[key] = now
        self._on_event(type_, item)
        return key

    def _vanish(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        uid, _ = self._known.pop(key)
        metadata = {"name": name, "uid": uid} | ({"namespace": namespace} if namespace else {})
        self._on_event("DELETED", {"metadata": metadata})
