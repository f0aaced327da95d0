"""What kills a credential kills it with the operator and without it; what gives it back does too."""

from collections.abc import Callable

import pytest

from tests.e2e.tenant import Tenant
from tests.e2e.tokens import Credentials
from tests.e2e.waiting import until

SCOPE = "repository:team/app:pull,push"


def granted(tenant: Tenant, credentials: Credentials, *actions: str) -> None:
    """Wait until exactly these actions are granted."""

    def same() -> bool:
        return tenant.login(credentials, SCOPE).access.get("team/app", frozenset()) == set(actions)

    until(same, f"{actions} on team/app", timeout=10)


@pytest.fixture(params=["with-operator", "without-operator"])
def credentials(
    request: pytest.FixtureRequest, tenant: Tenant, without_operator: Callable[[], None], published: str
) -> Credentials:
    """The login of the token `reader`, whose pods may pull."""
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("reader")
    found = tenant.credentials("reader-pull")
    granted(tenant, found, "pull")
    if request.param == "without-operator":
        without_operator()
    return found


def test_tokens_and_maps_changed_in_every_way(tenant: Tenant, credentials: Credentials, published: str) -> None:
    tenant.patch("registrytoken", "reader", enabled=False)
    tenant.refused(credentials)
    tenant.pod("disabled", published)
    assert tenant.pull_failure("disabled")
    tenant.patch("registrytoken", "reader", enabled=True)
    tenant.accepted(credentials)

    tenant.scope_map("read", ["team/app"], ["content/read", "content/write"])
    granted(tenant, credentials, "pull", "push")
    tenant.scope_map("read", ["other/app"])
    granted(tenant, credentials)
    tenant.kubectl("delete", "scopemap", tenant.map_name("read"))
    until(lambda: not tenant.login(credentials, SCOPE).access.get("team/app"), "nothing without a map")
    tenant.scope_map("read", ["team/app"])
    granted(tenant, credentials, "pull")

    tenant.scope_map("read", ["team/app"], allowed={"from": "Names", "names": ["nobody"]})
    until(lambda: not tenant.login(credentials, SCOPE).access.get("team/app"), "nothing for others")
    tenant.scope_map("read", ["team/app"])
    granted(tenant, credentials, "pull")
    tenant.pod("enabled", published)
    tenant.runs("enabled")

    tenant.kubectl("delete", "registrytoken", "reader")
    tenant.refused(credentials)
