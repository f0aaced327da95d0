"""The way of one process to the API server and to the token servers. Each call waits there until the test lets it go
on, and the test decides what becomes of it: two processes can be interleaved call by call.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import aiohttp

from pullpass.kube.client import Conflict, Gone, Kube, KubeError, Page, Refused, Unavailable
from pullpass.kube.resources import Resource
from tests.unit.controller.fake_api import Body, FakeApi, Place

T = TypeVar("T")

WRITES = frozenset({"create", "replace", "apply", "patch", "delete"})
READS = frozenset({"get", "list"})


@dataclass(frozen=True)
class Fault:
    """What can become of a call instead of its answer."""

    error: Callable[[], Exception]
    verbs: frozenset[str]
    effect: bool = False
    """Whether the call does what it should, and only its answer is lost."""


FAULTS = {
    "conflict": Fault(lambda: Conflict("the object has been modified", 409), WRITES),
    "gone": Fault(lambda: Gone("the continue parameter is too old", 410), frozenset({"list"})),
    "unprocessable": Fault(lambda: Refused("HTTP 422", 422), WRITES),
    "forbidden": Fault(lambda: Refused("forbidden", 403), WRITES | READS),
    "too many requests": Fault(lambda: Unavailable("too many requests", 429, 30), WRITES | READS),
    "internal error": Fault(lambda: Unavailable("internal error", 500), WRITES | READS),
    "request lost": Fault(lambda: Unavailable("no answer from the API server (TimeoutError)"), WRITES | READS),
    "answer lost": Fault(
        lambda: Unavailable("no answer from the API server (TimeoutError)"), WRITES | READS, effect=True
    ),
    "unreachable": Fault(lambda: aiohttp.ClientConnectionError("no answer"), frozenset({"ask"})),
    "busy": Fault(lambda: Unavailable("token server is busy", 503), frozenset({"ask"})),
}


PLACE_FAULTS = sorted(FAULTS.keys() - {"gone", "unreachable", "busy"})
"""What can be wrong with all objects of a kind in one namespace, for any time."""


class Watcher(Protocol):
    """Who looks at each write."""

    def fault(self, place: Place) -> "Fault | None":
        """What becomes of all calls to a place that is broken."""

    def denied(self, place: Place) -> None:
        """Called for each write that is refused."""

    def wrote(self, verb: str, place: Place, old: Body | None, new: Body | None) -> None:
        """Called after each change by an operator."""


@dataclass(eq=False)
class Call:
    """A call on its way."""

    verb: str
    place: Place
    request: Callable[[], Awaitable[Any]]
    answered: "asyncio.Future[Fault | None]"


class Line(Kube):
    """What one process has of the API server."""

    def __init__(self, api: FakeApi, watcher: Watcher) -> None:
        self._store = api
        self._watcher = watcher
        self.waiting: list[Call] = []
        self.asked: list[tuple[str, Place]] = []
        """All calls that got an answer, in order."""
        self.dead = False

    async def call(self, verb: str, place: Place, request: Callable[[], Awaitable[T]]) -> T:
        """Waits until the call may go on. Raises what becomes of it instead, if anything does."""
        if self.dead:
            raise asyncio.CancelledError
        call = Call(verb, place, request, asyncio.get_running_loop().create_future())
        self.waiting.append(call)
        try:
            fault = await call.answered
        except asyncio.CancelledError:
            # Nobody waits for the answer any more; `answer` takes its call out before it goes on.
            if call in self.waiting:
                self.waiting.remove(call)
            raise
        self.asked.append((verb, place))
        if fault is None or verb not in fault.verbs:
            answer: T = await self.carry_out(call)
            return answer
        if fault.effect:
            with suppress(KubeError):
                await self.carry_out(call)
        error = fault.error()
        if isinstance(error, Refused):
            self._watcher.denied(place)
        raise error

    async def carry_out(self, call: Call) -> Any:
        """Does what was asked for, and has every change looked at."""
        objects = self._store.objects
        fault = self._watcher.fault(call.place)
        if fault is not None and call.verb in fault.verbs and not fault.effect:
            self._watcher.denied(call.place)
            raise fault.error()
        old = objects.get(call.place)
        answer = await call.request()
        new = objects.get(call.place)
        if new is not old:
            self._watcher.wrote(call.verb, call.place, old, new)
        if fault is not None and call.verb in fault.verbs:
            raise fault.error()
        return answer

    # the verbs of the client

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        return await self._call("get", resource, namespace, name, lambda: self._store.get(resource, namespace, name))

    async def list_page(
        self,
        resource: Resource,
        namespace: str | None = None,
        **more: Any,
    ) -> Page:
        return await self._call(
            "list", resource, namespace, "", lambda: self._store.list_page(resource, namespace, **more)
        )

    async def create(self, resource: Resource, namespace: str | None, body: Body, **more: Any) -> Body:
        name = body["metadata"]["name"]
        return await self._call(
            "create", resource, namespace, name, lambda: self._store.create(resource, namespace, body, **more)
        )

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Body) -> Body:
        return await self._call(
            "replace", resource, namespace, name, lambda: self._store.replace(resource, namespace, name, body)
        )

    async def apply(self, resource: Resource, namespace: str | None, name: str, body: Body, **more: Any) -> Body:
        return await self._call(
            "apply", resource, namespace, name, lambda: self._store.apply(resource, namespace, name, body, **more)
        )

    async def json_patch(
        self, resource: Resource, namespace: str | None, name: str, operations: Sequence[Body]
    ) -> Body:
        return await self._call(
            "patch", resource, namespace, name, lambda: self._store.json_patch(resource, namespace, name, operations)
        )

    async def delete(self, resource: Resource, namespace: str | None, name: str, **conditions: Any) -> None:
        await self._call(
            "delete", resource, namespace, name, lambda: self._store.delete(resource, namespace, name, **conditions)
        )

    async def _call(
        self, verb: str, resource: Resource, namespace: str | None, name: str, request: Callable[[], Awaitable[T]]
    ) -> T:
        return await self.call(verb, (resource.plural, namespace or "", name), request)
