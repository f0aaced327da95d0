"""Posts Kubernetes Events about RegistryTokens (events.k8s.io/v1), in the background.

An event is news, and nothing depends on it. So nobody waits until it is posted: where posts hang or fail, events are
lost and counted, and the passwords that they tell of go on.
"""

import asyncio
import logging
import secrets
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal, NoReturn

from pullpass.api.times import utcnow
from pullpass.kube.client import Kube, KubeError
from pullpass.kube.resources import EVENTS

log = logging.getLogger(__name__)

NOTE_LIMIT = 1024
"""Characters of a note; the API server refuses longer ones."""
POST_SECONDS = 5.0
"""Time limit of one post."""
MAX_POSTS = 16
"""Posts under way at once, of which each is for another namespace: where posts of one hang, the others go on."""
MAX_WAITING = 2000
"""Events that wait to be posted: a few MB. What comes then takes the place of the oldest of the fullest namespace."""
LOG_SECONDS = 60.0
"""A log line about lost events is written so often at most."""


class EventSender:
    """Posts events in the order in which they came, one at a time in each namespace, and the namespaces in turn.

    `identity` is the replica that speaks. Calls `lost` for each event that is not posted.
    """

    def __init__(
        self,
        kube: Kube,
        identity: str,
        lost: Callable[[], None],
        *,
        now: Callable[[], datetime] = utcnow,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._identity = identity[:128]
        self._lost = lost
        self._now = now
        self._monotonic = monotonic
        self._waiting: dict[str, deque[dict[str, Any]]] = {}
        """By namespace, in the order of their turns."""
        self._count = 0
        self._posting: set[str] = set()
        self._changed = asyncio.Event()
        self._not_told = 0
        """Events that were lost since the last log line about them."""
        self._told_at = float("-inf")

    def send(
        self,
        *,
        regarding: dict[str, Any],
        type_: Literal["Normal", "Warning"],
        reason: str,
        action: str,
        note: str,
    ) -> None:
        """Has an event about the object that `regarding` refers to posted as soon as possible."""
        namespace = regarding["namespace"]
        event = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{regarding['name']}.{secrets.token_hex(8)}", "namespace": namespace},
            "eventTime": self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "reportingController": "pullpass.dev/operator",
            "reportingInstance": self._identity,
            "type": type_,
            "reason": reason,
            "action": action,
            "note": note[:NOTE_LIMIT],
            "regarding": regarding,
        }
        if self._count >= MAX_WAITING:
            fullest = max(self._waiting, key=lambda name: len(self._waiting[name]))
            self._lose(self._pop(fullest), f"more than {MAX_WAITING} wait")
        self._waiting.setdefault(namespace, deque()).append(event)
        self._count += 1
        self._changed.set()

    async def run(self) -> NoReturn:
        """Posts events until it is cancelled; what waits then is lost."""
        async with asyncio.TaskGroup() as group:
            while True:
                self._changed.clear()
                while (event := self._take()) is not None:
                    group.create_task(self._post(event))
                await self._changed.wait()

    async def drain(self) -> None:
        """Posts all events that wait, one by one, where `run` does not."""
        while (event := self._take()) is not None:
            await self._post(event)

    def _take(self) -> dict[str, Any] | None:
        """The next event of a namespace for which no post is under way; one is from then on."""
        if len(self._posting) >= MAX_POSTS:
            return None
        namespace = next((name for name in self._waiting if name not in self._posting), None)
        if namespace is None:
            return None
        event = self._pop(namespace)
        if namespace in self._waiting:
            self._waiting[namespace] = self._waiting.pop(namespace)
        self._posting.add(namespace)
        return event

    def _pop(self, namespace: str) -> dict[str, Any]:
        event = self._waiting[namespace].popleft()
        if not self._waiting[namespace]:
            del self._waiting[namespace]
        self._count -= 1
        return event

    async def _post(self, event: dict[str, Any]) -> None:
        namespace = event["metadata"]["namespace"]
        try:
            await self._kube.create(EVENTS, namespace, event, time_limit=POST_SECONDS)
        except KubeError as error:
            self._lose(event, str(error))
        except Exception as error:
            self._lose(event, f"unexpected {type(error).__name__}")
        finally:
            self._posting.discard(namespace)
            self._changed.set()

    def _lose(self, event: dict[str, Any], why: str) -> None:
        self._lost()
        self._not_told += 1
        clock = self._monotonic()
        if clock < self._told_at + LOG_SECONDS:
            return
        about = event["regarding"]
        log.warning(
            "%d events lost, the last one is %s about %s/%s: %s",
            self._not_told,
            event["reason"],
            about["namespace"],
            about["name"],
            why,
        )
        self._not_told, self._told_at = 0, clock
