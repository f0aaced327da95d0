"""The heartbeat: who stood still for long notices it before anything else is answered."""

import asyncio
import time

import pytest

from pullpass.kube.standstill import BEAT_SECONDS, STALL_SECONDS, Heartbeat, elapsed


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.awoken = 0
        self.noticed = asyncio.Event()
        self.heartbeat = Heartbeat(self._note, elapsed=lambda: self.now)

    def _note(self) -> None:
        self.awoken += 1
        self.noticed.set()

    def pass_(self, seconds: float) -> int:
        """How often it was awoken after so many seconds."""
        self.now += seconds
        self.heartbeat.beat()
        return self.awoken


def test_beats_that_come_in_time_mean_nothing() -> None:
    clock = Clock()
    assert [clock.pass_(seconds) for seconds in (0, BEAT_SECONDS, STALL_SECONDS, 0.1)] == [0, 0, 0, 0]


def test_each_standstill_is_noticed_once(caplog: pytest.LogCaptureFixture) -> None:
    clock = Clock()
    assert [clock.pass_(seconds) for seconds in (STALL_SECONDS + 0.1, 0, 1, 3600, 1)] == [1, 1, 1, 2, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "this process stood still for 3.1 s (frozen, suspended, or without processor time)",
        "this process stood still for 3600.0 s (frozen, suspended, or without processor time)",
    ]


async def test_it_beats_by_itself() -> None:
    clock = Clock()
    task = asyncio.create_task(clock.heartbeat.run())
    clock.now += 60
    await clock.noticed.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_clock_also_counts_while_the_machine_sleeps() -> None:
    assert elapsed() == pytest.approx(time.clock_gettime(time.CLOCK_BOOTTIME), abs=10)
