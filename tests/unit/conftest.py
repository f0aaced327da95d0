"""What tests of a whole command need."""

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture
def logging_of_its_own(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The logging module without handlers, and as it was before when the test is over."""
    root, asyncios = logging.getLogger(), logging.getLogger("asyncio")
    handlers, level, filters = root.handlers[:], root.level, asyncios.filters[:]
    for name in ("logThreads", "logProcesses", "logMultiprocessing", "raiseExceptions"):
        monkeypatch.setattr(logging, name, getattr(logging, name))
    root.handlers = []  # or configure() would close those of pytest
    yield
    root.handlers, asyncios.filters = handlers, filters
    root.setLevel(level)
