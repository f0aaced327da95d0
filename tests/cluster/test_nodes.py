"""A cluster of several nodes is one network: for pods, for Services and for this machine."""

import itertools
import json
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pytest

from . import images, processes, start
from .kind import KindCluster

pytestmark = pytest.mark.node

SERVICE = "http://peer.default.svc.cluster.local/"


@dataclass(frozen=True)
class Peer:
    """A pod that answers with its name and with the address that it was asked from, and asks others."""

    name: str
    node: str
    address: str


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KindCluster]:
    """Two nodes, and on each one a pod behind the Service `peer`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        started = start("nodes", nodes=2)
        try:
            started.load_image(images.peer())
            manifests = {"apiVersion": "v1", "kind": "List", "items": [_daemons(), _service(started.token_port)]}
            started.kubectl("apply", "-f", "-", input=json.dumps(manifests))
            started.kubectl("rollout", "status", "daemonset/peer", "--timeout=120s")
            yield started
        finally:
            started.stop()


def _daemons() -> Mapping[str, object]:
    pod = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "containers": [{"name": "peer", "image": images.PEER, "imagePullPolicy": "Never"}],
    }
    labels = {"app": "peer"}
    spec = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "peer"}, "spec": spec}


def _service(node_port: int) -> Mapping[str, object]:
    port = {"port": 80, "targetPort": 8080, "nodePort": node_port}
    spec = {"type": "NodePort", "selector": {"app": "peer"}, "ports": [port]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peer"}, "spec": spec}


@pytest.fixture(scope="module")
def peers(cluster: KindCluster) -> list[Peer]:
    pods = json.loads(cluster.kubectl("get", "pods", "-l", "app=peer", "-o", "json").stdout)["items"]
    found = [Peer(pod["metadata"]["name"], pod["spec"]["nodeName"], pod["status"]["podIP"]) for pod in pods]
    # Ready pods come before kube-proxy has led the Service to them, and on each node it does so by itself.
    for peer in found:
        processes.wait_until(lambda: led_to_all(cluster, peer, found), f"kube-proxy on {peer.node}", timeout=120)  # noqa: B023
    return found


def led_to_all(cluster: KindCluster, asking: Peer, peers: list[Peer]) -> bool:
    """Whether the Service leads to every peer already, seen from one of them."""
    try:
        return names(lambda: ask(cluster, asking, SERVICE), peers) == {peer.name for peer in peers}
    except RuntimeError:
        return False


def ask(cluster: KindCluster, peer: Peer, url: str) -> str:
    """What a pod is answered. The API server takes the question to it, on whichever node it is."""
    question = urllib.parse.urlencode({"url": url})
    return cluster.kubectl(
        "get", "--raw", f"/api/v1/namespaces/default/pods/{peer.name}:8080/proxy/ask?{question}"
    ).stdout


def names(answer: Callable[[], str], peers: list[Peer]) -> set[str]:
    """Who answers if one asks often. That the same one of two does a hundred times does not happen."""
    found: set[str] = set()
    for _ in range(100):
        found.add(answer().partition(" ")[0])
        if len(found) == len(peers):
            break
    return found


def fetched(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def test_there_is_a_pod_on_each_node(cluster: KindCluster, peers: list[Peer]) -> None:
    assert sorted(peer.node for peer in peers) == sorted(cluster.nodes)


def test_every_pod_reaches_every_other_by_its_own_address(cluster: KindCluster, peers: list[Peer]) -> None:
    for asking, asked in itertools.product(peers, repeat=2):
        expected = f"{asked.name} {asking.address}"
        assert ask(cluster, asking, f"http://{asked.address}:8080/") == expected


def test_a_service_reaches_the_pods_of_every_node_from_every_node(cluster: KindCluster, peers: list[Peer]) -> None:
    for peer in peers:
        answering = names(lambda: ask(cluster, peer, SERVICE), peers)  # noqa: B023
        assert answering == {peer.name for peer in peers}


def test_a_node_port_reaches_them_from_this_machine(cluster: KindCluster, peers: list[Peer]) -> None:
    assert names(lambda: fetched(f"http://localhost:{cluster.token_port}/"), peers) == {peer.name for peer in peers}


def test_a_node_port_reaches_them_from_each_node_as_localhost(cluster: KindCluster, peers: list[Peer]) -> None:
    """As it has to for containerd, to which the registry is `localhost:<port>`."""
    url = f"http://localhost:{cluster.token_port}/"
    for node in cluster.nodes:
        answering = names(lambda: cluster.on_node(node, "curl", "--silent", "--fail", url), peers)  # noqa: B023
        assert answering == {peer.name for peer in peers}


def test_the_api_server_reaches_every_kubelet(cluster: KindCluster) -> None:
    for name in cluster.nodes:
        assert cluster.kubectl("get", "--raw", f"/api/v1/nodes/{name}/proxy/healthz").stdout == "ok"
