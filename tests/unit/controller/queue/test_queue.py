"""The work queue under clocks that tests turn."""

import asyncio
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.controller import queue as module
from pullpass.controller.queue import BACKOFF, Key, WorkQueue
from tests.unit.controller.queue.clocks import START, A, B, C, Clocks, drained, key, ready


async def test_keys_come_in_the_order_they_were_added_and_once(clocks: Clocks) -> None:
    queue = clocks.queue()
    for one in (A, B, A, A, C, B):
        queue.add(one)
    assert len(queue) == 3
    assert [await ready(queue) for _ in range(4)] == [A, B, C, None]
    assert len(queue) == 3
    for one in (A, B, C):
        queue.done(one)
    assert len(queue) == 0
    assert await ready(queue) is None


async def test_a_key_that_is_worked_on_runs_again_afterwards_and_once(clocks: Clocks) -> None:
    queue = clocks.queue()
    queue.add(A)
    assert await ready(queue) == A
    queue.add(A)
    queue.add(A)
    assert await ready(queue) is None, "two workers would have the same key"
    queue.done(A)
    assert await ready(queue) == A
    queue.done(A)
    assert await ready(queue) is None


@pytest.mark.parametrize("meanwhile", [True, False])
async def test_news_of_a_failed_key_leave_the_shortest_backoff(clocks: Clocks, meanwhile: bool) -> None:
    """Whatever changes all the time would otherwise be worked on all the time."""
    queue = clocks.queue()
    queue.add(A)
    for _ in range(10):
        await ready(queue)
        queue.failed(A)
        clocks.forward(BACKOFF.longest)
    await ready(queue)
    if meanwhile:
        queue.add(A)
    assert queue.failed(A) == (BACKOFF.first if meanwhile else BACKOFF.longest)
    queue.add(A, urgent=True)
    assert await ready(queue) is None
    clocks.forward(BACKOFF.first)
    assert await ready(queue) == A
    queue.done(A)
    clocks.forward(BACKOFF.longest)
    assert await ready(queue) is None, "the longer one is over as well"


async def test_who_waits_is_woken(clocks: Clocks) -> None:
    queue = clocks.queue()
    waiting = [asyncio.create_task(queue.get()) for _ in range(2)]
    await asyncio.sleep(0)
    queue.add(A)
    queue.add(B)
    assert {await task for task in waiting} == {A, B}


async def test_backoff_doubles_up_to_a_limit_and_starts_anew(clocks: Clocks) -> None:
    queue = clocks.queue()
    delays = []
    queue.add(A)
    for _ in range(10):
        assert await ready(queue) == A
        delays.append(queue.failed(A))
        clocks.forward(delays[-1] - 0.01)
        assert await ready(queue) is None
        clocks.forward(0.01)
    assert delays[:4] == [BACKOFF.first * factor for factor in (1, 2, 4, 8)]
    assert delays == sorted(delays)
    assert delays[-1] == delays[-2] == BACKOFF.longest
    assert await ready(queue) == A
    queue.done(A)
    queue.add(A)
    await ready(queue)
    assert queue.failed(A) == BACKOFF.first


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 2000))
def test_jitter_takes_up_to_half(jitter: float, failures: int) -> None:
    clocks = Clocks()
    clocks.jitter = jitter
    queue = clocks.queue()
    queue._failures[A] = failures
    queue._running[A] = module._Pass(0, urgent=False, retry=False)
    full = min(BACKOFF.first * 2.0 ** min(failures, 100), BACKOFF.longest)
    assert full / 2 <= queue.failed(A) <= full


async def test_keys_back_off_apart(clocks: Clocks) -> None:
    queue = clocks.queue()
    for one in (A, A, A, B):
        queue.add(one)
        clocks.forward(BACKOFF.first)
        assert await ready(queue) == one
        last = queue.failed(one)
    assert last == BACKOFF.first


async def test_a_server_that_asks_for_more_time_gets_it(clocks: Clocks) -> None:
    queue = clocks.queue()
    queue.add(A)
    await ready(queue)
    assert queue.failed(A, at_least=30) == 30
    clocks.forward(29.9)
    assert await ready(queue) is None
    clocks.forward(0.1)
    assert await ready(queue) == A


async def test_a_backoff_does_not_follow_the_wall_clock(clocks: Clocks) -> None:
    queue = clocks.queue()
    queue.add(A)
    await ready(queue)
    queue.failed(A, at_least=10)
    clocks.wall += timedelta(days=1)
    assert await ready(queue) is None
    clocks.wall -= timedelta(days=2)
    clocks.seconds += 10
    assert await ready(queue) == A


async def test_due_keys_come_when_their_time_has_come(clocks: Clocks) -> None:
    queue = clocks.queue()
    queue.set_due(B, START + timedelta(seconds=20))
    queue.set_due(A, START + timedelta(seconds=10))
    assert await ready(queue) is None
    clocks.forward(10)
    assert [await ready(queue), await ready(queue)] == [A, None]
    clocks.forward(10)
    assert [await ready(queue), await ready(queue)] == [B, None]


async def test_what_is_overdue_comes_at_once(clocks: Clocks) -> None:
    queue = clocks.queue()
    queue.set_due(A, START - timedelta(days=1))
    assert await ready(queue) == A


@pytest.mark.parametrize(
    ("dues", "comes"),
    [
        ([10, 20], [20]),
        ([20, 10], [10]),
        ([10, 10], [10]),
        ([10, None], []),
        ([10, 20, 10], [10]),
        ([10, None, 30], [30]),
    ],
)
async def test_a_due_time_replaces_the_one_before(clocks: Clocks, dues: list[int | None], comes: list[int]) -> None:
    queue = clocks.queue()
    for due in dues:
        queue.set_due(A, None if due is None else START + timedelta(seconds=due))
    seen = []
    for second in range(0, 50, 5):
        if await ready(queue) == A:
            seen.append(second)
            queue.done(A)
        clocks.forward(5)
    assert seen == comes


async def test_a_due_time_comes_again_once_it_is_set_again(clocks: Clocks) -> None:
    queue = clocks.queue()
    for _ in range(2):
        queue.set_due(A, START)
        assert await ready(queue) == A
        queue.done(A)


async def test_a_due_key_that_is_worked_on_runs_again(clocks: Clocks) -> None:
    queue = clocks.queue()
    queue.add(A)
    assert await ready(queue) == A
    queue.set_due(A, START)
    assert await ready(queue) is None
    queue.done(A)
    assert await ready(queue) == A


async def test_the_wall_clock_may_jump(clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CLOCK_CHECK", 0.0)
    queue = clocks.queue()
    queue.set_due(A, START + timedelta(days=30))
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    clocks.wall -= timedelta(days=365)
    for _ in range(5):
        await asyncio.sleep(0)
    assert not waiting.done()
    clocks.wall += timedelta(days=365 + 31)
    assert await waiting == A


async def test_nobody_sleeps_longer_than_needed(clocks: Clocks, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float | None] = []
    real = asyncio.timeout

    def timeout(seconds: float | None) -> asyncio.Timeout:
        asked.append(seconds)
        return real(None)

    monkeypatch.setattr(asyncio, "timeout", timeout)
    queue = clocks.queue()
    assert await ready(queue) is None
    assert asked == [None]
    queue.set_due(A, START + timedelta(hours=1))
    await ready(queue)
    assert asked[-1] == module.CLOCK_CHECK, "a wall clock that jumps is noticed"
    queue.set_due(B, START + timedelta(seconds=4))
    await ready(queue)
    assert asked[-1] == 4
    queue.add(C)
    assert await ready(queue) == C
    queue.failed(C, at_least=3)
    await ready(queue)
    assert asked[-1] == 3


@given(st.lists(st.tuples(st.sampled_from(["add", "get", "done", "failed", "due", "tick"]), st.integers(0, 2))))
def test_nothing_is_lost_and_nothing_runs_twice_at_once(steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        clocks = Clocks()
        queue = clocks.queue()
        running: set[Key] = set()
        owed: set[Key] = set()
        for step, number in steps:
            key = (A, B, C)[number]
            if step == "add":
                queue.add(key)
                owed.add(key)
            elif step == "due":
                queue.set_due(key, clocks.wall + timedelta(seconds=5))
                owed.add(key)
            elif step == "tick":
                clocks.forward(7 * number)
            elif step == "get":
                got = await ready(queue)
                if got is not None:
                    assert got not in running
                    running.add(got)
                    owed.discard(got)
            elif key in running:
                running.discard(key)
                if step == "done":
                    queue.done(key)
                else:
                    queue.failed(key)
                    owed.add(key)
        for key in running:
            queue.done(key)
        clocks.forward(BACKOFF.longest * 2)
        left = set()
        while (got := await ready(queue)) is not None:
            left.add(got)
            queue.done(got)
        assert owed <= left

    asyncio.run(run())


async def test_urgent_keys_come_first_and_the_others_still_get_their_share(clocks: Clocks) -> None:
    queue = clocks.queue()
    others = [key("many", f"due-{number}") for number in range(100)]
    urgent = [key("web", f"new-{number}") for number in range(30)]
    for one in others:
        queue.add(one)
    for one in urgent:
        queue.add(one, urgent=True)
    order = await drained(queue)
    assert sorted(order) == sorted(others + urgent)
    assert [one for one in order if one in urgent] == urgent
    assert [one for one in order if one in others] == others
    assert sum(one in urgent for one in order[:40]) == 30


async def test_a_key_that_becomes_urgent_moves_up_and_stays_there(clocks: Clocks) -> None:
    queue = clocks.queue()
    for one in (A, B, C):
        queue.add(one)
    queue.add(C, urgent=True)
    queue.add(C)
    assert await drained(queue) == [C, A, B]


async def test_a_failed_urgent_key_comes_again_as_an_urgent_one(clocks: Clocks) -> None:
    queue = clocks.queue()
    queue.add(A, urgent=True)
    assert await ready(queue) == A
    queue.failed(A)
    for one in (B, C):
        queue.add(one)
    clocks.forward(BACKOFF.first)
    assert await drained(queue) == [A, B, C]


async def test_urgent_news_of_a_key_that_is_worked_on_make_it_urgent(clocks: Clocks) -> None:
    queue = clocks.queue()
    queue.add(A)
    assert await ready(queue) == A
    queue.add(A, urgent=True)
    queue.add(A)
    queue.add(B)
    queue.done(A)
    assert await drained(queue) == [A, B]


async def test_a_namespace_with_thousands_of_keys_does_not_keep_the_others_waiting(clocks: Clocks) -> None:
    queue = clocks.queue()
    for number in range(2000):
        queue.add(key("greedy", f"t{number}"), urgent=True)
    queue.add(key("web", "a"), urgent=True)
    queue.add(key("shop", "a"), urgent=True)
    queue.add(key("shop", "b"), urgent=True)
    order = await drained(queue)
    assert order[:5] == [key("greedy", "t0"), key("web", "a"), key("shop", "a"), key("greedy", "t1"), key("shop", "b")]
    assert len(order) == 2003


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 5), st.booleans()), max_size=60))
def test_whatever_is_added_comes_once(added: list[tuple[str, int, bool]]) -> None:
    async def test() -> None:
        queue = WorkQueue()
        for namespace, number, urgent in added:
            queue.add(key(namespace, str(number)), urgent=urgent)
        wanted = {key(namespace, str(number)) for namespace, number, _ in added}
        assert len(queue) == len(wanted)
        assert sorted(await drained(queue)) == sorted(wanted)
        assert len(queue) == 0

    asyncio.run(test())
