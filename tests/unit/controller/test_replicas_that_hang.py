"""Token servers that hang, asked in fake time: what a question may conclude from the silence that others met."""

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from pullpass.controller.dispatch import dispatch
from pullpass.controller.outcome import Outcome
from pullpass.controller.queue import MAX_OF_NAMESPACE, Key, WorkQueue
from pullpass.controller.replicas import (
    ANSWER_SECONDS,
    MIN_ANSWER_SECONDS,
    PROBE_SECONDS,
    NotConfirmedError,
    NotReadyError,
    Replicas,
)
from pullpass.kube.resources import ENDPOINT_SLICES
from tests.unit.controller.fake_api import FakeApi
from tests.unit.controller.test_replicas import NOW, OLD, VERSION, answer
from tests.unit.controller.world import SETTINGS
from tests.unit.kube.test_lease import FakeTimeLoop

FULL_WAIT = ANSWER_SECONDS + MIN_ANSWER_SECONDS
SLACK = 0.01


class Replica:
    """Answers at once, unless it hangs: then once it has woken up, as a process does that was frozen."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.said = answer()
        self.questions = 0
        self.open = 0
        """Questions without an answer whose connection is still there."""
        self.deaf_to: set[str] = set()
        """Tokens that are never answered about."""
        self.error: Exception | None = None
        """What a connection breaks with."""
        self.turns = 0
        """Of the event loop, which the operator needs to connect and to read an answer."""
        self._awake = asyncio.Event()
        self.hang() if hangs else self.wake()

    def hang(self) -> None:
        self._awake.clear()

    def wake(self) -> None:
        self._awake.set()

    async def answer(self, uid: str) -> bytes:
        self.questions += 1
        self.open += 1
        try:
            await self._awake.wait()
            for _ in range(self.turns):
                await asyncio.sleep(0)
            if uid in self.deaf_to:
                await asyncio.Event().wait()
            if self.error is not None:
                raise self.error
        finally:
            self.open -= 1
        return json.dumps(self.said).encode()


class Fleet:
    """Replicas by address, and the operator's way to them."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.at: dict[str, Replica] = {}
        self.replicas = Replicas(self.api, SETTINGS, self, now=lambda: NOW)  # type: ignore[arg-type]

    def add(self, replica: Replica, *, ready: bool, pod: str = "pod", address: str = "") -> Replica:
        address = address or f"10.0.0.{len(self.at)}"
        self.at[f"{address}:8081"] = replica
        self.api.put(
            ENDPOINT_SLICES,
            {
                "metadata": {
                    "namespace": "release",
                    "name": f"tokens-{address}",
                    "labels": {"kubernetes.io/service-name": "tokens"},
                },
                "ports": [{"name": "http-management", "port": 8081}],
                "endpoints": [{"addresses": [address], "conditions": {"ready": ready}, "targetRef": {"name": pod}}],
            },
        )
        return replica

    @asynccontextmanager
    async def get(self, url: str, **more: Any) -> AsyncIterator[SimpleNamespace]:
        assert more["allow_redirects"] is False
        address, _, path = url.removeprefix("http://").partition("/")
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                body = await self.at[address].answer(path.removeprefix("tokens/"))
        except TimeoutError as error:
            raise aiohttp.ServerTimeoutError from error

        async def chunks(_: int) -> AsyncIterator[bytes]:
            yield body

        yield SimpleNamespace(status=200, content=SimpleNamespace(iter_chunked=chunks))

    async def confirm(self, uid: str = "uid") -> float:
        """Returns how long it took."""
        begun = time()
        await self.replicas.confirm(uid, "4f9c1e", VERSION, "other")
        return time() - begun

    async def confirmed_after(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return await self.confirm()


def time() -> float:
    return asyncio.get_running_loop().time()


def in_fake_time(test: Coroutine[Any, Any, None], loop: type[FakeTimeLoop] = FakeTimeLoop) -> None:
    """Time jumps to the next timer where nothing else is to do."""
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(test)


@asynccontextmanager
async def one_hangs(*, ready: bool = False) -> AsyncIterator[tuple[Fleet, Replica]]:
    """A fleet of a healthy replica and one that hangs. No question outlives it."""
    fleet = Fleet()
    healthy = fleet.add(Replica(), ready=True)
    hung = fleet.add(Replica(hangs=True), ready=ready)
    yield fleet, hung
    await fleet.replicas.close()
    assert (healthy.open, hung.open) == (0, 0)


def test_one_wait_is_enough_for_any_number_of_rotations() -> None:
    async def test() -> None:
        async with one_hangs() as (fleet, hung):
            waits = await asyncio.gather(*(fleet.confirm(f"uid-{number}") for number in range(200)))
            assert max(waits) == pytest.approx(FULL_WAIT)
            assert hung.questions == 200, "each was asked"
            assert hung.open == 1, "one question stays open as a probe"

    in_fake_time(test())


def test_rotations_that_come_one_after_the_other_share_the_wait_too() -> None:
    """As the work queue lets a namespace have so many passes at a time."""

    async def test() -> None:
        async with one_hangs() as (fleet, hung):
            queue, rotated, begun = WorkQueue(monotonic=time), set[str](), time()
            over = asyncio.Event()

            async def rotate(key: Key) -> Outcome:
                await fleet.confirm(key.name)
                rotated.add(key.name)
                if len(rotated) == 200:
                    over.set()
                return Outcome()

            for number in range(200):
                queue.add(Key("token", "web", f"uid-{number}"))
            working = asyncio.create_task(dispatch(queue, {"token": rotate}))
            await over.wait()
            working.cancel()
            took, apart = time() - begun, 200 / MAX_OF_NAMESPACE * ANSWER_SECONDS
            assert took < apart / 4
            assert hung.questions == 200, "each was asked"

    in_fake_time(test())


@pytest.mark.parametrize("later", [1.0, ANSWER_SECONDS - 0.1])
def test_a_question_that_begins_in_a_silence_ends_with_it(later: float) -> None:
    """The record it asks about was written before it, and the replica wakes up after it."""

    async def test() -> None:
        async with one_hangs() as (fleet, _):
            first, second = await asyncio.gather(fleet.confirm(), fleet.confirmed_after(later))
            assert first == pytest.approx(FULL_WAIT)
            assert second == pytest.approx(FULL_WAIT - later)

    in_fake_time(test())


def test_while_the_silence_lasts_a_later_question_gets_a_moment_of_its_own() -> None:
    async def test() -> None:
        async with one_hangs() as (fleet, hung):
            await fleet.confirm()
            for _ in range(5):
                assert await fleet.confirmed_after(3) == pytest.approx(MIN_ANSWER_SECONDS)
            assert (hung.questions, hung.open) == (6, 1)

    in_fake_time(test())


def test_once_the_probe_has_ended_the_next_question_waits_anew() -> None:
    """Nobody knows whether the replica was awake in between, and heard no question."""

    async def test() -> None:
        async with one_hangs() as (fleet, hung):
            await fleet.confirm()
            await asyncio.sleep(PROBE_SECONDS)
            assert hung.open == 0
            assert await fleet.confirm() == pytest.approx(FULL_WAIT)

    in_fake_time(test())


def test_a_question_that_was_cancelled_is_no_probe() -> None:
    async def test() -> None:
        async with one_hangs() as (fleet, hung):
            asking = asyncio.create_task(fleet.confirm())
            await asyncio.sleep(ANSWER_SECONDS - 1)
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            await asyncio.sleep(SLACK)
            assert hung.open == 0
            assert await fleet.confirm() == pytest.approx(FULL_WAIT)

    in_fake_time(test())


def test_a_replica_that_answers_again_is_asked_properly() -> None:
    async def test() -> None:
        async with one_hangs() as (fleet, hung):
            await fleet.confirm()
            hung.said = OLD
            hung.wake()
            await asyncio.sleep(SLACK)
            assert hung.open == 0, "the probe was answered"
            with pytest.raises(NotConfirmedError, match="holds version 811"):
                await fleet.confirm()
            hung.hang()
            assert await fleet.confirm() == pytest.approx(FULL_WAIT)

    in_fake_time(test())


@pytest.mark.parametrize("woken_after", [ANSWER_SECONDS - 0.1, ANSWER_SECONDS + MIN_ANSWER_SECONDS - 0.1])
def test_who_waits_when_it_wakes_up_gets_its_answer(woken_after: float) -> None:
    async def test() -> None:
        async with one_hangs() as (fleet, hung):
            asking = [asyncio.create_task(fleet.confirm()), asyncio.create_task(fleet.confirmed_after(4))]
            await asyncio.sleep(woken_after)
            hung.said = OLD
            hung.wake()
            for answer in await asyncio.gather(*asking, return_exceptions=True):
                assert isinstance(answer, NotConfirmedError)

    in_fake_time(test())


@pytest.mark.parametrize("error", [None, aiohttp.ServerDisconnectedError(), ConnectionResetError()])
@pytest.mark.parametrize("answered_after", [3.0, ANSWER_SECONDS + MIN_ANSWER_SECONDS - 0.1])
def test_one_that_answers_others_does_not_hang(answered_after: float, error: Exception | None) -> None:
    """It is awake, so what others have waited shows nothing: a question waits ANSWER_SECONDS of its own."""

    async def test() -> None:
        fleet = Fleet()
        fleet.add(Replica(), ready=True)
        choosy = fleet.add(Replica(hangs=True), ready=False)
        choosy.deaf_to, choosy.error = {"first", "second"}, error
        first = asyncio.create_task(fleet.confirm("first"))
        await asyncio.sleep(2)
        others = [asyncio.create_task(fleet.confirm(uid)) for uid in ("second", "other")]
        await asyncio.sleep(answered_after - 2)
        choosy.wake()
        assert await first == pytest.approx(FULL_WAIT)
        assert await others[0] == pytest.approx(FULL_WAIT)
        assert await others[1] == pytest.approx(answered_after - 2)
        assert choosy.open == 0, "they are no probes"
        assert await fleet.confirm("second") == pytest.approx(FULL_WAIT)
        choosy.deaf_to.add("third")
        third = asyncio.create_task(fleet.confirm("third"))
        await asyncio.sleep(1)
        await fleet.confirm("other")
        choosy.hang()
        assert [round(wait, 3) for wait in await asyncio.gather(fleet.confirm(), fleet.confirmed_after(2))] == [
            FULL_WAIT,
            FULL_WAIT - 2,
        ], "those that begin after an answer share a wait again"
        await third
        await fleet.replicas.close()

    in_fake_time(test())


def test_a_ready_replica_that_hangs_holds_everything_up_as_before() -> None:
    async def test() -> None:
        async with one_hangs(ready=True) as (fleet, hung):
            begun = time()
            for wait in (FULL_WAIT, FULL_WAIT + MIN_ANSWER_SECONDS):
                with pytest.raises(NotReadyError, match=r"10.0.0.1:8081 .pod pod. cannot be asked .TimeoutError."):
                    await fleet.confirm()
                assert time() - begun == pytest.approx(wait)
            fleet.add(hung, ready=False, address="10.0.0.1")
            assert await fleet.confirm() == pytest.approx(MIN_ANSWER_SECONDS), "it is the same one"

    in_fake_time(test())


def test_another_pod_at_the_same_address_is_another_replica() -> None:
    async def test() -> None:
        async with one_hangs() as (fleet, _):
            await fleet.confirm()
            fleet.add(Replica(hangs=True), ready=False, address="10.0.0.1", pod="successor")
            assert await fleet.confirm() == pytest.approx(FULL_WAIT)

    in_fake_time(test())


class StarvedLoop(FakeTimeLoop):
    """Each turn takes two seconds, as in a process with a small CPU limit."""

    def _run_once(self) -> None:
        super()._run_once()
        self.fake += 2


def test_an_operator_that_is_slow_itself_does_not_take_a_replica_for_a_hung_one() -> None:
    """When its time is over, the answer is there but not read yet."""

    async def test() -> None:
        fleet = Fleet()
        fleet.add(Replica(), ready=True)
        old = fleet.add(Replica(), ready=False)
        old.said, old.turns = OLD, 8
        with pytest.raises(NotConfirmedError, match="holds version 811"):
            await fleet.confirm()
        await fleet.replicas.close()

    in_fake_time(test(), StarvedLoop)


def test_what_is_known_of_replicas_that_are_gone_is_forgotten() -> None:
    async def test() -> None:
        async with one_hangs() as (fleet, hung):
            for number in range(50):
                fleet.add(hung, ready=False, address="10.0.0.1", pod=f"pod-{number}")
                await fleet.confirm()
            assert len(fleet.replicas._silences) < 50

    in_fake_time(test())
