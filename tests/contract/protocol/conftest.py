"""One token server for each test."""

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.contract.protocol.client import Client


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    made = Client()
    await made.start()
    async with made.session:
        yield made
    await made.runner.cleanup()
