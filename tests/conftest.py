"""How the tests are shared out among processes: `make test` runs two side by side.

Modules stay whole, as their tests share fixtures. All that starts a cluster goes to one process, one after the other:
clusters want the machine's memory, and some tests end every cluster that there is.
"""

import platform

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.cluster import nodeimage, pythons, toolchain

CLUSTERS = (
    "tests/chaos/",
    "tests/cluster/",
    "tests/e2e/",
    "tests/contract/clients/test_docker",  # with the engine, which tests of clusters end
    "tests/contract/kubernetes_versions/",
    "tests/contract/test_crds.py",
)
"""Modules of which each counts as one with a cluster."""


class Scheduling(LoadScopeScheduling):
    """Gives a process whole modules, and one of them everything with a cluster."""

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return "clusters" if module.startswith(CLUSTERS) else module


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)


def pytest_report_header() -> list[str]:
    """Says which versions of Kubernetes and Python the tests run on."""
    newest, oldest = toolchain.kubernetes_version(), toolchain.kubernetes_version("oldest")
    others = ", ".join(pythons.others())
    nodes = nodeimage.named_image() or f"kind's own image, or {newest} where that cannot be pulled"
    return [
        f"kubernetes: {newest}; without nodes also {oldest}; nodes of {nodes}",
        f"python: {platform.python_version()}; what is quick also on {others}",
    ]
