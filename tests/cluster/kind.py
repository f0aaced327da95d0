"""Clusters in Docker, by kind: where Docker answers, which is most developers' machines and CI."""

import json
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from . import places, ports, processes, progress, toolchain
from .cluster import Cluster
from .node import trusting

_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
_AWAY = "/etc/kubernetes/kube-apiserver.yaml"


@cache
def available() -> bool:
    """Whether Docker answers; having its command does not mean that."""
    if not shutil.which("docker"):
        return False
    asked = subprocess.run(["docker", "info"], capture_output=True, timeout=30, check=False)
    return asked.returncode == 0


class KindCluster(Cluster):
    """A cluster whose nodes are containers of Docker."""

    def __init__(self, name: str, nodes: tuple[str, ...], registry_port: int, token_port: int) -> None:
        self.name = name
        self.nodes = nodes
        self.registry_port = registry_port
        self.token_port = token_port
        self.kubeconfig = places.clusters().parent / "kind" / f"{name}.kubeconfig"

    def load_image(self, archive: Path) -> None:
        _kind("load", "image-archive", str(archive), "--name", self.name)

    def trust(self, registry: str, ca: str) -> None:
        place = Path("/etc/containerd/certs.d") / urlsplit(registry).netloc
        files = {"ca.crt": ca, "hosts.toml": trusting(registry, place / "ca.crt")}
        for node in self.nodes:
            _on_node(node, "mkdir", "-p", str(place))
            for name, content in files.items():
                _on_node(node, "tee", str(place / name), stdin=content)

    def kill_container(self, node: str, container: str) -> None:
        _on_node(node, "ctr", "--namespace=k8s.io", "tasks", "kill", "--signal", "SIGKILL", container)

    def stop_api_server(self) -> None:
        # The kubelet runs what is in that directory, and stops what is no longer.
        _on_node(self.nodes[0], "mv", _MANIFEST, _AWAY)
        processes.wait_until(lambda: not self._answers(), "the API server is stopped", timeout=60)

    def start_api_server(self) -> None:
        _on_node(self.nodes[0], "mv", _AWAY, _MANIFEST)
        processes.wait_until(self._answers, "the API server is ready", timeout=120)

    def stop(self) -> None:
        _kind("delete", "cluster", "--name", self.name)
        self.kubeconfig.unlink(missing_ok=True)

    def _answers(self) -> bool:
        return self.kubectl("get", "--raw", "/readyz", "--request-timeout=5s", check=False).returncode == 0


def config(text: str, nodes: int, registry_port: int, token_port: int) -> str:
    """`kind-config.yaml` with so many nodes, and this cluster's NodePorts in place of the two that stand in it."""
    content: dict[str, Any] = yaml.safe_load(text)
    content["nodes"] += [{"role": "worker"} for _ in range(nodes - 1)]
    mappings = content["nodes"][0]["extraPortMappings"]
    for mapping, port in zip(mappings, (registry_port, token_port), strict=True):
        mapping["containerPort"] = mapping["hostPort"] = port
    return str(yaml.safe_dump(content, sort_keys=False))


def start(name: str, *, nodes: int) -> KindCluster:
    """Create a cluster, or attach to a running one of that name that has as many nodes."""
    running = attach(name)
    if running and len(running.nodes) >= nodes:
        return running
    if running:
        running.stop()
    claim = ports.claim_pair()
    pair = claim.registry_port, claim.token_port
    claim.close()  # Docker binds them itself
    rendered = config((places.ROOT / "kind-config.yaml").read_text(), nodes, *pair)
    with progress.step(f"creating kind cluster {name}"):
        _kind("create", "cluster", "--name", name, "--config", "-", "--wait", "120s", stdin=rendered)
        created = attach(name)
        if created is None:
            raise RuntimeError(f"kind created no cluster {name}")
        if nodes > 1:
            # kind keeps pods off the first node where there are others; here every node is for pods.
            created.kubectl("taint", "node", created.nodes[0], "node-role.kubernetes.io/control-plane:NoSchedule-")
            created.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=120s")
    return created


def attach(name: str) -> KindCluster | None:
    """The running cluster of that name; its ports are read off its first container."""
    if not available() or name not in names():
        return None
    nodes = in_order(name, _kind("get", "nodes", "--name", name).split())
    inspect = ["docker", "inspect", "--format", "{{json .HostConfig.PortBindings}}", nodes[0]]
    bindings = json.loads(subprocess.run(inspect, check=True, capture_output=True, text=True).stdout)
    inside = sorted(int(port.removesuffix("/tcp")) for port in bindings)
    pair = [port for port in inside if ports.FIRST_PAIR <= port <= ports.LAST_PAIR + 1]
    cluster = KindCluster(name, nodes, pair[0], pair[1])
    cluster.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
    cluster.kubeconfig.touch(mode=0o600)
    cluster.kubeconfig.write_text(_kind("get", "kubeconfig", "--name", name))
    return cluster


def in_order(cluster: str, containers: Sequence[str]) -> tuple[str, ...]:
    """The nodes as kind numbers them: the control plane, worker, worker2, and so on."""
    first = f"{cluster}-control-plane"
    return tuple(sorted(containers, key=lambda name: (name != first, len(name), name)))


def names() -> list[str]:
    """Every kind cluster of this machine; none where Docker does not answer."""
    return _kind("get", "clusters").split() if available() else []


def _on_node(node: str, *command: str, stdin: str = "") -> None:
    docker = ["docker", "exec", "--interactive", node, *command]
    subprocess.run(docker, input=stdin, check=True, capture_output=True, text=True)


def _kind(*arguments: str, stdin: str | None = None) -> str:
    done = subprocess.run(
        [toolchain.tool("kind"), *arguments], input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"kind {' '.join(arguments)}: exit status {done.returncode}\n{done.stderr}")
    return done.stdout
