"""One token server for each test, on the event loop that the process has."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest_asyncio
import uvloop

from tests.contract.wearing.served import Served


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture
async def served() -> AsyncIterator[Served]:
    async with Served.serving() as made:
        yield made
