"""An intruder for each test, a victim for each module, and a look after each test at what is the victim's."""

import secrets
from collections.abc import Iterator

import pytest

from tests.cluster.install import Release
from tests.e2e.exposure import Exposure
from tests.e2e.tenant import Tenant
from tests.e2e.tenants.intruder import ACCEPT, SCOPE, Intruder, belongings


@pytest.fixture
def intruder(release: Release, exposure: Exposure) -> Iterator[Intruder]:
    made = Intruder(release, f"intruder-{secrets.token_hex(3)}")
    made.create()
    made.platform_map("own")
    yield made
    exposure.keep(made.namespace)
    made.delete()


@pytest.fixture(scope="module")
def victim(release: Release, exposure: Exposure, published: str) -> Iterator[Tenant]:
    """Another tenant, with a token that pulls in two namespaces; the second consents to it."""
    made = Tenant(release, f"victim-{secrets.token_hex(2)}")
    guest = Tenant(release, f"{made.namespace}-guest")
    for tenant in (made, guest):
        tenant.create()
    guest.kubectl("annotate", "namespace", guest.namespace, f"{ACCEPT}={made.namespace}")
    made.scope_map("read", ["team/app"])
    everywhere = {"serviceAccounts": ["default"], "namespaces": [guest.namespace]}
    made.token("reader", "read", pullSecret=everywhere)
    made.ready("reader")
    yield made
    for tenant in (made, guest):
        exposure.keep(tenant.namespace)
        tenant.delete()


@pytest.fixture(autouse=True)
def _unharmed(victim: Tenant) -> Iterator[None]:
    """After each test all that is the victim's and the platform's is the same, to the last version."""
    before = belongings(victim)
    assert before
    yield
    assert belongings(victim) == before
    credentials = victim.credentials("reader-pull")
    assert victim.login(credentials, SCOPE).access == {"team/app": {"pull"}}
