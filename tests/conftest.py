"""How the tests are shared out among processes: `make test` runs two side by side.

Modules stay whole, as their tests share fixtures. All that starts a cluster goes to one process, one after the other:
clusters want the machine's memory, and some tests end every cluster that there is.
"""

from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_CLUSTERS = {"chaos", "cluster", "e2e"}
"""Directories in which every module counts as one with a cluster."""


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        module = item.path.relative_to(_HERE)
        clustered = module.parts[0] in _CLUSTERS or item.get_closest_marker("controlplane") is not None
        item.add_marker(pytest.mark.xdist_group("clusters" if clustered else module.as_posix()))
