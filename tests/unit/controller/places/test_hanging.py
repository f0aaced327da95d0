"""Namespaces where pull secrets hang, and ServiceAccounts that hang: everything else goes on."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from pullpass.controller.dispatch import dispatch, passes
from pullpass.controller.places.entries import ANSWER_SECONDS, MAX_HANGING, SHORT_SECONDS, Entries
from pullpass.controller.queue import BACKOFF, Key, WorkQueue
from pullpass.kube.client import REQUEST_SECONDS, Unavailable
from pullpass.kube.resources import SECRETS
from tests.unit.controller.fake_api import Body, FakeApi
from tests.unit.controller.world import SETTINGS, World, password_in
from tests.unit.kube.test_lease import FakeTimeLoop

TICK = 0.25


class SlowApi(FakeApi):
    """Writes to some ServiceAccounts take their time, and then fail or not; pull secrets of some namespaces hang."""

    def __init__(self) -> None:
        super().__init__()
        self.slow: dict[tuple[str, str], float] = {}
        self.fails = True
        self.hanging: set[str] = set()
        self.open = 0
        self.most_open = 0

    async def apply(self, resource: Any, namespace: str | None, name: str, body: Body, **more: Any) -> Body:
        if resource is SECRETS and namespace in self.hanging:
            await asyncio.sleep(REQUEST_SECONDS)
            raise Unavailable("no answer from the API server (TimeoutError)")
        return await super().apply(resource, namespace, name, body, **more)

    async def json_patch(self, resource: Any, namespace: str | None, name: str, operations: Any) -> Body:
        seconds = self.slow.get((namespace or "", name), 0)
        if seconds:
            self.open += 1
            self.most_open = max(self.open, self.most_open)
            try:
                await asyncio.sleep(seconds)
            finally:
                self.open -= 1
            if self.fails:
                raise Unavailable("no answer from the API server (TimeoutError)")
        return await super().json_patch(resource, namespace, name, operations)


class SlowWorld(World):
    """A world under the clock of the event loop, with everything at work."""

    def __init__(self) -> None:
        super().__init__()
        self.api.after_write = lambda: None

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[WorkQueue]:
        loop = asyncio.get_running_loop()
        queue = WorkQueue(now=self.clock, monotonic=loop.time)
        every = passes(
            self.api,
            self.cache,
            SETTINGS,
            self.seed,
            self.servers,
            queue.add,
            self.sender,
            now=self.clock,
            monotonic=loop.time,
        )

        async def watch() -> None:
            while True:
                for key in sorted(self.deliver()):
                    queue.add(key, urgent=True)
                await asyncio.sleep(TICK)
                self.now += timedelta(seconds=TICK)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(watch()), group.create_task(dispatch(queue, every))]
            yield queue
            for task in tasks:
                task.cancel()


def in_fake_time(test: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        runner.run(test)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> SlowWorld:
    async def at_once(do: Any, *arguments: Any) -> Any:
        return do(*arguments)

    # The clock of the tests would not wait for a thread.
    monkeypatch.setattr(asyncio, "to_thread", at_once)
    monkeypatch.setattr("tests.unit.controller.world.FakeApi", SlowApi)
    return SlowWorld()


def slow(world: World) -> SlowApi:
    assert isinstance(world.api, SlowApi)
    return world.api


SPEC: dict[str, Any] = {
    "passwords": {"lifetime": "60s", "renewBefore": "30s", "overlap": "10s"},
    "pullSecret": {"namespaces": ["staging"], "serviceAccounts": ["*"]},
}


def refused_logins(world: World, tokens: int) -> list[str]:
    """What of all that stands in pull secrets is refused now, namespaces that hang left out."""
    found = []
    for number in range(tokens):
        uid = world.uid("web", f"t{number}")
        for namespace in ("web", "staging"):
            body = world.api.objects.get(("secrets", namespace, f"t{number}-pull"))
            if body is not None and not world.lets_in(uid, password_in(body)):
                found.append(f"{namespace}/t{number}")
    return found


def test_many_namespaces_that_hang_at_once_cost_the_others_no_login(world: SlowWorld) -> None:
    async def test() -> None:
        bad = [f"bad{number}" for number in range(62)]
        for namespace in bad:
            world.namespace(namespace, "web")
        for number in range(10):
            world.token("web", f"t{number}", **SPEC | {"pullSecret": {"namespaces": ["staging", *bad]}})
        async with world.at_work():
            await asyncio.sleep(10)
            assert len(world.passwords()) == 10 * 64
            slow(world).hanging.update(bad)
            # A new token has its places among them as well.
            world.token("web", "t10", **SPEC | {"pullSecret": {"namespaces": ["staging", *bad]}})
            for second in range(150):
                await asyncio.sleep(1)
                assert refused_logins(world, 11) == [], f"after {second} s"
            slow(world).hanging.clear()
            await asyncio.sleep(REQUEST_SECONDS + BACKOFF.longest + 15)
            assert all(world.status("web", f"t{n}")["conditions"][0]["status"] == "True" for n in range(11))

    in_fake_time(test())


@pytest.mark.parametrize("bad", [1, 2, 8])
def test_pull_secrets_of_all_tokens_are_renewed_in_time(world: SlowWorld, bad: int) -> None:
    async def test() -> None:
        for number in range(bad):
            world.account("staging", f"bad{number}")
            slow(world).slow["staging", f"bad{number}"] = 30
        for number in range(10):
            world.token("web", f"t{number}", **SPEC)
        async with world.at_work():
            await asyncio.sleep(20)
            for second in range(200):
                await asyncio.sleep(1)
                assert len(world.passwords()) == 20
                assert refused_logins(world, 10) == [], f"after {second} s"
        (message,) = [c["message"] for c in world.status("web", "t0")["conditions"] if c["type"] == "Ready"]
        assert "ServiceAccount staging/bad" in message
        assert sorted(world.entries("staging")) == [f"t{number}-pull" for number in range(10)]

    in_fake_time(test())


def test_a_service_account_is_named_after_its_first_attempt(world: SlowWorld) -> None:
    async def test() -> None:
        world.account("staging", "bad")
        slow(world).slow["staging", "bad"] = 30
        world.token("web", "t0", **SPEC)
        async with world.at_work():
            await asyncio.sleep(15)
            (message,) = [c["message"] for c in world.status("web", "t0")["conditions"] if c["type"] == "Ready"]
            assert "ServiceAccount staging/bad" in message

    in_fake_time(test())


def test_where_each_write_takes_twelve_seconds_entries_are_written_all_the_same(world: SlowWorld) -> None:
    async def test() -> None:
        slow(world).fails = False
        slow(world).slow["staging", "default"] = 12
        for number in range(3):
            world.token("web", f"t{number}", **SPEC)
        async with world.at_work():
            await asyncio.sleep(120)
        assert sorted(world.entries("staging")) == ["t0-pull", "t1-pull", "t2-pull"]
        assert world.status("web", "t0")["conditions"][0]["status"] == "True"

    in_fake_time(test())


# The writes themselves


@asynccontextmanager
async def entries(world: World, *names: str) -> AsyncIterator[tuple[Entries, list[Key]]]:
    woken: list[Key] = []
    for name in names:
        world.account("staging", name)
        slow(world).slow["staging", name] = 30
    world.account("staging", "good")
    world.deliver()
    yield Entries(world.api, world.cache, woken.append), woken


async def add(writes: Entries, world: World, name: str, uid: str = "uid-1") -> float:
    """Returns how long it took until it failed."""
    loop = asyncio.get_running_loop()
    begun = loop.time()
    with pytest.raises(Unavailable, match=f"ServiceAccount staging/{name}"):
        await writes.add(world.cache.service_accounts["staging"][name], "reader-pull", uid)
    return loop.time() - begun


def test_nobody_waits_for_a_write_that_is_known_to_hang(world: SlowWorld) -> None:
    async def test() -> None:
        async with entries(world, "bad") as (writes, woken):
            assert await add(writes, world, "bad") == ANSWER_SECONDS
            assert await add(writes, world, "bad", "uid-2") == 0
            assert await writes.add(world.cache.service_accounts["staging"]["good"], "reader-pull", "uid-2")
            woken.clear()
            slow(world).fails = False
            await asyncio.sleep(30)
            assert Key("place", "staging", "uid-1") in woken, "it was written in the end"
            assert world.entries("staging", "bad") == ["reader-pull"]

    in_fake_time(test())


def test_those_that_come_together_share_one_wait(world: SlowWorld) -> None:
    async def test() -> None:
        async with entries(world, "bad") as (writes, _):
            waits = await asyncio.gather(*(add(writes, world, "bad", f"uid-{number}") for number in range(5)))
            assert max(waits) == ANSWER_SECONDS
            await asyncio.sleep(1)
            assert slow(world).open == 1

    in_fake_time(test())


def test_of_a_namespace_only_some_writes_go_on(world: SlowWorld) -> None:
    async def test() -> None:
        names = [f"bad{number}" for number in range(MAX_HANGING + 3)]
        async with entries(world, *names) as (writes, _):
            waits = [await add(writes, world, name) for name in names]
            assert waits == [ANSWER_SECONDS] * MAX_HANGING + [pytest.approx(SHORT_SECONDS)] * 3
            await asyncio.sleep(0)
            assert slow(world).open == MAX_HANGING
            await asyncio.sleep(60)
            assert slow(world).open == 0

    in_fake_time(test())


def test_a_pass_that_is_cancelled_leaves_no_write_behind(world: SlowWorld) -> None:
    async def test() -> None:
        async with entries(world, "bad") as (writes, _):
            task = asyncio.create_task(add(writes, world, "bad"))
            await asyncio.sleep(1)
            assert slow(world).open == 1
            task.cancel()
            await asyncio.sleep(1)
            assert slow(world).open == 0

    in_fake_time(test())


def test_a_late_write_that_fails_is_logged(world: SlowWorld, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async with entries(world, "bad") as (writes, _):
            await add(writes, world, "bad")
            await asyncio.sleep(60)

    caplog.set_level("INFO")
    in_fake_time(test())
    assert "the late write to ServiceAccount staging/bad failed" in caplog.text


def test_a_late_write_that_fails_unexpectedly_is_logged_without_the_text_of_the_error(
    world: SlowWorld, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: Any) -> Body:
        await asyncio.sleep(30)
        raise ValueError("a password")

    async def test() -> None:
        async with entries(world, "bad") as (writes, _):
            monkeypatch.setattr(world.api, "json_patch", fail)
            await add(writes, world, "bad")
            await asyncio.sleep(60)

    in_fake_time(test())
    (record,) = caplog.records
    assert record.exc_info
    assert "staging/bad" in record.getMessage()
    assert "a password" not in record.getMessage()


def test_a_place_that_stays_broken_costs_no_write_of_the_status(world: SlowWorld) -> None:
    """In the middle of a pass, what it has not tried yet is as it was; and a new process knows nothing before its first
    pass is over."""

    async def test() -> None:
        foreign = {"namespace": "staging", "name": "t0-pull"}
        world.api.put(SECRETS, {"metadata": foreign, "type": "Opaque", "data": {}})
        slow(world).slow["staging", "default"] = 1
        world.token("web", "t0", **SPEC | {"passwords": {"lifetime": "24h"}})
        async with world.at_work():
            await asyncio.sleep(60)
            (told,) = [
                c["message"] for c in world.status("web", "t0")["conditions"] if c["type"] == "PullSecretsSynced"
            ]
            assert "t0-pull" in told
            assert "ServiceAccount staging/default" in told
            world.api.writes.clear()
            await asyncio.sleep(600)
        world.restart()
        async with world.at_work() as queue:
            for key in world.cache.every_key():
                queue.add(key)
            await asyncio.sleep(60)
        assert [place for _, place in world.api.writes if place[0] == "registrytokens"] == []

    in_fake_time(test())
