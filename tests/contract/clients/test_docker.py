"""Docker in the matrix: what every client is tested for, with a real engine."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients.docker import CERTIFICATES, Docker
from tests.cluster.engine import Engine
from tests.contract.clients import test_credentials, test_matrix, test_tls
from tests.contract.clients.conftest import gateway
from tests.contract.clients.stage import ACTIONS, ALLOWED, VERSIONS, Stage

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("docker")]
versions = pytest.mark.parametrize("version", VERSIONS)


@pytest.mark.parametrize("rights", ACTIONS)
@pytest.mark.parametrize("operation", [operation for operation in ALLOWED if Docker.can(operation)])
@versions
def test_an_operation(stage: Stage, version: str, operation: str, rights: str) -> None:
    test_matrix.check(stage, operation, version, Docker.name, rights)


@versions
def test_a_wrong_password(stage: Stage, version: str) -> None:
    test_credentials.test_a_wrong_password(stage, version, Docker.name)


@versions
def test_no_login(stage: Stage, version: str) -> None:
    test_credentials.test_no_login(stage, version, Docker.name)


@pytest.fixture(scope="module")
def secure(docker: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[test_tls.Secure]:
    """At the address where containers find this machine: an engine asks loopback addresses for no certificate."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root, to write to {CERTIFICATES}")
    with ExitStack() as ending:
        yield test_tls.Secure(tmp_path_factory.mktemp("tls"), ending, gateway(docker))


@pytest.fixture
def certificates() -> Iterator[None]:
    """Nothing of the test stays among the CAs that the engine trusts."""

    def known() -> list[Path]:
        return sorted(CERTIFICATES.parent.rglob("*"))

    before = known()
    yield
    assert known() == before


@versions
def test_login_push_and_pull_over_tls(secure: test_tls.Secure, certificates: None, version: str) -> None:
    test_tls.test_login_push_and_pull(secure, version, Docker.name)


def test_who_does_not_trust_the_ca_sends_no_password(secure: test_tls.Secure, certificates: None) -> None:
    test_tls.test_who_does_not_trust_the_ca_sends_no_password(secure, Docker.name)
