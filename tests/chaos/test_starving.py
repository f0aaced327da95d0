"""The starver: what it does to a process, and that it leaves it running."""

import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.chaos.starving import starved

BUSY = "while True: pass"


@pytest.fixture
def busy() -> Any:
    """A program that takes all of a processor."""
    with subprocess.Popen([sys.executable, "-S", "-c", BUSY]) as process:
        yield SimpleNamespace(pid=process.pid)
        process.kill()


def used(pid: int) -> float:
    """Seconds of processor time."""
    return time.clock_gettime((~pid << 3) | 2)


def await_state(pid: int, *, stopped: bool) -> None:
    """Waits until the process stands still, or runs."""
    while (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T") is not stopped:
        time.sleep(0.001)


def test_a_busy_program_stands_still_when_its_share_is_used_up_and_runs_on_afterwards(busy: Any) -> None:
    with starved(busy, 50):
        for _ in range(3):
            await_state(busy.pid, stopped=True)
            await_state(busy.pid, stopped=False)
    await_state(busy.pid, stopped=False)
    before = used(busy.pid)
    while used(busy.pid) == before:
        time.sleep(0.001)
