"""One token server for each test."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.contract.protocol.client import Client


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    made = Client()
    await made.start()
    yield made
    await made.stop()
