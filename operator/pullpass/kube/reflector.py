"""Follows all objects of one kind: a list, then a watch, for as long as the process lives.

No error of the API ends it: it keeps retrying and whoever uses the events keeps what it has. Of each object only
the key, the UID and the version are remembered: to report after a new list what has vanished meanwhile, and to leave
out what has not changed.

It is made for a process with little processor time. Lists come in small pages, what comes in is handled in pieces with
a turn of the event loop between them, and nothing that was done is done again: a list that is begun anew only handles
what has changed since, and after a standstill the watch is opened anew where it was, without a list.
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
"""Failed watches in a row after which the position itself is doubted, as after a restored backup of the
API."""
WATCH_SECONDS = 290
"""After which the server ends a watch."""
CATCH_UP_SECONDS = 3
"""The same for a watch that is to show that it has caught up. Two seconds before the end the server sends a bookmark,
if there was anything new."""


class Source(Protocol):
    """The part of the Kubernetes client that a reflector needs."""

    def pages(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None
    ) -> AsyncIterator[Page]:
        """A list, page by page."""
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
        """Watch events from a position on, bookmarks among them; ends or fails when the connection is silent.
        Calls `opened` once the watch stands.
        """
        ...


class Reflector:
    """Calls `on_event(type, object)` with ADDED, MODIFIED or DELETED for all objects and all their changes.

    An object that vanished unseen is reported as DELETED with only its name, namespace and UID, and so is
    one that was made anew under the same name, before the ADDED of its successor. `on_event` must not
    raise.
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
        """Set once everything is known and a watch goes on from there; cleared by `doubt` only.

        Everything is known when a watch opens at a position not older than STALL_SECONDS. Otherwise when it has caught
        up: with its first bookmark, which comes after all events before it, or when it has come to its end in time.
        Whatever is written from then on is reported at once; so a token server that is ready by this does not miss
        what was published while it started, or stood still.
        """
        self.last_contact = float("-inf")
        """When the API server was last heard, on the monotonic clock: a page of a list, an event, a bookmark."""
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
        """When the position was current, as far as is known, on the clock of `elapsed`."""
        self._opened_at = float("-inf")
        """When the watch opened, on the same clock."""
        self._failures = 0
        self._watching = False
        self._following: asyncio.Task[NoReturn] | None = None

    async def run(self) -> NoReturn:
        """Follows until cancelled."""
        while True:
            self._following = asyncio.create_task(self._follow())
            try:
                await self._following
            except asyncio.CancelledError:
                this = asyncio.current_task()
                if this is None or this.cancelling():
                    raise

    def doubt(self) -> None:
        """Clears `synced` until it is shown again that everything is known: the process stood still meanwhile.

        The watch is opened anew from its position, as its connection may be dead. All that was heard counts on, and a
        list goes on: a process that stands still again and again makes progress.
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
                log.warning("following %s: %s; trying again", self._resource.plural, error)
            except Exception:
                # Whatever answers in place of the API server may send anything; none of it may stop the
                # mirror.
                self._failures += 1
                self._position = None
                log.exception("following %s: unreadable answer; trying again", self._resource.plural)
            if self._failures % RELIST_AFTER == 0:
                self._position = None
                # A restored API server may give a version a second time, to another content.
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
        """Follows from a position until the server ends the watch. Tells whether that was of any use."""
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
        # One that ends at once, as where the API server is about to stop, may not have brought everything.
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
