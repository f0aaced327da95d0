"""The release is uninstalled and installed again: nothing hangs, nothing is left over, tokens go on."""

import json
from collections.abc import Callable

from tests.cluster.install import CREDENTIALS_NAMESPACE, NAMESPACE, Release
from tests.e2e.tenant import Tenant
from tests.e2e.waiting import until

KEPT = {
    # By the chart: what tokens are, and live by.
    "namespace/pullpass-system-credentials",
    "customresourcedefinition.apiextensions.k8s.io/registrytokens.pullpass.dev",
    "customresourcedefinition.apiextensions.k8s.io/scopemaps.pullpass.dev",
}
KEPT_SECRETS = {
    # By the operator: passwords go on, and registries and clients need no change.
    "pullpass-ca",
    "pullpass-ca-second",
    "pullpass-seed",
    "pullpass-server-ca",
    "pullpass-token-server-tls",
    "pullpass-registry-tls",
}


def test_uninstalled_and_installed_again(
    new_tenant: Callable[[], Tenant], release: Release, publish: Callable[..., None]
) -> None:
    stays, token_goes, namespace_goes = new_tenant(), new_tenant(), new_tenant()
    for tenant in (stays, token_goes, namespace_goes):
        tenant.scope_map("read", ["team/app"])
        tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
        tenant.ready("reader")
    before = stays.find("secret", "reader-pull")
    credentials = stays.credentials("reader-pull")
    dead = token_goes.credentials("reader-pull")

    release.uninstall()
    assert set(left_over(release)) == KEPT
    # Nobody is there to do anything about it, and nothing waits for anybody.
    token_goes.kubectl("delete", "registrytoken", "reader", "--wait", "--timeout=20s")
    namespace_goes.kubectl("delete", "namespace", namespace_goes.namespace, "--wait", "--timeout=60s")
    release.install()

    stays.accepted(credentials)
    token_goes.refused(dead)
    until(lambda: not token_goes.records() and not namespace_goes.records(), "no records of the dead")
    until(lambda: not token_goes.pull_secret_names(), "no entry of the dead")
    until(lambda: not token_goes.find("secret", "reader-pull"), "no pull secret of the dead")
    stays.ready("reader")
    assert stays.find("secret", "reader-pull") == before
    # The images went with the registry's pod; the publisher's token goes on like any other.
    publish("team/app:1")
    stays.pod("again", "team/app:1")
    stays.runs("again")


def left_over(release: Release) -> list[str]:
    """Objects of the release that are still there, wherever."""
    kubectl = release.cluster.kubectl
    found: list[str] = []
    selector = ("-l", "app.kubernetes.io/instance=pullpass", "-o", "name", "--ignore-not-found")
    for namespaced in ("true", "false"):
        listing = kubectl("api-resources", "--verbs=list,delete", f"--namespaced={namespaced}", "-o", "name")
        kinds = [kind for kind in listing.stdout.split() if not kind.startswith("events")]
        where = ("--all-namespaces",) if namespaced == "true" else ()
        found += kubectl("get", ",".join(kinds), *where, *selector).stdout.split()
    secrets = json.loads(kubectl("get", "secrets", "-n", NAMESPACE, "-o", "json").stdout)["items"]
    names = {secret["metadata"]["name"] for secret in secrets}
    assert names == KEPT_SECRETS, f"in {NAMESPACE}: {names}"
    assert kubectl("get", "secrets", "-n", CREDENTIALS_NAMESPACE, "-o", "name").stdout
    return [name for name in found if not name.startswith("endpointslice")]
