"""Writes spread over time, under a clock of the test's own."""

import asyncio
import heapq

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.kube.pace import Pace


class Clock:
    """Sleepers are woken in order, and time jumps to the next one."""

    def __init__(self) -> None:
        self.now = 100.0
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.Event()
        heapq.heappush(self._sleepers, (self.now + seconds, id(woken), woken))
        await woken.wait()

    async def run(self, until: float) -> None:
        await asyncio.sleep(0)
        while self._sleepers and self._sleepers[0][0] <= until:
            self.now, _, woken = heapq.heappop(self._sleepers)
            woken.set()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        self.now = until


async def turns(rate: float, comings: list[float]) -> list[float]:
    """When each had its turn, given the seconds between their comings."""
    clock = Clock()
    pace = Pace(rate, monotonic=lambda: clock.now, sleep=clock.sleep)
    had: list[float] = []

    async def one() -> None:
        await pace.wait()
        had.append(clock.now)

    tasks = []
    for pause in comings:
        await clock.run(clock.now + pause)
        tasks.append(asyncio.create_task(one()))
        await asyncio.sleep(0)
    await clock.run(clock.now + 10_000)
    await asyncio.gather(*tasks)
    return had


async def test_a_burst_then_one_after_the_other() -> None:
    had = await turns(10, [0.0] * 40)
    assert had[:11] == [100.0] * 11, "an idle second has saved up for ten, and it is the turn of one"
    assert had[11:] == pytest.approx([100 + 0.1 * number for number in range(1, 30)])


async def test_who_comes_seldom_never_waits() -> None:
    assert await turns(2, [0.5] * 20) == pytest.approx([100.5 + 0.5 * number for number in range(20)])


@given(st.sampled_from([1.0, 3.0, 50.0]), st.lists(st.floats(0, 3), min_size=1, max_size=60))
def test_no_stretch_of_time_has_more_than_its_share(rate: float, comings: list[float]) -> None:
    had = asyncio.run(turns(rate, comings))
    assert had == sorted(had)
    assert len(had) == len(comings)
    for first in range(len(had)):
        for last in range(first, len(had)):
            assert last - first <= rate * (had[last] - had[first] + 1) + 1e-6
