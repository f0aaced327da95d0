"""A second registry behind the same token server: its own tokens, and nobody else's."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.containers import Skopeo
from tests.clients.content import Content
from tests.cluster import images
from tests.cluster.install import NAMESPACE, Release
from tests.e2e import second
from tests.e2e.tenant import Tenant, condition
from tests.e2e.tokens import pull_status
from tests.e2e.waiting import until

IMAGE = "team/app:1"
PULL = "repository:team/app:pull"


@pytest.fixture(scope="module")
def address(release: Release, publisher: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where programs of this machine reach the second registry, which has an image in it."""
    with second.running(release) as address:
        publisher.scope_map("second", ["*"], ["content/read", "content/write"], registry=second.NAME)
        publisher.token("second", "second")
        publisher.ready("second")
        directory = tmp_path_factory.mktemp("second")
        skopeo = Skopeo(address, publisher.credentials("second-pull", second.HOST), directory)
        skopeo.login()
        skopeo.push(Content.of_archive(images.hello("1"), directory / "hello"), IMAGE)
        yield address


def test_pods_pull_from_it_with_a_pull_secret_for_its_hosts(
    new_tenant: Callable[[], Tenant], address: str, published: str
) -> None:
    web, api = new_tenant(), new_tenant()
    default = {"pullSecret": {"serviceAccounts": ["default"]}}
    web.scope_map("read", ["team/app"], registry=second.NAME)
    web.token("reader", "read", **default)
    api.scope_map("read", ["team/app"])
    api.token("reader", "read", **default)
    web.ready("reader")
    api.ready("reader")
    web.pod("right", IMAGE, host=second.HOST)
    web.pod("wrong", published)
    api.pod("right", published)
    api.pod("wrong", IMAGE, host=second.HOST)
    web.runs("right")
    api.runs("right")
    assert "401" in web.pull_failure("wrong")
    assert "401" in api.pull_failure("wrong")


def test_an_access_token_for_one_opens_nothing_at_the_other(
    new_tenant: Callable[[], Tenant], release: Release, address: str, published: str
) -> None:
    here, there = new_tenant(), new_tenant()
    here.scope_map("read", ["team/app"])
    here.token("reader", "read")
    there.scope_map("read", ["team/app"], registry=second.NAME)
    there.token("reader", "read")
    here.ready("reader")
    there.ready("reader")
    own = here.credentials("reader-pull")
    others = there.credentials("reader-pull", second.HOST)

    mine = here.login(own, PULL)
    theirs = there.login(others, PULL, service=second.SERVICE)
    assert pull_status(release, published, mine.token) == 200
    assert pull_status(release, IMAGE, theirs.token, at=f"http://{address}") == 200
    assert pull_status(release, IMAGE, mine.token, at=f"http://{address}") == 401
    assert pull_status(release, published, theirs.token) == 401

    assert here.login(own, PULL, service=second.SERVICE).status == 401
    assert there.login(others, PULL).status == 401
    assert there.login(others, PULL, service="third").status == 400


def test_each_registry_has_a_trust_bundle_of_its_own(release: Release) -> None:
    get = ("get", "configmap", "-n", NAMESPACE, "-o", "json")
    found = json.loads(release.cluster.kubectl(*get, "pullpass-trust", second.TRUST).stdout)["items"]
    bundles = {item["data"]["ca.crt"] for item in found}
    assert len(bundles) == len(found) == 2


def test_a_registry_that_is_not_known_keeps_the_last_pull_secret(tenant: Tenant) -> None:
    tenant.scope_map("read", ["team/app"])
    tenant.scope_map("nowhere", ["team/app"], registry="nowhere")
    tenant.token("reader", "read")
    tenant.ready("reader")
    before = tenant.find("secret", "reader-pull")
    tenant.token("reader", "nowhere")
    until(lambda: tenant.reasons("reader").get("Ready") == "RegistryNotFound", "RegistryNotFound")
    told = condition(tenant.find("registrytoken", "reader"), "ScopeMapResolved")
    assert "is for registry nowhere, and pullpass has the registries default, second" in told["message"]
    tenant.refused(tenant.credentials("reader-pull"))
    assert tenant.find("secret", "reader-pull") == before
    tenant.token("reader", "read")
    tenant.ready("reader")
    assert tenant.find("secret", "reader-pull") == before


def test_a_pull_secret_follows_to_another_registry_in_place(tenant: Tenant, address: str, tmp_path: Path) -> None:
    tenant.scope_map("read", ["team/app"])
    tenant.scope_map("second", ["team/app"], registry=second.NAME)
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("reader")
    before = tenant.credentials("reader-pull")
    tenant.token("reader", "second", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("reader")
    after = tenant.credentials("reader-pull", second.HOST)
    assert (after.uid, after.password) == (before.uid, before.password)
    tenant.pod("second", IMAGE, host=second.HOST)
    tenant.runs("second")
