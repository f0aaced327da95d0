"""One cluster and one release for the whole run, and a namespace for each test."""

import re
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import cluster
from tests.clients.containers import Skopeo
from tests.clients.content import Content
from tests.cluster import images
from tests.cluster.install import NAMESPACE, OPERATOR, Release
from tests.e2e import second
from tests.e2e.exposure import Exposure
from tests.e2e.tenant import Tenant
from tests.e2e.waiting import until

NAME = "e2e"
NODES = 2
_LAST = ("test_tls", "test_rollover", "test_replicas", "test_release", "test_secrecy")
"""Modules that run last: four change or end the release of the others, one looks through what they all made known."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    def position(item: pytest.Item) -> int:
        return _LAST.index(item.path.stem) if item.path.stem in _LAST else -1

    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        item.add_marker(pytest.mark.node)
    others = [item for item in items if item not in ours]
    items[:] = [*others, *sorted(ours, key=position)]


@pytest.fixture(scope="session")
def release() -> Iterator[Release]:
    """The release on a cluster of the run's own; a cluster that was up before is used, and stays."""
    was_running = cluster.attach(NAME) is not None
    running = cluster.start(NAME, nodes=NODES)
    try:
        # Debug, as no level may show a secret; one minute, so that what is dead is dead all the way soon.
        values = {
            "logging": {"level": "debug"},
            "accessTokens": {"lifetimeSeconds": 60},
            "registries": [second.VALUES],
        }
        made = Release(running, values, tls=True)
        made.install()
        yield made
    finally:
        if not was_running:
            running.stop()


@pytest.fixture(scope="session", autouse=True)
def exposure(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Exposure]:
    """Everything that the run makes known, for the test of secrecy."""
    kept = Exposure(release.cluster, tmp_path_factory.mktemp("exposure"))
    kept.start()
    yield kept
    kept.stop()


@pytest.fixture(scope="session")
def publisher(release: Release, exposure: Exposure) -> Iterator[Tenant]:
    """Who may push everywhere: the tenant `publisher` with the token `publisher`."""
    tenant = Tenant(release, f"publisher-{secrets.token_hex(2)}")
    tenant.create()
    actions = ["content/read", "content/write", "content/delete"]
    tenant.scope_map("all", ["*"], actions)
    tenant.token("publisher", "all")
    tenant.ready("publisher")
    yield tenant
    exposure.keep(tenant.namespace)
    tenant.delete()


@pytest.fixture(scope="session")
def publish(release: Release, publisher: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., None]:
    """Push images to the release's registry: `publish("team/app:1", …)`."""
    directory = tmp_path_factory.mktemp("publisher")
    hello = Content.of_archive(images.hello("1"), directory / "hello")

    def push(*wanted: str) -> None:
        skopeo = Skopeo(release.registry, publisher.credentials("publisher-pull"), directory, release.trust)
        skopeo.login()
        for image in wanted:
            skopeo.push(hello, image)

    return push


@pytest.fixture(scope="session")
def published(publish: Callable[..., None]) -> str:
    """An image that is in the registry, as `repository:tag`."""
    publish("team/app:1", "other/app:1")
    return "team/app:1"


@pytest.fixture
def new_tenant(release: Release, exposure: Exposure, request: pytest.FixtureRequest) -> Iterator[Callable[[], Tenant]]:
    """Make namespaces for this test; they are deleted after it, nobody waits for that."""
    made: list[Tenant] = []

    def make() -> Tenant:
        words = re.sub(r"[^a-z0-9]+", "-", request.node.name.removeprefix("test_").lower())
        tenant = Tenant(release, f"{words[:24].strip('-')}-{secrets.token_hex(2)}")
        tenant.create()
        made.append(tenant)
        return tenant

    yield make
    for tenant in made:
        exposure.keep(tenant.namespace)
        tenant.delete()


@pytest.fixture
def tenant(new_tenant: Callable[[], Tenant]) -> Tenant:
    """A namespace of the test's own."""
    return new_tenant()


@pytest.fixture
def without_operator(release: Release) -> Iterator[Callable[[], None]]:
    """Call it to scale the operator to nothing; it comes back after the test."""

    def scale(replicas: int) -> None:
        kubectl = release.cluster.kubectl
        kubectl("scale", "deployment", OPERATOR, "-n", NAMESPACE, f"--replicas={replicas}")
        selector = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=operator", "-o", "name")
        if replicas:
            kubectl("rollout", "status", "deployment", OPERATOR, "-n", NAMESPACE, "--timeout=120s")
        else:
            until(lambda: not kubectl("get", "pods", *selector).stdout, "the operator is gone")

    yield lambda: scale(0)
    scale(1)
