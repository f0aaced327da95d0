"""One operator process: the real work queue, workers, reconciler, sweep, resync and signing keys, behind a line that
the test holds. It can be killed at any call, and two of them can live at a time.
"""

import functools
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

from pullpass.api import names
from pullpass.api.acceptance import Acceptance, Issuing
from pullpass.controller import process
from pullpass.controller.dispatch import passes
from pullpass.controller.queue import Key, WorkQueue
from pullpass.controller.replicas import Replicas
from pullpass.controller.settings import OperatorSettings
from pullpass.kube.client import Kube, KubeError, Unavailable
from tests.unit.controller.fake_api import Body
from tests.unit.controller.faults.line import Call, Fault, Line
from tests.unit.controller.faults.watches import Watch
from tests.unit.controller.world import SETTINGS

if TYPE_CHECKING:
    from tests.unit.controller.faults.scene import Scene

KINDS = ("namespaces", "scopemaps", "registrytokens", "serviceaccounts", "secrets")


class Queue(WorkQueue):
    """The real one, where keys of one moment are added in the order of their names.

    Sets have another order in each Python process, and a run must be one that can be repeated.
    """

    def __init__(self, **clocks: Any) -> None:
        super().__init__(**clocks)
        self._fresh: list[tuple[Key, bool]] = []

    def __len__(self) -> int:
        return super().__len__() + len(self._fresh)

    def add(self, key: Key, *, urgent: bool = False) -> None:
        self._fresh.append((key, urgent))
        self._changed.set()

    def _collect(self) -> float | None:
        fresh, self._fresh = sorted(self._fresh), []
        for key, urgent in fresh:
            super().add(key, urgent=urgent)
        return super()._collect()


class Operator:
    """A process that leads, from its start to its end."""

    def __init__(self, scene: "Scene", identity: str) -> None:
        self._scene = scene
        self._loop = scene.loop
        self.line = Line(scene.api, scene.promises)
        self.state = process.OperatorState()
        self.watches = {
            plural: Watch(
                scene.api,
                plural,
                self._teller(plural),
                selector=names.MANAGED_SELECTOR if plural == "secrets" else None,
            )
            for plural in KINDS
        }
        settings = replace(SETTINGS, identity=identity, workers=2)
        self._tasks = [
            self._loop.create_task(process._compare(self.line, self.state, settings)),
            self._loop.create_task(self._work(settings)),
        ]
        self._loop.run()

    async def _work(self, settings: OperatorSettings) -> None:
        """Works as the one that holds the Lease."""
        await self.state.synced.wait()
        await process._work(self.line, self.state, settings)

    def _teller(self, plural: str) -> Callable[[str | None, Body], None]:
        cache = self.state.cache
        observers: dict[str, Callable[[str | None, Body], set[Key]]] = {
            "namespaces": cache.observe_namespace,
            "scopemaps": cache.observe_scope_map,
            "registrytokens": cache.observe_token,
            "serviceaccounts": cache.observe_service_account,
            "secrets": lambda type_, body: cache.observe_secret(type_, body, SETTINGS.credentials_namespace),
        }
        observe = observers[plural]
        return lambda type_, body: self.state.wake(observe(type_, body), type_ is not None)

    @property
    def begun(self) -> bool:
        """Whether it works on tokens by now."""
        return self.state.queue is not None

    @property
    def queue(self) -> Queue:
        """Its work queue, once it has begun to work."""
        assert isinstance(self.state.queue, Queue)
        return self.state.queue

    def hear_all(self) -> bool:
        """Hears everything, and tells whether there was anything."""
        heard = any(watch.coming for watch in self.watches.values())
        for watch in self.watches.values():
            watch.hear(watch.coming)
        return heard

    def answer(self, number: int, fault: Fault | None = None) -> None:
        """One of the waiting calls goes on."""
        call = self.line.waiting.pop(number % len(self.line.waiting))
        call.answered.set_result(fault)
        self._loop.run()

    def kill(self, last: Call | None = None) -> None:
        """The process ends here; `last` is a call that still arrives, though nobody hears the answer."""
        self.line.dead = True
        if last is not None:
            self._loop.create_task(self._arrive(last))
        for task in self._tasks:
            task.cancel()
        self._loop.run()
        assert all(task.done() for task in self._tasks)

    async def _arrive(self, call: Call) -> None:
        with suppress(KubeError):
            await self.line.carry_out(call)

    @property
    def ended(self) -> bool:
        """Whether the process ended by itself: the API server refused something that it cannot do without."""
        over = [task for task in self._tasks if task.done()]
        for task in over:
            error = None if task.cancelled() else task.exception()
            assert error is None or isinstance(error, KubeError), f"the operator ended by {error!r}"
        return bool(over)


class _Session:
    """Asks the replicas of the scene, in place of HTTP."""

    def __init__(self, scene: "Scene", line: Line) -> None:
        self._scene = scene
        self._line = line

    @asynccontextmanager
    async def get(self, url: str, *, params: dict[str, str] | None, **more: Any) -> AsyncIterator[SimpleNamespace]:
        asked = f"{url} {params} {more}"
        assert not any(text in asked for text in self._scene.texts), "a replica was told a secret"
        address, _, path = url.removeprefix("http://").partition("/")

        async def ask() -> Acceptance | Issuing:
            if params is None:
                return self._scene.issuing(address)
            return self._scene.ask(address, path.removeprefix("tokens/"), **params)

        try:
            answer = await self._line.call("ask", ("replicas", "", address), ask)
        except Unavailable as busy:
            yield SimpleNamespace(status=busy.status, content=_Body(b""))
        else:
            yield SimpleNamespace(status=200, content=_Body(answer.model_dump_json().encode()))


class _Body:
    """What an answer says."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def iter_chunked(self, _: int) -> AsyncIterator[bytes]:
        yield self._body


@contextmanager
def standing_in(scene: "Scene") -> Iterator[None]:
    """The scene's clock and token servers in place of the real ones."""

    @asynccontextmanager
    async def connect(kube: Kube, settings: OperatorSettings) -> AsyncIterator[Replicas]:
        assert isinstance(kube, Line)
        replicas = Replicas(kube, settings, _Session(scene, kube), now=lambda: scene.now)  # type: ignore[arg-type]
        try:
            yield replicas
        finally:
            await replicas.close()

    clocks: dict[str, Any] = {"now": lambda: scene.now, "monotonic": scene.loop.time}
    with (
        mock.patch.object(process, "WorkQueue", functools.partial(Queue, **clocks, jitter=lambda: 0.5)),
        mock.patch.object(process, "passes", functools.partial(passes, **clocks)),
        mock.patch.object(Replicas, "connect", connect),
    ):
        yield
