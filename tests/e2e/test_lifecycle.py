"""Tokens and namespaces that go leave nothing, and hold nothing up."""

from collections.abc import Callable

from tests.e2e.tenant import Tenant
from tests.e2e.waiting import until, until_empty


def test_a_token_made_anew_is_another(tenant: Tenant, published: str) -> None:
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("reader")
    old = tenant.credentials("reader-pull")
    tenant.kubectl("delete", "registrytoken", "reader")
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.refused(old)
    tenant.ready("reader")
    new = tenant.credentials("reader-pull")
    assert new.username == old.username
    assert new.password != old.password
    tenant.accepted(new)
    assert not tenant.login(old).accepted
    tenant.pod("new", published)
    tenant.runs("new")
    until(lambda: len(tenant.records()) == 1, "one credential record")
    assert tenant.pull_secret_names() == ["reader-pull"]


def test_a_deleted_token_leaves_nothing(new_tenant: Callable[[], Tenant]) -> None:
    owner, guest = new_tenant(), new_tenant()
    accept = f"pullpass.dev/accept-pull-secrets-from={owner.namespace}"
    guest.kubectl("annotate", "namespace", guest.namespace, accept)
    shared = {"serviceAccounts": ["default"], "namespaces": [guest.namespace]}
    owner.scope_map("read", ["team/app"])
    owner.token("reader", "read", pullSecret=shared)
    owner.ready("reader")
    credentials = owner.credentials("reader-pull")
    owner.kubectl("delete", "registrytoken", "reader")
    owner.refused(credentials)
    assert_nothing_left(owner, guest)


def test_a_deleted_namespace_leaves_nothing(new_tenant: Callable[[], Tenant]) -> None:
    owner, guest = new_tenant(), new_tenant()
    accept = f"pullpass.dev/accept-pull-secrets-from={owner.namespace}"
    guest.kubectl("annotate", "namespace", guest.namespace, accept)
    shared = {"serviceAccounts": ["default"], "namespaces": [guest.namespace]}
    owner.scope_map("read", ["team/app"])
    owner.token("reader", "read", pullSecret=shared)
    owner.ready("reader")
    credentials = owner.credentials("reader-pull")
    owner.kubectl("delete", "namespace", owner.namespace, "--wait", "--timeout=60s")
    owner.refused(credentials)
    assert_nothing_left(guest)
    until(lambda: not owner.records(), "no credential record")


def test_consent_withdrawn(new_tenant: Callable[[], Tenant]) -> None:
    owner, guest = new_tenant(), new_tenant()
    accept = "pullpass.dev/accept-pull-secrets-from"
    guest.kubectl("annotate", "namespace", guest.namespace, f"{accept}={owner.namespace}")
    shared = {"serviceAccounts": ["default"], "namespaces": [guest.namespace]}
    owner.scope_map("read", ["team/app"])
    owner.token("reader", "read", pullSecret=shared)
    owner.ready("reader")
    guest.kubectl("annotate", "namespace", guest.namespace, f"{accept}-")
    until(lambda: not guest.find("secret", "reader-pull"), "the guest's pull secret is taken back")
    until(lambda: guest.pull_secret_names() == [], "the guest's ServiceAccount is as before")
    assert owner.find("secret", "reader-pull")


def assert_nothing_left(*tenants: Tenant) -> None:
    def left() -> list[str]:
        found = []
        for tenant in tenants:
            account = tenant.find("serviceaccount", "default")
            found += [f"{tenant.namespace}: {record}" for record in tenant.records()]
            found += [f"{tenant.namespace}: {name}" for name in tenant.pull_secret_names()]
            found += [f"{tenant.namespace}: Secret"] if tenant.find("secret", "reader-pull") else []
            found += [key for key in account["metadata"].get("annotations", {}) if "pullpass.dev" in key]
        return found

    until_empty(left, "what the token had made")
