"""A world for each test, and promise 3 after it."""

import logging
from collections.abc import Iterator

import pytest

from tests.unit.controller.world import World


@pytest.fixture(autouse=True)
def _nothing_is_told(caplog: pytest.LogCaptureFixture, world: World) -> Iterator[None]:
    """Promise 3, after every test here."""
    caplog.set_level(logging.DEBUG)
    yield
    if world.texts:
        world.assert_secret("".join(str(vars(record)) + record.getMessage() for record in caplog.get_records("call")))


@pytest.fixture
def world() -> World:
    return World()
