"""Namespaces where every pass hangs, however many, keep no healthy place waiting.

A model of the passes: each takes as long as its namespace lets it, then fails; those of `healthy` end at once.
"""

import pytest

from pullpass.controller.queue import BACKOFF, Key
from tests.unit.controller.queue.clocks import Clocks, ready

STEP = 0.5


class Model:
    """Works the queue through time."""

    def __init__(self, clocks: Clocks, hang: float, kind: str = "place") -> None:
        self.clocks = clocks
        self.queue = clocks.queue()
        self.hang = hang
        self.added: dict[Key, float] = {}
        self.waits: list[float] = []
        """How long keys of `healthy` waited for their pass."""
        self.blips = 0
        """So many passes of `healthy` fail from now on."""
        self._hanging: list[tuple[float, Key]] = []

    def rotate(self, tokens: int, bad: int) -> None:
        """The places of so many tokens have something to do."""
        for token in range(tokens):
            for namespace in range(bad):
                self.queue.add(Key("place", f"bad-{namespace}", f"uid-{token}"), urgent=True)
            self.add(Key("place", "healthy", f"uid-{token}"))

    def add(self, key: Key) -> None:
        self.added.setdefault(key, self.clocks.seconds)
        self.queue.add(key, urgent=True)

    async def run(self, seconds: float) -> None:
        for _ in range(int(seconds / STEP)):
            while (key := await ready(self.queue)) is not None:
                if key.namespace != "healthy":
                    self._hanging.append((self.clocks.seconds + self.hang, key))
                elif self.blips:
                    self.blips -= 1
                    self.queue.failed(key)
                else:
                    self.waits.append(self.clocks.seconds - self.added.pop(key))
                    self.queue.done(key)
            self.clocks.forward(STEP)
            for end, key in list(self._hanging):
                if end <= self.clocks.seconds:
                    self._hanging.remove((end, key))
                    self.queue.failed(key)


CASES = [(62, 10, 30), (62, 10, 10), (30, 10, 30), (62, 50, 30), (62, 1, 30), (9, 100, 30)]


@pytest.mark.parametrize(("bad", "tokens", "hang"), CASES)
async def test_many_that_begin_to_hang_at_once(clocks: Clocks, bad: int, tokens: int, hang: float) -> None:
    model = Model(clocks, hang)
    model.rotate(tokens, bad)
    await model.run(20)
    assert len(model.waits) == tokens
    assert max(model.waits) <= 5


@pytest.mark.parametrize(("bad", "tokens", "hang"), CASES)
async def test_many_that_go_on_hanging(clocks: Clocks, bad: int, tokens: int, hang: float) -> None:
    """Also a place that fails once for a reason of its own comes again soon."""
    model = Model(clocks, hang)
    for _ in range(12):
        model.blips = 1
        model.rotate(tokens, bad)
        await model.run(29)
    assert len(model.waits) == 12 * tokens
    assert max(model.waits) <= 5 + BACKOFF.first


async def test_new_tokens_in_many_that_hang(clocks: Clocks) -> None:
    model = Model(clocks, 30)
    for number in range(1, 60):
        model.rotate(number, 62)
        await model.run(5)
    assert max(model.waits) <= 5
    assert model.added == {}


async def test_a_hundred_more_than_there_are_turns(clocks: Clocks) -> None:
    """Where there are more of them than passes of a kind, each hangs once before it makes room."""
    model = Model(clocks, 30)
    model.rotate(5, 228)
    await model.run(70)
    assert len(model.waits) == 5
    model.rotate(5, 228)
    await model.run(20)
    assert len(model.waits) == 10
    assert max(model.waits[5:]) <= 5


async def test_where_it_works_again_its_places_come_within_the_longest_wait(clocks: Clocks) -> None:
    model = Model(clocks, 30)
    model.rotate(10, 62)
    await model.run(300)
    model.hang = 0
    ended: set[Key] = set()
    for _ in range(100):
        while (key := await ready(model.queue)) is not None:
            ended.add(key)
            model.queue.done(key)
            model.queue.recovered(key.namespace)
        await model.run(0)
        clocks.forward(STEP)
        for end, key in list(model._hanging):
            if end <= clocks.seconds:
                model._hanging.remove((end, key))
                model.queue.failed(key)
    assert len(ended) == 620
