"""Leader election over Leases in memory, in fake time: one works at any moment, and what ends the work."""

import asyncio
import copy
import json
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection import leaderelection

from pullpass.kube import lease as module
from pullpass.kube.client import Kube, Unavailable
from pullpass.kube.lease import HOLD_SECONDS, LEASE_SECONDS, RETRY_SECONDS, lead
from pullpass.kube.resources import SECRETS

BEGIN = datetime(2027, 3, 1, tzinfo=UTC).timestamp()


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """Time stands still while anything runs and jumps to the next timer otherwise."""

    fake = 0.5

    def time(self) -> float:
        return self.fake

    def _run_once(self) -> None:
        timers = [timer._when for timer in self._scheduled if not timer._cancelled]  # type: ignore[attr-defined]
        if timers and not self._ready:  # type: ignore[attr-defined]
            self.fake = max(self.fake, min(timers))
        super()._run_once()  # type: ignore[misc]


def now() -> float:
    return asyncio.get_running_loop().time()


class Leases:
    """One Lease as the API server keeps it. `fault` says what happens to a call of a replica."""

    def __init__(self) -> None:
        self.lease: client.V1Lease | None = None
        self.version = 0
        self.fault: dict[str, Callable[[str], Awaitable[None]]] = {}

    @property
    def holder(self) -> str | None:
        return self.lease.spec.holder_identity if self.lease is not None and self.lease.spec is not None else None

    def api(self, identity: str) -> Any:
        """The API as one replica reaches it."""

        async def arrive(verb: str) -> None:
            await asyncio.sleep(0.01)
            if identity in self.fault:
                await self.fault[identity](verb)

        async def read(name: str, namespace: str) -> client.V1Lease:
            await arrive("read")
            if self.lease is None:
                raise self.error(404)
            return copy.deepcopy(self.lease)

        async def create(namespace: str, body: client.V1Lease) -> client.V1Lease:
            await arrive("write")
            if self.lease is not None:
                raise self.error(409)
            return self.store(body)

        async def replace(name: str, namespace: str, body: client.V1Lease) -> client.V1Lease:
            await arrive("write")
            assert body.metadata is not None
            if body.metadata.resource_version != str(self.version):
                raise self.error(409)
            return self.store(body)

        return SimpleNamespace(
            read_namespaced_lease=read, create_namespaced_lease=create, replace_namespaced_lease=replace
        )

    @staticmethod
    def error(status: int) -> ApiException:
        error = ApiException(status=status, reason="refused")
        error.body = json.dumps({"code": status})
        return error

    def store(self, body: client.V1Lease) -> client.V1Lease:
        self.version += 1
        stored = copy.deepcopy(body)
        assert stored.metadata is not None
        assert stored.spec is not None
        stored.metadata.resource_version = str(self.version)
        for field in ("acquire_time", "renew_time"):
            time = getattr(stored.spec, field)
            if isinstance(time, str):
                setattr(stored.spec, field, datetime.fromisoformat(time))
        self.lease = stored
        return copy.deepcopy(stored)


class Replica:
    """A candidate that notes when it worked."""

    def __init__(self, leases: Leases, identity: str, seconds: float = 10_000) -> None:
        self.leases, self.identity, self.seconds = leases, identity, seconds
        self.began: float | None = None
        self.stopped: float | None = None
        self.failure: Exception | None = None
        self.kube: Kube | None = None
        """What the work writes with."""

    async def work(self, kube: Kube) -> None:
        self.began = now()
        self.kube = kube
        try:
            await asyncio.sleep(self.seconds)
            if self.failure is not None:
                raise self.failure
        finally:
            self.stopped = now()

    def start(self) -> "asyncio.Task[str]":
        kube = Kube(SimpleNamespace(identity=self.identity))  # type: ignore[arg-type]
        return asyncio.create_task(self._lead(kube))

    async def _lead(self, kube: Kube) -> str:
        return await lead(kube, namespace="release", name="pullpass", identity=self.identity, work=self.work)


Run = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


@pytest.fixture
def leases(monkeypatch: pytest.MonkeyPatch) -> Leases:
    made = Leases()
    monkeypatch.setattr(client, "CoordinationV1Api", lambda api_client: made.api(api_client.identity))
    monkeypatch.setattr(leaderelection, "time", SimpleNamespace(time=lambda: BEGIN + now()))
    monkeypatch.setattr(module, "elapsed", now)
    return made


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        runner.run(test())


async def hang(_: str) -> None:
    await asyncio.sleep(100_000)


async def hang_writes(verb: str) -> None:
    """Reads that take as long as they may, and writes that never return."""
    await asyncio.sleep(100_000 if verb == "write" else module.CALL_SECONDS - 0.1)


async def refuse(_: str) -> None:
    raise Leases.error(503)


async def cut(_: str) -> None:
    raise OSError("no route to host")


def test_one_works_until_its_work_ends_and_gives_the_lease_back(leases: Leases) -> None:
    async def test() -> None:
        replica = Replica(leases, "one", seconds=100)
        assert await replica.start() == "ended"
        assert replica.began is not None
        assert replica.began < 1
        assert leases.holder == ""

    run(test)


def test_what_the_work_raises_is_raised_and_the_lease_given_back(leases: Leases) -> None:
    async def test() -> None:
        replica = Replica(leases, "one", seconds=100)
        replica.failure = RuntimeError("defect")
        with pytest.raises(RuntimeError, match="defect"):
            await replica.start()
        assert leases.holder == ""

    run(test)


def test_who_is_told_to_stop_stops_working_and_gives_the_lease_back(leases: Leases) -> None:
    async def test() -> None:
        replica = Replica(leases, "one")
        task = replica.start()
        await asyncio.sleep(60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert replica.stopped == pytest.approx(60.5)
        assert leases.holder == ""

    run(test)


def test_another_waits_and_takes_over_as_soon_as_the_lease_is_given_back(leases: Leases) -> None:
    async def test() -> None:
        one, two = Replica(leases, "one", seconds=500), Replica(leases, "two", seconds=10)
        tasks = [one.start()]
        await asyncio.sleep(5)
        tasks.append(two.start())
        assert await asyncio.gather(*tasks) == ["ended", "ended"]
        assert one.stopped is not None
        assert two.began is not None
        assert one.stopped < two.began < one.stopped + RETRY_SECONDS + 1

    run(test)


def test_a_leader_that_vanished_is_followed_once_its_lease_is_over(leases: Leases) -> None:
    async def test() -> None:
        one, two = Replica(leases, "one"), Replica(leases, "two", seconds=10)
        task = one.start()
        await asyncio.sleep(60)
        leases.fault["one"] = cut
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert leases.holder == "one"
        assert await two.start() == "ended"
        assert one.stopped is not None
        assert two.began is not None
        assert two.began >= one.stopped + LEASE_SECONDS

    run(test)


@pytest.mark.parametrize("fault", [hang, hang_writes, refuse, cut])
@pytest.mark.parametrize("at", [60.0, 60.7, 61.4, 62.1, 62.8, 63.5])
def test_two_never_work_at_once(leases: Leases, fault: Callable[[str], Awaitable[None]], at: float) -> None:
    async def test() -> None:
        one, two = Replica(leases, "one"), Replica(leases, "two", seconds=100)
        tasks = [one.start()]
        await asyncio.sleep(1)
        tasks.append(two.start())
        await asyncio.sleep(at)
        leases.fault["one"] = fault
        assert await asyncio.gather(*tasks) == ["lost", "ended"]
        assert one.stopped is not None
        assert two.began is not None
        assert one.stopped < two.began

    run(test)


@pytest.mark.parametrize("fault", [hang, refuse, cut])
def test_a_short_outage_does_not_end_the_work(leases: Leases, fault: Callable[[str], Awaitable[None]]) -> None:
    async def test() -> None:
        replica = Replica(leases, "one", seconds=200)
        task = replica.start()
        await asyncio.sleep(60)
        leases.fault["one"] = fault
        await asyncio.sleep(5)
        leases.fault.clear()
        assert await task == "ended"
        assert replica.stopped == pytest.approx(200, abs=1)

    run(test)


def test_nobody_works_while_the_api_server_is_away(leases: Leases) -> None:
    async def test() -> None:
        leases.fault["one"] = cut
        replica = Replica(leases, "one", seconds=10)
        task = replica.start()
        await asyncio.sleep(600)
        assert replica.began is None
        leases.fault.clear()
        assert await task == "ended"

    run(test)


def test_who_was_paused_writes_nothing_on_waking(leases: Leases, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped, or a machine that slept, goes on where it was: its timers have not run yet."""

    async def test() -> None:
        replica = Replica(leases, "one")
        task = replica.start()
        await asyncio.sleep(60)
        assert replica.kube is not None
        sent: list[str] = []

        async def send(method: str, path: str, **_: Any) -> Any:
            sent.append(method)
            raise Unavailable("sent")

        monkeypatch.setattr(replica.kube, "_send", send)
        with pytest.raises(Unavailable, match="sent"):
            await replica.kube.create(SECRETS, "web", {})
        monkeypatch.setattr(module, "elapsed", lambda: now() + HOLD_SECONDS)
        for write in (
            replica.kube.create(SECRETS, "web", {}),
            replica.kube.replace(SECRETS, "web", "a", {}),
            replica.kube.apply(SECRETS, "web", "a", {}),
            replica.kube.json_patch(SECRETS, "web", "a", []),
            replica.kube.delete(SECRETS, "web", "a", uid="1"),
        ):
            with pytest.raises(Unavailable, match="another replica may hold it"):
                await write
        assert sent == ["POST"]
        with pytest.raises(Unavailable, match="sent"):
            await replica.kube.get(SECRETS, "web", "a")
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    run(test)


def test_the_figures_fit_together() -> None:
    assert module.RETRY_SECONDS < module.RENEW_SECONDS < module.HOLD_SECONDS < module.LEASE_SECONDS


@pytest.mark.parametrize("seconds", [0.001, 5, 60], ids=["at once", "as a standby", "as the holder"])
def test_who_is_told_to_stop_leaves_no_task_behind(leases: Leases, seconds: float) -> None:
    async def test() -> None:
        others = [Replica(leases, "other").start()] if seconds < 60 else []
        await asyncio.sleep(1)
        before = asyncio.all_tasks()
        task = Replica(leases, "one").start()
        await asyncio.sleep(seconds)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
        for other in others:
            other.cancel()
            await asyncio.gather(other, return_exceptions=True)

    run(test)
