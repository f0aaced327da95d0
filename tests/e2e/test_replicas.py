"""Several replicas on several nodes: they are replaced, drained and killed, and no customer is turned away."""

import io
import json
import secrets
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster import toolchain
from tests.cluster.install import NAMESPACE, OPERATOR, TOKEN_SERVER, Release
from tests.e2e.customers import Crowd, shopping
from tests.e2e.exposure import Exposure
from tests.e2e.tenant import Tenant
from tests.e2e.tokens import Credentials
from tests.e2e.waiting import until

REPLICAS = {OPERATOR: 2, TOKEN_SERVER: 3}
LEASE = "pullpass-operator"


@pytest.fixture(scope="module")
def many(release: Release) -> Iterator[Release]:
    """The release with more replicas, for this module."""
    values = {
        **release.values,
        "operator": {"replicas": REPLICAS[OPERATOR]},
        "tokenServer": {"replicas": REPLICAS[TOKEN_SERVER]},
    }
    more = Release(release.cluster, values, tls=release.tls)
    more.install()
    await_settled(more, *REPLICAS)
    yield more
    release.install()


@pytest.fixture(scope="module")
def shop(many: Release, exposure: Exposure) -> Iterator[Tenant]:
    """A namespace with the token `steady`, whose password stays, and `rotating`, which has a new one every 10 s."""
    tenant = Tenant(many, f"replicas-{secrets.token_hex(2)}")
    tenant.create()
    tenant.scope_map("read", ["team/app"])
    tenant.token("steady", "read")
    tenant.token("rotating", "read", passwords={"lifetime": "60s", "renewBefore": "50s", "overlap": "10s"})
    tenant.ready("steady", "rotating")
    yield tenant
    exposure.keep(tenant.namespace)
    tenant.delete()


@pytest.fixture
def steady(shop: Tenant) -> Credentials:
    return shop.credentials("steady-pull")


def pods(release: Release, deployment: str) -> list[dict[str, Any]]:
    """The pods of a Deployment, those that are ending included."""
    component = deployment.removeprefix("pullpass-")
    selector = f"app.kubernetes.io/component={component}"
    return list(
        json.loads(release.cluster.kubectl("get", "pods", "-n", NAMESPACE, "-l", selector, "-o", "json").stdout)[
            "items"
        ]
    )


def is_ready(pod: dict[str, Any]) -> bool:
    conditions = {one["type"]: one["status"] for one in pod["status"].get("conditions", [])}
    return conditions.get("Ready") == "True" and "deletionTimestamp" not in pod["metadata"]


def settled(release: Release, deployment: str) -> bool:
    """Whether a Deployment has as many pods as it is to have, all ready, and no other any more."""
    found = pods(release, deployment)
    return len(found) == REPLICAS[deployment] and all(is_ready(pod) for pod in found)


def await_settled(release: Release, *deployments: str) -> None:
    for deployment in deployments:
        until(lambda: settled(release, deployment), f"{deployment} is whole", timeout=180)  # noqa: B023


def restart(release: Release, deployment: str) -> None:
    """Have every pod of a Deployment replaced, without waiting for it."""
    release.cluster.kubectl("rollout", "restart", f"deployment/{deployment}", "-n", NAMESPACE)


def rolled_out(release: Release, deployment: str) -> bool:
    watch = ("rollout", "status", f"deployment/{deployment}", "-n", NAMESPACE, "--watch=false")
    return "successfully rolled out" in release.cluster.kubectl(*watch).stdout


@pytest.mark.parametrize("deployment", REPLICAS)
def test_pods_are_spread_over_the_nodes(many: Release, deployment: str) -> None:
    nodes = {pod["spec"]["nodeName"] for pod in pods(many, deployment) if is_ready(pod)}
    assert nodes == set(many.cluster.nodes)


@pytest.mark.parametrize("deployment", REPLICAS)
def test_an_eviction_beyond_the_budget_is_refused(many: Release, deployment: str) -> None:
    kubectl = many.cluster.kubectl
    first, second, *_ = [pod["metadata"]["name"] for pod in pods(many, deployment)]
    # Nothing can take the evicted one's place before the other is asked for.
    kubectl("cordon", *many.cluster.nodes)
    try:
        assert evict(many, first).returncode == 0
        refused = evict(many, second)
    finally:
        kubectl("uncordon", *many.cluster.nodes)
    assert refused.returncode != 0
    assert "violate the pod's disruption budget" in refused.stderr
    await_settled(many, deployment)


def evict(release: Release, pod: str) -> "subprocess.CompletedProcess[str]":
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": NAMESPACE}}
    path = f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}/eviction"
    return release.cluster.kubectl("create", "--raw", path, "-f", "-", input=json.dumps(eviction), check=False)


def test_token_servers_are_replaced_and_no_login_fails(many: Release, steady: Credentials) -> None:
    with shopping(many, lambda: steady) as crowd:
        restart(many, TOKEN_SERVER)
        until(lambda: rolled_out(many, TOKEN_SERVER), "the rollout is complete", timeout=180)
        await_settled(many, TOKEN_SERVER)
    assert crowd.refused == []
    assert crowd.broken == []


def test_a_new_token_comes_to_be_while_token_servers_are_replaced(many: Release, shop: Tenant) -> None:
    before = {pod["metadata"]["uid"] for pod in pods(many, TOKEN_SERVER)}
    restart(many, TOKEN_SERVER)
    made = 0
    while not rolled_out(many, TOKEN_SERVER) or not made:
        name = f"new-{made}"
        shop.token(name, "read")
        # What is published works at once, whoever answers.
        published = until(lambda: shop.find("secret", f"{name}-pull"), f"a pull secret of {name}")  # noqa: B023
        assert published
        assert shop.login(shop.credentials(f"{name}-pull")).accepted
        made += 1
    shop.ready(*(f"new-{number}" for number in range(made)))
    await_settled(many, TOKEN_SERVER)
    assert not before & {pod["metadata"]["uid"] for pod in pods(many, TOKEN_SERVER)}


def test_a_node_is_drained_and_no_login_fails(many: Release, steady: Credentials) -> None:
    kubectl, node = many.cluster.kubectl, many.cluster.nodes[-1]
    assert any(pod["spec"]["nodeName"] == node for pod in pods(many, TOKEN_SERVER))
    with shopping(many, lambda: steady) as crowd:
        try:
            # By force also what no controller has made: the pods of other tests.
            flags = ("--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=240s")
            kubectl("drain", node, *flags, timeout=300)
            crowd.go_on()
            await_settled(many, *REPLICAS)
            left = [
                pod["metadata"]["name"]
                for name in REPLICAS
                for pod in pods(many, name)
                if pod["spec"]["nodeName"] == node
            ]
        finally:
            kubectl("uncordon", node)
    assert left == []
    assert crowd.refused == []
    assert crowd.broken == []


def test_a_token_server_is_killed_and_no_login_is_refused(many: Release, steady: Credentials) -> None:
    victim = pods(many, TOKEN_SERVER)[0]
    with shopping(many, lambda: steady) as crowd:
        kill(many, victim)

        def again() -> bool:
            now = next(pod for pod in pods(many, TOKEN_SERVER) if pod["metadata"]["uid"] == victim["metadata"]["uid"])
            return is_ready(now) and now["status"]["containerStatuses"][0]["restartCount"] > restarts(victim)

        until(again, "the killed one is there again", timeout=120)
    assert crowd.refused == []


def restarts(pod: dict[str, Any]) -> int:
    return int(pod["status"]["containerStatuses"][0]["restartCount"])


def kill(release: Release, pod: dict[str, Any]) -> None:
    """End a pod's container by SIGKILL: it has no time for a last word."""
    container = pod["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
    release.cluster.kill_container(pod["spec"]["nodeName"], container)


def holder(release: Release) -> str:
    """The pod that holds the operators' Lease; empty where it was given back."""
    lease = json.loads(release.cluster.kubectl("get", "lease", LEASE, "-n", NAMESPACE, "-o", "json").stdout)
    return str(lease["spec"].get("holderIdentity") or "")


@pytest.mark.parametrize("force", [True, False], ids=["by force", "gracefully"])
def test_a_standby_takes_over_when_the_leader_goes(many: Release, shop: Tenant, force: bool) -> None:
    await_settled(many, OPERATOR)
    leader = until(lambda: holder(many), "there is a leader")
    with shopping(many, lambda: shop.credentials("rotating-pull"), new=1, kept=0) as crowd:
        if force:
            kill(many, next(pod for pod in pods(many, OPERATOR) if pod["metadata"]["name"] == leader))
        flags = ("--grace-period=0", "--force") if force else ()
        many.cluster.kubectl("delete", "pod", leader, "-n", NAMESPACE, "--wait=false", *flags)
        until(lambda: holder(many) not in ("", leader), "another leader", timeout=120)
        await_rotation(shop, crowd)
    assert crowd.refused == []
    await_settled(many, OPERATOR)


def await_rotation(shop: Tenant, crowd: Crowd) -> None:
    """Wait until somebody has logged in with a password that is published from now on."""
    known = {*crowd.ids, shop.credentials("rotating-pull").id}
    until(lambda: set(crowd.ids) - known, "a rotation", timeout=120)


def test_operators_are_replaced_and_hand_over_every_time(many: Release, shop: Tenant) -> None:
    """Each gives the Lease back, so that none waits until it runs out."""
    before = {pod["metadata"]["name"] for pod in pods(many, OPERATOR)}
    with (
        Holders(many) as holders,
        shopping(many, lambda: shop.credentials("rotating-pull"), new=1, kept=0) as crowd,
    ):
        restart(many, OPERATOR)
        until(lambda: rolled_out(many, OPERATOR), "the rollout is complete", timeout=180)
        await_settled(many, OPERATOR)
        until(lambda: holders.seen[-1] and holders.seen[-1] not in before, "a new one leads", timeout=120)
        await_rotation(shop, crowd)
    assert crowd.refused == []
    assert not [pair for pair in zip(holders.seen, holders.seen[1:], strict=False) if all(pair)]


class Holders:
    """Who has held the Lease, one after the other, with an empty name where it was given back."""

    def __init__(self, release: Release) -> None:
        form = 'jsonpath={.spec.holderIdentity}{"\\n"}'
        watch = ("get", "lease", LEASE, "-n", NAMESPACE, "--watch", "-o", form)
        kubeconfig = f"--kubeconfig={release.cluster.kubeconfig}"
        command = [str(toolchain.tool("kubectl")), kubeconfig, *watch]
        self._watch = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self._reader = threading.Thread(target=self._read)
        self.seen: list[str] = []

    def __enter__(self) -> "Holders":
        self._reader.start()
        until(lambda: self.seen, "the Lease is watched")
        return self

    def __exit__(self, *_: object) -> None:
        self._watch.terminate()
        self._reader.join(timeout=30)
        self._watch.wait(timeout=30)

    def _read(self) -> None:
        with self._watch.stdout or io.StringIO() as lines:
            for line in lines:
                name = line.strip()
                if [name] != self.seen[-1:]:
                    self.seen.append(name)
