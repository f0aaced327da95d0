"""Show what a long step does and for how long: a line that updates on a terminal, plain lines in a log."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO


@contextmanager
def step(what: str, out: TextIO | None = None) -> Iterator[None]:
    """Say that `what` is being done, with the seconds it has taken so far, until the block ends."""
    out = out or sys.stderr
    terminal = out.isatty()
    begin = time.monotonic()
    over = threading.Event()

    def tick() -> None:
        # A log gets a sign of life every half minute, a terminal one every second.
        while not over.wait(1 if terminal else 30):
            seconds = int(time.monotonic() - begin)
            out.write(f"\r\033[K{what} … {seconds} s" if terminal else f"{what} … {seconds} s\n")
            out.flush()

    out.write(f"\r\033[K{what} …" if terminal else f"{what} …\n")
    out.flush()
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    outcome = "failed after"
    try:
        yield
        outcome = "done in"
    finally:
        over.set()
        ticker.join()
        seconds = time.monotonic() - begin
        clear = "\r\033[K" if terminal else ""
        out.write(f"{clear}{what}: {outcome} {seconds:.1f} s\n")
        out.flush()
