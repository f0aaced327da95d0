"""One stage for the whole matrix, and the engine for the tests with Docker."""

import socket
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.clients.docker import Docker
from tests.cluster import engine
from tests.cluster.engine import Engine
from tests.contract.clients.stage import Stage, stage

_CONTAINERD = "io.containerd.snapshotter"


@pytest.fixture(scope="session", name="stage")
def _stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with stage(tmp_path_factory.mktemp("clients")) as made:
        yield made


def gateway(docker: Engine) -> str:
    """The address at which containers find the machine that the engine is on."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    return docker.docker("network", "inspect", "bridge", f"--format={form}").stdout.strip()


def _is_of_this_machine(address: str) -> bool:
    with closing(socket.socket()) as bound:
        try:
            bound.bind((address, 0))
        except OSError:
            return False
    return True


@pytest.fixture(scope="module", name="docker")
def _docker() -> Iterator[Engine]:
    """For no longer than a module, as other tests of the process look whether our own engine ends."""
    with engine.use() as found:
        if _CONTAINERD in found.docker("info", "--format={{.DriverStatus}}").stdout:
            # It also refuses in other words, and where nobody has logged in, Docker asks for a name and waits.
            pytest.skip("the images of this engine are in containerd's store, by whose code it pulls and pushes")
        if not _is_of_this_machine(gateway(found)):
            pytest.skip("this engine is in a network of its own, and finds no registry of this machine at localhost")
        Docker.engine = found
        yield found
