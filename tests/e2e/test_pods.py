"""Pods pull with the pull secret of their ServiceAccount, which nobody copied; others do not."""

from collections.abc import Callable

from tests.e2e.tenant import Tenant


def test_only_the_token_s_pods_pull_only_what_its_map_grants(new_tenant: Callable[[], Tenant], published: str) -> None:
    web, stranger = new_tenant(), new_tenant()
    web.scope_map("read", ["team/app"])
    web.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    web.ready("reader")
    web.pod("right", published)
    web.pod("outside-the-map", "other/app:1")
    stranger.pod("no-secret", published)

    web.runs("right")
    assert "insufficient_scope" in web.pull_failure("outside-the-map")
    assert "401" in stranger.pull_failure("no-secret")
    assert web.kubectl("logs", "right").stdout == "hello 1\n"


def test_a_pod_made_before_the_token_heals(tenant: Tenant, published: str) -> None:
    tenant.apply(
        {
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": {"name": "early", "namespace": tenant.namespace},
            "imagePullSecrets": [{"name": "reader-pull"}],
        }
    )
    tenant.pod("early", published, service_account="early")
    assert "401" in tenant.pull_failure("early")
    tenant.scope_map("read", ["team/*"])
    tenant.token("reader", "read")
    tenant.ready("reader")
    tenant.runs("early", timeout=90)


def test_every_service_account_of_the_namespace(tenant: Tenant, published: str) -> None:
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read", pullSecret={"name": "chosen", "serviceAccounts": ["*"]})
    tenant.ready("reader")
    tenant.kubectl("create", "serviceaccount", "later")
    tenant.kubectl("wait", "--for=jsonpath={.imagePullSecrets[0].name}=chosen", "serviceaccount/later", "--timeout=30s")
    tenant.pod("later", published, service_account="later")
    tenant.runs("later")


def test_a_namespace_that_consents_gets_the_pull_secret(new_tenant: Callable[[], Tenant], published: str) -> None:
    owner, guest = new_tenant(), new_tenant()
    guest.kubectl("annotate", "namespace", guest.namespace, f"pullpass.dev/accept-pull-secrets-from={owner.namespace}")
    owner.scope_map("read", ["team/app"])
    shared = {"serviceAccounts": ["default"], "namespaces": [guest.namespace]}
    owner.token("reader", "read", pullSecret=shared)
    owner.ready("reader")
    guest.pod("guest", published)
    guest.runs("guest")
    assert guest.credentials("reader-pull").username == f"{owner.namespace}.reader"
