"""Clusters with nodes, by kind: the nodes are containers of a Docker engine (see `engine`).

A cluster of ours has a directory of its own under `places.clusters()`, with its kubeconfig, its name in kind and its
engine. It is there before the first container is, so that a later run finds what was cut off. Other clusters of kind
are never touched, and no other kubeconfig is written.
"""

import json
import re
import secrets
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from . import engine, nodeimage, places, ports, processes, progress, toolchain
from .cluster import Cluster
from .engine import Engine

_MANIFEST = "/etc/kubernetes/manifests/kube-apiserver.yaml"
_AWAY = "/etc/kubernetes/kube-apiserver.yaml"
_RECORD = "kind.json"
_TAKEN = re.compile("port is already allocated|address already in use")
_TRIES = 3
_CERTIFICATES = Path("/etc/containerd/certs.d")


@dataclass(frozen=True)
class Record:
    """What later runs have to know of a cluster."""

    name: str
    """Its name in kind, which no other cluster has: each of several state directories may have one of the same name."""
    host: str
    """Where its engine listens."""
    nodes: tuple[str, ...] = ()
    """Empty until it is complete."""
    registry_port: int = 0
    token_port: int = 0


class KindCluster(Cluster):
    """A cluster whose nodes are containers.

    `localhost:<registry_port>` is the registry's NodePort both for the nodes' container runtimes and for programs on
    this machine, so one image reference means the same to both; `token_port` likewise for the token server. What comes
    from this machine goes by way of the first node.
    """

    def __init__(self, name: str, record: Record) -> None:
        self.name = name
        self.record = record
        self.docker = Engine(record.host)
        self.nodes = record.nodes
        self.registry_port = record.registry_port
        self.token_port = record.token_port
        self.kubeconfig = places.cluster(name) / "kubeconfig"

    def load_image(self, archive: Path) -> None:
        """Put an OCI archive (`images`) onto every node, under the name that the archive gives it."""
        _kind(self.docker, "load", "image-archive", str(archive), "--name", self.record.name)

    def trust(self, registry: str, ca: str) -> None:
        """Have every node's container runtime trust this CA (PEM) for the registry of this URL and its token server."""
        place = _CERTIFICATES / urlsplit(registry).netloc
        files = {"ca.crt": ca, "hosts.toml": trusting(registry, place / "ca.crt")}
        for node in self.nodes:
            self.on_node(node, "mkdir", "-p", str(place))
            for name, content in files.items():
                self.on_node(node, "tee", str(place / name), input=content)

    def kill_container(self, node: str, container: str) -> None:
        """Send SIGKILL to a container's first process, as the kernel does where memory runs out.

        `container` is the id that the pod's status has, without the runtime in front of it.
        """
        self.on_node(node, "ctr", "--namespace=k8s.io", "tasks", "kill", "--signal=SIGKILL", container)

    def stop_api_server(self) -> None:
        def gone() -> bool:
            # Killed, as a failing one is. Asked to end, it first waits for the watches of its clients.
            self.on_node(self.nodes[0], "pkill", "-KILL", "-x", "kube-apiserver", check=False)
            return not self._answers() and not self._api_server_runs()

        # The kubelet runs what is in that directory, and nothing that is there no longer.
        self.on_node(self.nodes[0], "mv", _MANIFEST, _AWAY)
        processes.wait_until(gone, "the API server is stopped", timeout=60)

    def start_api_server(self) -> None:
        self.on_node(self.nodes[0], "mv", _AWAY, _MANIFEST)
        processes.wait_until(self._answers, "the API server is ready", timeout=120)

    def stop(self) -> None:
        remove(self.name)

    def on_node(self, node: str, *command: str, input: str | None = None, check: bool = True) -> str:
        """Run a command on a node and return what it prints."""
        arguments = ["exec", *(["--interactive"] if input is not None else []), node, *command]
        return self.docker.docker(*arguments, input=input, check=check).stdout

    def running(self) -> bool:
        """Whether all nodes are there and run."""
        form = "--format={{.State.Running}}"
        asked = self.docker.docker("inspect", form, *self.nodes, check=False)
        return asked.returncode == 0 and asked.stdout.split() == ["true"] * len(self.nodes)

    def _answers(self) -> bool:
        return self.kubectl("get", "--raw", "/readyz", "--request-timeout=5s", check=False).returncode == 0

    def _api_server_runs(self) -> bool:
        return bool(self.on_node(self.nodes[0], "pgrep", "-x", "kube-apiserver", check=False))


def config(text: str, nodes: int, registry_port: int, token_port: int) -> str:
    """`kind-config.yaml` with so many nodes, and this cluster's NodePorts in place of the two that stand in it."""
    content: dict[str, Any] = yaml.safe_load(text)
    content["nodes"] += [{"role": "worker"} for _ in range(nodes - 1)]
    mappings = content["nodes"][0]["extraPortMappings"]
    for mapping, port in zip(mappings, (registry_port, token_port), strict=True):
        mapping["containerPort"] = mapping["hostPort"] = port
    return str(yaml.safe_dump(content, sort_keys=False))


def trusting(registry: str, ca: Path) -> str:
    """containerd's `hosts.toml` for the registry of this URL: its certificate, or its token server's, is of this CA."""
    return f'server = "{registry}"\n\n[host."{registry}"]\n  ca = "{ca}"\n'


def start(name: str, nodes: int) -> KindCluster:
    """Create a cluster, or attach to a running one of that name that has as many nodes. The caller has it locked."""
    with engine.use() as docker:
        running = attach(name)
        if running and len(running.nodes) >= nodes:
            return running
        remove(name)
        image = nodeimage.ensure(docker)
        docker.ensure_network()
        try:
            with progress.step(f"creating kind cluster {name}"):
                return _create(name, nodes, image, docker)
        except BaseException:
            remove(name)
            raise


def attach(name: str) -> KindCluster | None:
    """The running cluster of that name."""
    record = _record(name)
    if record is None or not record.nodes:
        return None
    cluster = KindCluster(name, record)
    return cluster if cluster.docker.answers() and cluster.running() else None


def remove(name: str) -> None:
    """End the cluster of that name, in whatever state it is, and remove its directory.

    `RuntimeError` where the engine of the machine does not answer: its containers would come back with it.
    """
    record = _record(name)
    if record is None:
        return
    docker = Engine(record.host)
    if docker.answers():
        _delete(name, record)
    elif not docker.ours:
        raise RuntimeError(
            f"the Docker engine at {record.host} does not answer, and cluster {name} is in it: start it, and try again"
        )
    shutil.rmtree(places.cluster(name))
    engine.end_if_idle()


def in_order(cluster: str, containers: Sequence[str]) -> tuple[str, ...]:
    """The nodes as kind numbers them: the control plane, worker, worker2, and so on."""
    first = f"{cluster}-control-plane"
    return tuple(sorted(containers, key=lambda name: (name != first, len(name), name)))


def _create(name: str, nodes: int, image: str, docker: Engine) -> KindCluster:
    begun = Record(f"{name}-{secrets.token_hex(3)}", docker.host)
    places.cluster(name).mkdir(parents=True, exist_ok=True)
    _write(name, begun)
    pair = _create_nodes(name, begun, nodes, image)
    containers = in_order(begun.name, _kind(docker, "get", "nodes", "--name", begun.name).split())
    record = replace(begun, nodes=containers, registry_port=pair[0], token_port=pair[1])
    cluster = KindCluster(name, record)
    if nodes > 1:
        # kind keeps pods off the first node where there are others; here every node is for pods.
        cluster.kubectl("taint", "node", containers[0], "node-role.kubernetes.io/control-plane:NoSchedule-")
    cluster.kubectl("wait", "--for=condition=Ready", "nodes", "--all", "--timeout=120s")
    _write(name, record)
    return cluster


def _create_nodes(name: str, record: Record, nodes: int, image: str) -> tuple[int, int]:
    """Create the nodes, and return the ports of registry and token server."""
    create = ["create", "cluster", "--name", record.name, "--config=-", "--image", image, "--wait=120s"]
    create += ["--kubeconfig", str(places.cluster(name) / "kubeconfig")]
    for remaining in reversed(range(_TRIES)):
        pair = ports.free_pair()
        rendered = config((places.ROOT / "kind-config.yaml").read_text(), nodes, *pair)
        try:
            _kind(Engine(record.host), *create, input=rendered)
            break
        except RuntimeError as error:
            # Docker binds them itself, and somebody may have been quicker.
            if not remaining or not _TAKEN.search(str(error)):
                raise
            _delete(name, record)
    return pair


def _delete(name: str, record: Record) -> None:
    # The engine ends what it was told to start, also after whoever told it was killed.
    for wait in (0,) if record.nodes else (0, 1, 2):
        time.sleep(wait)
        delete = ["delete", "cluster", "--name", record.name]
        _kind(Engine(record.host), *delete, "--kubeconfig", str(places.cluster(name) / "kubeconfig"))


def _record(name: str) -> Record | None:
    try:
        content = json.loads((places.cluster(name) / _RECORD).read_text())
        return Record(**{**content, "nodes": tuple(content["nodes"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _write(name: str, record: Record) -> None:
    target = places.cluster(name) / _RECORD
    scratch = target.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(record), indent=2))
    scratch.rename(target)


def _kind(docker: Engine, *arguments: str, input: str | None = None) -> str:
    return processes.run([toolchain.tool("kind"), *arguments], input=input, env=docker.environment).stdout
