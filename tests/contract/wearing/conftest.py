"""One token server for each test, on the event loop that the process has, over HTTP and over HTTPS."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import pytest_asyncio
import uvloop

from tests.certificates import Mount
from tests.contract.wearing.served import Served


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"uvloop": uvloop.new_event_loop}


@pytest_asyncio.fixture(params=["http", "https"])
async def served(request: pytest.FixtureRequest, mount: Mount) -> AsyncIterator[Served]:
    async with Served.serving(mount=mount if request.param == "https" else None) as made:
        yield made


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    """Where the server's certificate is mounted."""
    return Mount(tmp_path)
