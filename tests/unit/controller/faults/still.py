"""An event loop whose time stands still: it runs what can run and returns. Tests turn its clock, and nothing sleeps."""

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class _AtOnce(ThreadPoolExecutor):
    """Threads would make the order of things a matter of chance."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class _Selector(selectors.DefaultSelector):
    """Where the loop would wait, it ends its run."""

    idle: Callable[[], None]

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout > 0:
            self.idle()
        return super().select(0)


class StillLoop(asyncio.SelectorEventLoop):
    """Monotonic time is `seconds`, and only `forward` changes it."""

    def __init__(self) -> None:
        selector = _Selector()
        super().__init__(selector)
        selector.idle = self.stop
        self.seconds = 1000.0
        self.set_default_executor(_AtOnce(1))

    def time(self) -> float:
        """Monotonic time."""
        return self.seconds

    def run(self) -> None:
        """Runs until everything waits: for an answer, or for time."""
        self.run_forever()

    def forward(self, seconds: float) -> None:
        """Lets time pass, and runs what that wakes."""
        self.seconds += seconds
        self.run()
