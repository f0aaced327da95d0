"""The chart, two operators and two token servers on each version of Kubernetes that we test on."""

from collections.abc import AsyncIterator
from typing import get_args

import pytest
import pytest_asyncio

from tests.chaos.stage import Stage
from tests.cluster.toolchain import Kubernetes


@pytest_asyncio.fixture(scope="package", loop_scope="package", params=get_args(Kubernetes))
async def stage(request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """Nothing fails on this stage, and some of its tokens have settled."""
    async with Stage.open("contract-versions", servers=2, tokens=4, kubernetes=request.param) as opened:
        yield opened
