"""Starves a process of the processor, as a CPU limit of Kubernetes does: in each tenth of a second it may run for some
milliseconds, and stands still once these are used up.

It is stopped and continued by signals from a process beside it that watches its processor time. That needs no rights
and works on any machine, while few tests may write the quota of a control group (`cpu.cfs_quota_us`, `cpu.max`).
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.chaos.programs import Program

PERIOD_SECONDS = 0.1


@contextmanager
def starved(program: Program, millicores: int) -> Iterator[None]:
    """The program has so many thousandths of a processor while the context lasts."""
    command = [sys.executable, "-m", "tests.chaos.starving", str(program.pid), str(millicores)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as starver:
        try:
            yield
        finally:
            assert starver.stdin is not None
            # It ends with its input, also where we are killed, and lets the program run on.
            starver.stdin.close()
            starver.wait()


def main() -> int:
    """Starves the process of the pid that is the first argument, until the standard input ends or the process does."""
    pid, share = int(sys.argv[1]), int(sys.argv[2]) / 1000
    os.set_blocking(0, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # The kernel's name for the processor time of a process, all of its threads (clock_getcpuclockid).
    clock = (~pid << 3) | 2
    try:
        used = time.clock_gettime(clock)
        while _goes_on():
            end = time.monotonic() + PERIOD_SECONDS
            used += share * PERIOD_SECONDS  # what was used too much is missing in the next period
            os.kill(pid, signal.SIGCONT)
            while time.monotonic() < end and time.clock_gettime(clock) < used:
                time.sleep(0.001)
            if time.clock_gettime(clock) >= used:
                os.kill(pid, signal.SIGSTOP)
            else:
                used = time.clock_gettime(clock)  # nothing is saved up
            time.sleep(max(end - time.monotonic(), 0))
        os.kill(pid, signal.SIGCONT)
    except OSError:
        return 0  # it has ended
    return 0


def _goes_on() -> bool:
    try:
        return os.read(0, 1) != b""
    except BlockingIOError:
        return True


if __name__ == "__main__":
    sys.exit(main())
