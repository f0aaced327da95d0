"""The figures of benchmarks: printed as one JSON object a line, with the goal beside what was measured."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One measured value. `goal` and `at` say what is to be reached, where there is a goal."""

    bench: str
    value: float
    unit: str
    goal: float | None = None
    at: Literal["least", "most"] = "least"

    @property
    def ok(self) -> bool:
        """Whether the goal is reached; true where there is none."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.at == "least" else self.value <= self.goal

    def show(self) -> None:
        """Prints the figure."""
        line = {
            "bench": self.bench,
            "value": round(self.value, 3),
            "unit": self.unit,
            "goal": self.goal,
            "ok": self.ok,
        }
        print(json.dumps(line), flush=True)


def run(figures: AsyncGenerator[Figure, None]) -> Iterator[Figure]:
    """Runs a benchmark that is a coroutine in an event loop of its own, and yields each figure once it is measured."""
    with asyncio.Runner() as runner:

        async def step() -> Figure | None:
            return await anext(figures, None)

        try:
            while (figure := runner.run(step())) is not None:
                yield figure
        finally:
            runner.run(figures.aclose())
