"""Whatever becomes of statuses and events, passwords go on; and people are told where statuses do not come to them.

The token `web/reader` has three places, and passwords that live for two minutes (see `test_harms_only_itself`).
"""

import asyncio
import copy
import logging
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from pullpass.controller.dispatch import Pass, dispatch
from pullpass.controller.outcome import Outcome
from pullpass.controller.queue import BACKOFF, Key, Kind, WorkQueue
from pullpass.controller.tokens import status
from pullpass.controller.tokens.report import CHANGED_LONGEST, STATUS_SECONDS, TOLD_AT
from pullpass.kube.client import Conflict, KubeError, NotFound, Refused, Unavailable
from pullpass.kube.resources import EVENTS, REGISTRY_TOKENS, Resource
from tests.unit.controller.fake_api import Body, Place
from tests.unit.controller.places.test_harms_only_itself import SPEC, new_world, unsettled
from tests.unit.controller.test_replicas_that_hang import in_fake_time, time
from tests.unit.controller.world import KEY, World

STATUS = Key("status", "web", "reader")
ERRORS: dict[str, Callable[[], KubeError]] = {
    "refused": lambda: Refused('admission webhook "x.example.com" denied the request: no', 403),
    "no answer": lambda: Unavailable("no answer from the API server (TimeoutError)"),
    "not found": lambda: NotFound("a webhook says 404", 404),
    "conflict": lambda: Conflict("a webhook says 409", 409),
}


def break_statuses(world: World, error: Callable[[], Exception]) -> None:
    def before_write(_: str, place: Place) -> None:
        if place[0] == "registrytokens":
            raise error()

    world.api.before_write = before_write


def mend(world: World) -> None:
    world.api.before_write = lambda *_: None


def status_writes(world: World) -> int:
    return sum(place[0] == "registrytokens" for _, place in world.api.writes)


async def attempt(world: World, number: int = 1) -> Outcome:
    """So many passes over the status, as far apart as the longest back-off."""
    outcome = Outcome()
    for _ in range(number):
        world.now += timedelta(seconds=BACKOFF.longest)
        outcome = await world.one(STATUS)
    return outcome


# Nobody waits for them


async def test_the_pass_of_a_token_neither_writes_its_status_nor_posts_events(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await new_world()

    async def hang(resource: Resource, *_: Any, **__: Any) -> Body:
        await asyncio.Event().wait()
        raise AssertionError

    create, apply = world.api.create, world.api.apply

    async def create_or_hang(resource: Resource, *arguments: Any, **more: Any) -> Body:
        return await (hang if resource is EVENTS else create)(resource, *arguments, **more)

    async def apply_or_hang(resource: Resource, *arguments: Any, **more: Any) -> Body:
        return await (hang if resource is REGISTRY_TOKENS else apply)(resource, *arguments, **more)

    monkeypatch.setattr(world.api, "create", create_or_hang)
    monkeypatch.setattr(world.api, "apply", apply_or_hang)
    before = set(world.passwords().values())
    followed: set[Key] = set()
    async with asyncio.timeout(5):
        for _ in range(10):
            world.now += timedelta(seconds=31)
            keys = {KEY}
            while keys:
                key = keys.pop()
                outcome = await world.passes[key.kind](key)
                followed |= outcome.follow
                keys |= {*outcome.follow, *world.woken, *world.deliver()}
                keys = {key for key in keys if key.kind in ("token", "place")}
                world.woken.clear()
            before |= set(world.passwords().values())
    assert len(before) > 5, "each rotation came to the places"
    assert STATUS in followed


@pytest.mark.parametrize("name", ERRORS)
async def test_a_status_that_cannot_be_written_does_not_make_the_token_wait(name: str) -> None:
    world = await new_world()
    break_statuses(world, ERRORS[name])
    world.now += timedelta(seconds=60)
    await world.work(rounds=1)
    assert world.failing == {STATUS}
    assert len(set(world.passwords().values())) == 1
    assert (await world.one(KEY)) == Outcome(due=world.dues[KEY]), "nothing more to do, and the status comes by itself"


def test_statuses_that_hang_everywhere_take_no_turn_and_no_retry_of_tokens() -> None:
    """200 tokens of 50 namespaces, each of which fails once; every write of a status hangs until its time limit."""

    async def test() -> None:
        queue, statuses = WorkQueue(monotonic=time), WorkQueue(monotonic=time)
        tries, done, over = Counter[Key](), dict[Key, float](), asyncio.Event()
        keys = [Key("token", f"ns-{number % 50}", f"t{number}") for number in range(200)]

        async def work_on(key: Key) -> Outcome:
            tries[key] += 1
            follow = frozenset({key._replace(kind="status")})
            await asyncio.sleep(0.05)
            if tries[key] == 1:
                return Outcome(retry="a blip", follow=follow)
            done[key] = time()
            if len(done) == len(keys):
                over.set()
            return Outcome(follow=follow)

        async def hang(_: Key) -> Outcome:
            await asyncio.sleep(STATUS_SECONDS)
            return Outcome(retry="no answer")

        each: dict[Kind, Pass] = {"token": work_on, "status": hang}
        tasks = [asyncio.create_task(dispatch(statuses, each)), asyncio.create_task(dispatch(queue, each, statuses))]
        begun = time()
        for key in keys:
            queue.add(key)
        await over.wait()
        for task in tasks:
            task.cancel()
        assert max(done.values()) - begun < 15, "as if no status had hung"

    in_fake_time(test())


# How often they are written


async def test_a_status_is_written_at_once_and_then_not_again() -> None:
    world = World()
    world.token(passwords={"lifetime": "720h"})
    await world.work(rounds=1)
    assert world.condition() == ("True", "Ready")
    writes = status_writes(world)
    for _ in range(3):
        await world.work()
        assert (await world.one(KEY)).follow == frozenset()
    world.restart()
    await world.work()
    assert status_writes(world) == writes


async def test_what_changes_while_a_status_is_not_written_is_what_is_written_in_the_end() -> None:
    world = await new_world()
    break_statuses(world, ERRORS["no answer"])
    world.now += timedelta(seconds=60)
    await world.work(rounds=1)
    world.token(**SPEC | {"enabled": False})
    await world.work(rounds=1)
    since = world.now
    await attempt(world, 3)
    world.now += timedelta(seconds=1)
    await world.one(KEY)
    mend(world)
    writes = status_writes(world)
    await world.work(STATUS, rounds=1)
    assert status_writes(world) == writes + 1
    assert world.condition() == ("False", "TokenDisabled")
    (ready,) = [one for one in world.status()["conditions"] if one["type"] == "Ready"]
    assert ready["lastTransitionTime"] == since.strftime("%Y-%m-%dT%H:%M:%SZ"), "since when it is so, not since written"
    assert world.events().count("TokenDisabled") == 1


async def test_a_status_that_was_right_again_while_another_was_being_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one under way is stored after that, so the token is looked at again."""
    world = await new_world()
    enabled = world.status()
    world.token(**SPEC | {"enabled": False})
    world.deliver()
    await world.one(KEY)
    apply = world.api.apply

    async def slow(*arguments: Any, **more: Any) -> Body:
        with monkeypatch.context() as patched:
            patched.setattr(status, "build", lambda *_: copy.deepcopy(enabled))
            assert (await world.one(KEY)).follow == frozenset()
        return await apply(*arguments, **more)

    monkeypatch.setattr(world.api, "apply", slow)
    world.woken.clear()
    await world.one(STATUS)
    assert world.condition() == ("False", "TokenDisabled")
    assert KEY in world.woken


# What is told where they cannot be written


@pytest.mark.parametrize("name", ERRORS)
async def test_a_status_that_is_not_written_is_told_and_written_once_that_works(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    world = await new_world()
    counted = unsettled("StatusNotWritten")
    break_statuses(world, ERRORS[name])
    world.now += timedelta(seconds=60)
    await world.work(rounds=1)
    assert ("StatusNotWritten" in world.events()) == (name == "refused"), "a blip is not told"
    await attempt(world, TOLD_AT - 1)
    assert world.events().count("StatusNotWritten") == 1
    assert unsettled("StatusNotWritten") == counted + 1
    (event,) = [body for body in world.api.of(EVENTS) if body["reason"] == "StatusNotWritten"]
    assert event["type"] == "Warning"
    assert str(ERRORS[name]()) in event["note"]
    line = f"StatusNotWritten: token web/reader: {event['note']}"
    assert (logging.WARNING, line) in [(record.levelno, record.getMessage()) for record in caplog.records]
    await attempt(world, 5)
    assert world.events().count("StatusNotWritten") == 1, "one event"
    assert caplog.text.count("StatusNotWritten: token web/reader") >= 5, "and a line each time"
    mend(world)
    assert (await attempt(world)).retry is None
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert [p["id"] for p in world.status()["passwords"]] == [s.id for s in world.record_of(world.uid()).slots.values()]
    assert unsettled("StatusNotWritten") == counted


async def test_a_token_that_went_meanwhile_is_no_matter() -> None:
    world = await new_world()
    world.now += timedelta(seconds=60)
    await world.one(KEY)
    world.token(**SPEC | {"enabled": False})
    world.deliver()
    await world.one(KEY)
    uid = world.uid()
    world.api.remove(REGISTRY_TOKENS, "web", "reader")
    assert (await world.one(STATUS)).retry is not None, "an API server that starts says so of every token"
    world.deliver()
    assert (await world.one(STATUS)) == Outcome()
    counted = unsettled("StatusNotWritten")
    await world.work(Key("cleanup", name=uid))
    assert unsettled("StatusNotWritten") == counted
    assert "StatusNotWritten" not in world.events()


async def test_a_successor_under_the_same_name_gets_its_own_status() -> None:
    world = await new_world()
    world.token(**SPEC | {"enabled": False})
    world.deliver()
    await world.one(KEY)
    world.api.remove(REGISTRY_TOKENS, "web", "reader")
    world.token(**SPEC)
    assert (await world.one(STATUS)) == Outcome()
    assert KEY in world.woken
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert "StatusNotWritten" not in world.events()


async def test_the_count_of_a_token_ends_with_it() -> None:
    world = await new_world()
    counted = unsettled("StatusNotWritten")
    break_statuses(world, ERRORS["refused"])
    world.now += timedelta(seconds=60)
    await world.work(rounds=1)
    assert unsettled("StatusNotWritten") == counted + 1
    uid = world.uid()
    world.api.remove(REGISTRY_TOKENS, "web", "reader")
    world.deliver()
    await world.work(Key("cleanup", name=uid))
    assert unsettled("StatusNotWritten") == counted


async def test_a_status_that_is_stored_otherwise_is_told_and_written_ever_more_rarely(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An admission policy, or CRDs of another version, take a part away."""
    world = await new_world()
    apply = world.api.apply

    async def strip(resource: Resource, namespace: str, name: str, body: Body, **more: Any) -> Body:
        if resource is REGISTRY_TOKENS:
            body = copy.deepcopy(body)
            body["status"].pop("conditions")
        return await apply(resource, namespace, name, body, **more)

    monkeypatch.setattr(world.api, "apply", strip)
    world.token(**SPEC | {"enabled": False})
    world.deliver()
    assert (await world.one(KEY)).follow == {STATUS}
    first = await world.one(STATUS)
    assert first.retry is not None
    assert first.retry_after >= BACKOFF.longest
    for _ in range(5):
        world.deliver()
        assert STATUS not in (await world.one(KEY)).follow, "news of the stored status do not make it quicker"
    waits = [(await world.one(STATUS)).retry_after for _ in range(10)]
    assert waits == sorted(waits)
    assert waits[-1] == CHANGED_LONGEST
    assert world.events().count("StatusNotWritten") == world.events().count("TokenDisabled") == 1
    monkeypatch.setattr(world.api, "apply", apply)
    assert (await world.one(STATUS)).retry is None
    assert world.condition() == ("False", "TokenDisabled")
    assert (await world.one(KEY)).follow == frozenset()


async def test_what_others_add_to_a_status_is_no_reason_to_write_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await new_world()
    apply = world.api.apply

    async def add(resource: Resource, namespace: str, name: str, body: Body, **more: Any) -> Body:
        if resource is REGISTRY_TOKENS:
            body = copy.deepcopy(body)
            body["status"]["conditions"].insert(0, {"type": "Audited", "status": "True"})
        return await apply(resource, namespace, name, body, **more)

    monkeypatch.setattr(world.api, "apply", add)
    world.token(**SPEC | {"enabled": False})
    world.deliver()
    await world.one(KEY)
    assert (await world.one(STATUS)).retry is None


async def test_events_that_cannot_be_posted_are_counted() -> None:
    world = World()
    lost = REGISTRY.get_sample_value("pullpass_operator_events_lost_total") or 0

    def before_write(_: str, place: Place) -> None:
        if place[0] == "events":
            raise Refused("exceeded quota", 403)

    world.api.before_write = before_write
    world.token(**SPEC | {"pullSecret": {}})
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert REGISTRY.get_sample_value("pullpass_operator_events_lost_total") == lost + 2
