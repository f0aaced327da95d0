"""Whoever is slow or broken takes no turn of others in the work queue."""

import asyncio

import pytest

from pullpass.controller.queue import (
    BACKOFF,
    MAX_OF_KIND,
    MAX_OF_NAMESPACE,
    MAX_RETRIES,
    RETRIES_PER_SECOND,
    SLOW_SECONDS,
    Key,
    WorkQueue,
)
from tests.unit.controller.queue.clocks import A, B, Clocks, drained, key, ready


def place(namespace: str, name: str = "uid") -> Key:
    return Key("place", namespace, name)


async def begun(queue: WorkQueue) -> list[Key]:
    """All keys that may begin now, none of which ends."""
    order: list[Key] = []
    while (found := await ready(queue)) is not None:
        order.append(found)
    return order


async def test_so_many_passes_are_under_way_at_a_time(clocks: Clocks) -> None:
    queue = WorkQueue(workers=3, now=lambda: clocks.wall, monotonic=lambda: clocks.seconds)
    for number in range(5):
        queue.add(key(f"n{number}", "a"))
    assert len(await begun(queue)) == 3
    queue.done(key("n0", "a"))
    assert len(await begun(queue)) == 1


async def test_a_pass_that_hangs_gives_its_turn_to_another(clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    real = asyncio.timeout

    def timeout(seconds: float | None) -> asyncio.Timeout:
        asked.append(seconds)
        return real(None)

    monkeypatch.setattr(asyncio, "timeout", timeout)
    queue = WorkQueue(workers=1, now=lambda: clocks.wall, monotonic=lambda: clocks.seconds)
    queue.add(key("bad", "a"))
    queue.add(key("web", "a"))
    assert await begun(queue) == [key("bad", "a")]
    assert asked[-1] == SLOW_SECONDS, "the dispatcher wakes up when the turn is given on"
    clocks.forward(SLOW_SECONDS)
    assert await begun(queue) == [key("web", "a")]


async def test_a_namespace_where_everything_hangs_leaves_turns_for_the_others(clocks: Clocks) -> None:
    queue = clocks.queue()
    for number in range(100):
        queue.add(place("bad", f"uid-{number}"))
    found = await begun(queue)
    assert len(found) == MAX_OF_NAMESPACE
    queue.add(place("web"))
    assert await begun(queue) == [place("web")]
    clocks.forward(SLOW_SECONDS)
    assert await begun(queue) == [], "the others there would hang as well"
    queue.failed(found[0])
    queue.done(found[1])
    clocks.forward(BACKOFF.longest)
    assert len(await begun(queue)) == 1, "and so they count as failed, once the first one has"


async def test_a_place_that_is_only_slow_does_not_make_the_others_count_as_failed(clocks: Clocks) -> None:
    queue = WorkQueue(workers=1, now=lambda: clocks.wall, monotonic=lambda: clocks.seconds)
    for number in range(3):
        queue.add(place("slow", f"uid-{number}"))
    for number in range(3):
        assert await begun(queue) == [place("slow", f"uid-{number}")]
        clocks.forward(SLOW_SECONDS)
        assert await begun(queue) == []
        queue.done(place("slow", f"uid-{number}"))


async def test_a_place_that_hangs_again_keeps_no_other_of_its_namespace_waiting(clocks: Clocks) -> None:
    """Not everything there hangs: perhaps a policy is about one Secret only."""
    queue = clocks.queue()
    queue.add(place("web", "bad"))
    for _ in range(5):
        assert await begun(queue) == [place("web", "bad")]
        clocks.forward(30)
        queue.failed(place("web", "bad"))
        clocks.forward(BACKOFF.longest)
    assert await begun(queue) == [place("web", "bad")]
    clocks.forward(SLOW_SECONDS)
    queue.add(place("web", "good"))
    assert await begun(queue) == [place("web", "good")]


async def test_tokens_that_wait_for_a_token_server_take_more_turns_of_their_namespace(clocks: Clocks) -> None:
    """A replica that hangs is not their namespace's doing, and a rotation that waits too long outlives its password."""
    queue = WorkQueue(workers=4, now=lambda: clocks.wall, monotonic=lambda: clocks.seconds)
    for number in range(100):
        queue.add(key("team", f"t{number}"))
    found: list[Key] = []
    for _ in range(10):
        found += await begun(queue)
        clocks.forward(SLOW_SECONDS)
    assert len(found) == MAX_OF_NAMESPACE
    queue.add(key("web", "a"))
    assert await begun(queue) == [key("web", "a")]
    queue.failed(found[0])
    assert len(await begun(queue)) == 1, "the next one of them has not failed"


async def test_places_that_hang_leave_turns_for_the_tokens_of_their_namespace(clocks: Clocks) -> None:
    """A token's pass does not touch its namespace, and its other places depend on it."""
    queue = clocks.queue()
    for number in range(100):
        queue.add(place("web", f"uid-{number}"))
    for _ in range(10):
        await begun(queue)
        clocks.forward(SLOW_SECONDS)
    queue.add(A)
    assert await begun(queue) == [A]


async def test_a_place_that_hangs_again_leaves_a_retry_for_the_tokens_of_its_namespace(clocks: Clocks) -> None:
    queue = clocks.queue()
    for failing in (place("web"), A):
        queue.add(failing)
        assert await begun(queue) == [failing]
    queue.failed(place("web"))
    clocks.forward(BACKOFF.longest)
    assert await begun(queue) == [place("web")]
    queue.failed(A)
    clocks.forward(BACKOFF.longest)
    assert await begun(queue) == [A]


async def test_passes_of_one_kind_that_hang_leave_turns_for_the_others(clocks: Clocks) -> None:
    """Where the credentials namespace hangs, all tokens do, and their places go on."""
    queue = clocks.queue()
    for number in range(200):
        queue.add(key(f"n{number}", "a"))
    found: list[Key] = []
    for _ in range(20):
        found += await begun(queue)
        clocks.forward(SLOW_SECONDS)
    assert len(found) == MAX_OF_KIND
    queue.add(place("n1"))
    queue.add(Key("signing-keys", name="leaf"))
    assert set(await begun(queue)) == {place("n1"), Key("signing-keys", name="leaf")}


async def test_retries_that_hang_leave_turns_for_what_did_not_fail(clocks: Clocks) -> None:
    queue = clocks.queue()
    bad = [place(f"bad-{number}") for number in range(MAX_OF_KIND)]
    for one in bad:
        queue.add(one)
        await ready(queue)
        queue.failed(one)
    found: list[Key] = []
    for _ in range(20):
        clocks.forward(SLOW_SECONDS)
        found += await begun(queue)
    assert len(found) == MAX_RETRIES
    queue.add(place("web"))
    assert await begun(queue) == [place("web")]


async def broken(queue: WorkQueue, clocks: Clocks, *keys: Key) -> None:
    """All of these fail for so long that they wait as long as they ever do."""
    for one in keys:
        queue.add(one)
    for _ in range(7):
        while (found := await ready(queue)) is not None:
            queue.failed(found)
        clocks.forward(BACKOFF.longest)


async def test_thousands_of_broken_places_are_tried_again_at_a_bounded_rate(clocks: Clocks) -> None:
    queue = clocks.queue()
    bad = [place(f"bad-{number}") for number in range(1000)]
    for one in bad:
        queue.add(one)
        await ready(queue)
        queue.failed(one)
    tried = 0
    for _ in range(100):
        clocks.forward(0.1)
        while (found := await ready(queue)) is not None:
            tried += 1
            queue.failed(found)
    assert tried <= 10 * RETRIES_PER_SECOND + RETRIES_PER_SECOND
    assert tried >= 10 * RETRIES_PER_SECOND - 1


async def test_a_retry_that_hangs_keeps_nobody_else_waiting(clocks: Clocks) -> None:
    queue = WorkQueue(workers=1, now=lambda: clocks.wall, monotonic=lambda: clocks.seconds)
    await broken(queue, clocks, place("bad", "1"), place("bad", "2"))
    assert len(await begun(queue)) == 1, "one of a namespace at a time"
    queue.add(key("web", "a"))
    assert await begun(queue) == []
    clocks.forward(SLOW_SECONDS)
    assert await begun(queue) == [key("web", "a")]


async def test_where_one_works_again_the_others_of_the_namespace_come_at_once(clocks: Clocks) -> None:
    queue = clocks.queue()
    keys = [place("bad", "1"), place("bad", "2"), place("other", "3")]
    await broken(queue, clocks, *keys)
    while (found := await ready(queue)) is not None:
        queue.failed(found)
    clocks.forward(1)
    assert await ready(queue) is None
    queue.recovered("bad")
    assert sorted(await drained(queue)) == keys[:2]


async def test_what_follows_is_as_urgent_as_what_it_follows(clocks: Clocks) -> None:
    queue = clocks.queue()
    queue.add(A)
    queue.add(B, urgent=True)
    assert [await ready(queue), await ready(queue)] == [B, A]
    queue.add_beside(place("due"), A)
    queue.add_beside(place("asked"), B)
    assert await begun(queue) == [place("asked"), place("due")]
