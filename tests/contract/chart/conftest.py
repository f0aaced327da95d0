"""Both versions of Helm."""

import pytest

from tests.cluster import toolchain
from tests.contract.chart.rendering import Helm


@pytest.fixture(scope="session", params=["helm", "helm3"])
def helm(request: pytest.FixtureRequest) -> Helm:
    """Each version of Helm."""
    return Helm(toolchain.tool(request.param))
