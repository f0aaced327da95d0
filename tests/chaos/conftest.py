"""One stage for all tests of this directory: a start takes longer than most of them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.chaos.stage import Stage


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def stage() -> AsyncIterator[Stage]:
    """Two operators, three token servers and some tokens that have settled."""
    async with Stage.open("chaos-tests") as opened:
        yield opened


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> object:
    """Tells figures to whoever watches; no test depends on them."""

    def tell(text: str) -> None:
        with capsys.disabled():
            print(f"\n  {text}", flush=True)

    return tell
