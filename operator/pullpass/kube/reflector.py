"""Follows all objects of one kind: a list, then a watch, for as long as the process lives.

No error of the API ends it: it keeps retrying and whoever uses the events keeps what it has. Of each
object only the key and the UID are remembered, to tell after a new list what has vanished meanwhile.
"""

import asyncio
import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NoReturn, Protocol

from pullpass.kube.client import Gone, KubeError, Unavailable
from pullpass.kube.resources import Resource

log = logging.getLogger(__name__)

Object = dict[str, Any]

FIRST_PAUSE = 0.25
LONGEST_PAUSE = 10.0
"""Seconds between two tries, before jitter."""
RELIST_AFTER = 6
"""Failed watches in a row after which the position itself is doubted, as after a restored backup of the
API."""


class Source(Protocol):
    """The part of the Kubernetes client that a reflector needs."""

    async def list_page(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        continue_: str | None = None,
    ) -> Object:
        """One page of a list."""
        ...

    def watch(
        self,
        resource: Resource,
        namespace: str | None,
        resource_version: str,
        *,
        label_selector: str | None = None,
        opened: Callable[[], None] = ...,
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
    ) -> None:
        self.synced = asyncio.Event()
        """Set once a list is complete and a watch goes on from it; cleared by `doubt` only.

        Whatever is written from then on is told of at once; so a token server that is ready by this does not miss
        what was published while it started.
        """
        self.last_contact = float("-inf")
        """When the API server was last heard, on the monotonic clock: a list done, an event, a bookmark."""
        self._kube = kube
        self._resource = resource
        self._namespace = namespace
        self._selector = label_selector
        self._on_event = on_event
        self._pause = pause
        self._monotonic = monotonic
        self._uids: dict[str, str] = {}
        self._position: str | None = None
        self._failures = 0
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
        """What was heard until now may be of the past: everything is listed and compared anew, and is not `synced`
        before that is done. What a connection still holds is not waited for.
        """
        self.synced.clear()
        self._position = None
        if self._following is not None:
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
            await self._pause(self._delay(asked_to_wait))

    def _delay(self, asked: float) -> float:
        longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(self._failures - 1, 10))
        # Many replicas lose the same API server at the same moment and must not come back at the same one.
        return max(longest * random.uniform(0.5, 1), min(asked, LONGEST_PAUSE))  # noqa: S311

    async def _list(self) -> str:
        seen: set[str] = set()
        continue_: str | None = None
        while True:
            page = await self._kube.list_page(
                self._resource, self._namespace, label_selector=self._selector, continue_=continue_
            )
            for item in page.get("items") or []:
                seen.add(self._take("ADDED", item))
            self.last_contact = self._monotonic()
            continue_ = page["metadata"].get("continue") or None
            if continue_ is None:
                break
        for key in self._uids.keys() - seen:
            self._vanish(key)
        return str(page["metadata"]["resourceVersion"])

    async def _watch(self, position: str) -> bool:
        """Follows from a position until the server ends the watch. Tells whether anything was heard."""
        heard = False
        events = self._kube.watch(
            self._resource, self._namespace, position, label_selector=self._selector, opened=self.synced.set
        )
        async for event in events:
            heard = True
            self._failures = 0
            if event["type"] != "BOOKMARK":
                self._take(event["type"], event["object"])
            self._position = event["object"]["metadata"]["resourceVersion"]
            self.last_contact = self._monotonic()
        return heard

    def _take(self, type_: str, item: Object) -> str:
        metadata = item["metadata"]
        key = f"{metadata.get('namespace', '')}/{metadata['name']}"
        if type_ == "DELETED":
            self._uids.pop(key, None)
        else:
            if self._uids.get(key, metadata["uid"]) != metadata["uid"]:
                self._vanish(key)
            self._uids[key] = metadata["uid"]
        self._on_event(type_, item)
        return key

    def _vanish(self, key: str) -> None:
        namespace, _, name = key.partition("/")
        metadata = {"name": name, "uid": self._uids.pop(key)} | ({"namespace": namespace} if namespace else {})
        self._on_event("DELETED", {"metadata": metadata})
