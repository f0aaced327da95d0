"""A work queue under clocks that tests turn."""

import asyncio
from datetime import UTC, datetime, timedelta

from pullpass.controller.queue import Key, WorkQueue

START = datetime(2027, 3, 1, 12, tzinfo=UTC)
A, B, C = (Key("token", "web", name) for name in "abc")


class Clocks:
    """A wall clock and a monotonic one."""

    def __init__(self) -> None:
        self.wall = START
        self.seconds = 1000.0
        self.jitter = 1.0

    def queue(self) -> WorkQueue:
        return WorkQueue(now=lambda: self.wall, monotonic=lambda: self.seconds, jitter=lambda: self.jitter)

    def forward(self, seconds: float) -> None:
        self.wall += timedelta(seconds=seconds)
        self.seconds += seconds


async def ready(queue: WorkQueue) -> Key | None:
    """The next key, or None where a worker would have to wait."""
    getting = asyncio.create_task(queue.get())
    for _ in range(3):
        await asyncio.sleep(0)
    if getting.done():
        return getting.result()
    getting.cancel()
    await asyncio.gather(getting, return_exceptions=True)
    return None


def key(namespace: str, name: str) -> Key:
    return Key("token", namespace, name)


async def drained(queue: WorkQueue) -> list[Key]:
    """All keys in the order in which a worker gets them."""
    order: list[Key] = []
    while (found := await ready(queue)) is not None:
        order.append(found)
        queue.done(found)
    return order
