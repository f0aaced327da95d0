"""A clock for each test."""

import pytest

from tests.unit.controller.queue.clocks import Clocks


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()
