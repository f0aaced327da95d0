"""The operator's and the token servers' pods are killed in the middle of rotations, and nobody notices."""

import json
import threading
from collections.abc import Callable

from tests.cluster.install import NAMESPACE, Release
from tests.e2e.tenant import Tenant
from tests.e2e.waiting import until


class Customer:
    """Logs in all the time with whatever the pull secret says."""

    def __init__(self, tenant: Tenant, secret: str) -> None:
        self._tenant = tenant
        self._secret = secret
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._buy)
        self.passwords: list[str] = []
        self.uids: set[str] = set()
        self.refused: list[str] = []
        self.error: BaseException | None = None

    def __enter__(self) -> "Customer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join(timeout=60)

    def _buy(self) -> None:
        try:
            while not self._over.wait(0.05):
                published = self._tenant.credentials(self._secret)
                self.uids.add(published.uid)
                if published.id not in self.passwords:
                    self.passwords.append(published.id)
                if not self._tenant.login(published).accepted:
                    self.refused.append(published.id)
        except BaseException as error:
            self.error = error


def test_no_published_password_fails_while_pods_are_killed(tenant: Tenant, release: Release, published: str) -> None:
    tenant.scope_map("read", ["team/app"])
    rotation = {"lifetime": "60s", "renewBefore": "50s", "overlap": "10s"}
    tenant.token("busy", "read", passwords=rotation, pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("busy")
    with Customer(tenant, "busy-pull") as customer:
        for number, component in enumerate(("operator", "token-server", "operator", "token-server")):
            seen = len(customer.passwords)
            kill(release, component)
            until(
                lambda: len(customer.passwords) > seen or customer.error,  # noqa: B023
                f"a rotation after {component} was killed",
                timeout=90,
            )
            tenant.pod(f"pulls-{number}", published)
        tenant.runs(*(f"pulls-{number}" for number in range(4)))
    assert customer.error is None
    assert customer.refused == []
    assert len(customer.uids) == 1


def test_tokens_made_while_the_operator_is_killed_come_to_be(tenant: Tenant, release: Release) -> None:
    tenant.scope_map("read", ["team/app"])
    names = [f"token-{number}" for number in range(10)]
    for name in names[:5]:
        tenant.token(name, "read", pullSecret={"serviceAccounts": ["default"]})
    kill(release, "operator")
    for name in names[5:]:
        tenant.token(name, "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready(*names, timeout=90)
    for name in names:
        tenant.accepted(tenant.credentials(f"{name}-pull"))
    assert len(tenant.records()) == len(names)
    assert sorted(tenant.pull_secret_names()) == sorted(f"{name}-pull" for name in names)


def test_pulls_go_on_without_the_operator_and_without_the_api_server(
    tenant: Tenant, release: Release, without_operator: Callable[[], None], published: str
) -> None:
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read")
    tenant.ready("reader")
    credentials = tenant.credentials("reader-pull")
    without_operator()
    release.cluster.stop_api_server()
    try:
        answer = tenant.login(credentials, "repository:team/app:pull")
        assert answer.access == {"team/app": {"pull"}}
    finally:
        release.cluster.start_api_server()


def kill(release: Release, component: str) -> None:
    """Kill one pod of a component, as a failing node would: without a word."""
    kubectl = release.cluster.kubectl
    selector = f"app.kubernetes.io/component={component}"
    done = kubectl("get", "pods", "-n", NAMESPACE, "-l", selector, "-o", "json")
    running = [
        pod["metadata"]["name"]
        for pod in json.loads(done.stdout)["items"]
        if "deletionTimestamp" not in pod["metadata"]
    ]
    kubectl("delete", "pod", running[0], "-n", NAMESPACE, "--grace-period=0", "--force", "--wait=false")
