"""Clusters made of processes of this machine: full ones with nodes, or a control plane alone.

Everything of a cluster is below one directory, and every process of it is known there by a pid file, so
that any later run can end it, however the first one went down. The directory has a `cluster.json` from the
moment it is ready.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

from . import controlplane, dns, forwarder, images, network, places, ports, processes, progress, removal, toolchain
from .cluster import Cluster
from .controlplane import Addresses
from .node import Node

_INSIDE = Addresses(api_port=6443, etcd_port=2379, etcd_peer_port=2380, advertised=network.address(1))


@dataclass(frozen=True)
class Record:
    """What later runs have to know of a cluster; `cluster.json`."""

    api_port: int
    etcd_port: int
    etcd_peer_port: int
    nodes: int = 0
    registry_port: int = ports.FIRST_PAIR
    token_port: int = ports.FIRST_PAIR + 1
    programs: tuple[str, ...] = ()
    """Those that are not of a node."""

    @property
    def addresses(self) -> Addresses:
        return _INSIDE if self.nodes else Addresses(self.api_port, self.etcd_port, self.etcd_peer_port)


class LocalCluster(Cluster):
    """A cluster of processes of this machine."""

    def __init__(self, name: str, record: Record) -> None:
        self.name = name
        self.directory = places.cluster(name)
        self.record = record
        self.registry_port = record.registry_port
        self.token_port = record.token_port
        self.pki = self.directory / "pki"
        self.kubeconfig = self.pki / "admin.kubeconfig"
        self.members = [Node(self.directory, number) for number in range(1, record.nodes + 1)]
        self.nodes = tuple(node.name for node in self.members)

    def load_image(self, archive: Path) -> None:
        if not self.members:
            raise RuntimeError(f"cluster {self.name} has no node")
        self.on_every_node(lambda node: node.load_image(archive))

    def trust(self, registry: str, ca: str) -> None:
        self.on_every_node(lambda node: node.trust(registry, ca))

    def kill_container(self, node: str, container: str) -> None:
        member = self.members[self.nodes.index(node)]
        done = member.ctr("tasks", "kill", "--signal", "SIGKILL", container)
        if done.returncode:
            raise RuntimeError(f"container {container} of {node}: {done.stderr}")

    def on_every_node(self, do: Callable[[Node], None]) -> None:
        """Do it on all nodes at once; the first error is raised when all are done."""
        with ThreadPoolExecutor() as pool:
            for done in [pool.submit(do, node) for node in self.members]:
                done.result()

    def stop_api_server(self) -> None:
        # Killed, as a failing one is. Asked to end, it first waits for the watches of its clients.
        processes.stop(self.pid_file("kube-apiserver"), first=signal.SIGKILL)

    def start_api_server(self) -> None:
        controlplane.api_server(self.launch, self.pki, self.record.addresses)
        self.wait_api_server()

    def stop_etcd(self) -> None:
        """Take the store away; the API server stays, and fails."""
        processes.stop(self.pid_file("etcd"), first=signal.SIGKILL)

    def start_etcd(self) -> None:
        """Bring the store back and wait until the API server reads from it again.

        A read, because what `/readyz` says of etcd may be some seconds old.
        """
        controlplane.etcd(self.launch, self.directory / "etcd", self.record.addresses)
        read = ["get", "namespace", "kube-system", "--request-timeout=5s"]
        processes.wait_until(
            lambda: self.kubectl(*read, check=False).returncode == 0,
            "the API server reads from etcd",
            timeout=60,
            pid_files=[self.pid_file("etcd")],
            log=self.log("etcd"),
        )
        self.wait_api_server()

    def stop(self) -> None:
        remove(self.name)

    def pid_file(self, program: str) -> Path:
        return self.directory / "pids" / f"{program}.pid"

    def log(self, program: str) -> Path:
        """What a program has written, for a look after a failure."""
        return self.directory / "logs" / f"{program}.log"

    def launch(self, program: str, argv: Sequence[str | Path]) -> Path:
        """Start a program where this cluster's programs run."""
        prefix = self.members[0].space.enter() if self.members else []
        processes.start([*prefix, *argv], pid_file=self.pid_file(program), log=self.log(program))
        return self.pid_file(program)

    def wait_api_server(self) -> None:
        def ready() -> bool:
            return self.kubectl("get", "--raw", "/readyz", "--request-timeout=5s", check=False).returncode == 0

        needed = [self.pid_file("etcd"), self.pid_file("kube-apiserver")]
        controlplane.wait_ready(ready, needed, self.log("kube-apiserver"))

    def running(self) -> bool:
        """Whether what was started is there, API server and etcd apart: a test may have stopped those."""
        own = [self.pid_file(name) for name in self.record.programs if name not in ("kube-apiserver", "etcd")]
        of_nodes = [node.pid_file(program) for node in self.members for program in node.PROGRAMS]
        return all(processes.alive(processes.read(pid_file)) for pid_file in [*own, *of_nodes])


def start(name: str, *, nodes: int = 1, controllers: bool = True) -> LocalCluster:
    """Start a cluster, or attach to a running one of that name that has what is asked for."""
    if nodes and os.geteuid() != 0:
        raise PermissionError("a node needs root: it makes namespaces, mounts and iptables rules")
    prepare(with_node=nodes > 0)
    with removal.locked(name):
        running = attach(name)
        if running and len(running.nodes) >= nodes:
            return running
        removal.remove(name)
        try:
            with progress.step(f"starting cluster {name}"):
                return _start_full(name, nodes) if nodes else _start_control_plane(name, controllers)
        except BaseException:
            removal.keep_logs(name)
            removal.remove(name)
            raise


def prepare(*, with_node: bool) -> None:
    """Build and install what a cluster needs, once."""
    for program in toolchain.CONTROL_PLANE:
        toolchain.tool(program)
    if with_node:
        toolchain.install_debian(toolchain.NODE_PROGRAMS)
        images.pause()
        images.coredns()


def attach(name: str) -> LocalCluster | None:
    """The running cluster of that name."""
    try:
        content = json.loads((places.cluster(name) / "cluster.json").read_text())
        record = Record(**{**content, "programs": tuple(content["programs"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # nothing there, or what another version of this module has written
    cluster = LocalCluster(name, record)
    return cluster if cluster.running() else None


def names() -> list[str]:
    """Every cluster there is something of, running or not."""
    top = places.clusters()
    return sorted(entry.name for entry in top.iterdir() if entry.is_dir()) if top.exists() else []


def remove(name: str) -> None:
    """End a cluster and remove everything of it, in whatever state it is."""
    with removal.locked(name):
        removal.remove(name)


def sweep() -> list[str]:
    """Remove the rests of clusters that went down or were cut off while starting, and name them.

    Running ones stay, whoever uses them; one that is being started is waited for, and then is a running one.
    """
    swept = []
    for name in names():
        with removal.locked(name):
            if attach(name) is None and places.cluster(name).exists():
                removal.remove(name)
                swept.append(name)
    return swept


def _start_control_plane(name: str, controllers: bool) -> LocalCluster:
    programs = ["etcd", "kube-apiserver", *(["kube-controller-manager"] if controllers else [])]
    record = Record(ports.free(), ports.free(), ports.free(), programs=tuple(programs))
    cluster = LocalCluster(name, record)
    _start_programs(cluster, host_port=record.api_port)
    _wait_default_namespace(cluster, controllers)
    _ready(cluster)
    return cluster


def _start_full(name: str, nodes: int) -> LocalCluster:
    claim = ports.claim_pair()
    api = ports.listen_anywhere()
    try:
        api_port = int(api.getsockname()[1])
        inside = (_INSIDE.etcd_port, _INSIDE.etcd_peer_port)
        programs = ("forwarder", *controlplane.PROGRAMS)
        record = Record(api_port, *inside, nodes, claim.registry_port, claim.token_port, programs)
        cluster = LocalCluster(name, record)
        for node in cluster.members:
            node.create()
        network.connect([node.space for node in cluster.members])
        forwards = {api: _INSIDE.api_port, claim.registry: claim.registry_port, claim.token: claim.token_port}
        for listener in forwards:
            listener.set_inheritable(True)
        pairs = [f"{listener.fileno()}:{port}" for listener, port in forwards.items()]
        enter = cluster.members[0].space.enter("net", "pid")
        processes.start(
            [*enter, sys.executable, forwarder.__file__, *pairs],
            pid_file=cluster.pid_file("forwarder"),
            log=cluster.log("forwarder"),
        )
    finally:
        claim.close()
        api.close()
    _start_programs(cluster, host_port=api_port)
    cluster.on_every_node(lambda node: node.start(cluster.pki))
    cluster.kubectl("apply", "-f", "-", input=dns.manifests())
    _wait_nodes(cluster)
    _wait_default_namespace(cluster, True)
    _ready(cluster)
    return cluster


def _start_programs(cluster: LocalCluster, *, host_port: int) -> None:
    addresses = cluster.record.addresses
    controlplane.etcd(cluster.launch, cluster.directory / "etcd", addresses)
    nodes = {node.name: node.address for node in cluster.members}
    controlplane.prepare(cluster.pki, addresses, host_port=host_port, nodes=nodes)
    controlplane.api_server(cluster.launch, cluster.pki, addresses)
    cluster.wait_api_server()
    if "kube-controller-manager" in cluster.record.programs:
        controlplane.controller_manager(cluster.launch, cluster.pki)
    if "kube-scheduler" in cluster.record.programs:
        controlplane.scheduler(cluster.launch, cluster.pki)


def _wait_default_namespace(cluster: LocalCluster, controllers: bool) -> None:
    """A pod is refused until its namespace has the service account, which a controller makes."""
    wanted = "serviceaccount/default" if controllers else "namespace/default"
    processes.wait_until(
        lambda: cluster.kubectl("get", wanted, "-n", "default", check=False).returncode == 0,
        f"{wanted} is there",
        timeout=60,
        log=cluster.log("kube-controller-manager"),
    )


def _wait_nodes(cluster: LocalCluster) -> None:
    """Wait until every node takes pods and the cluster's DNS answers."""
    needed = [node.pid_file(program) for node in cluster.members for program in node.PROGRAMS]

    def wait(what: str, *condition: str) -> None:
        processes.wait_until(
            lambda: cluster.kubectl("wait", *condition, "--timeout=2s", check=False).returncode == 0,
            what,
            timeout=90,
            pid_files=needed,
            log=cluster.members[-1].log("kubelet"),
        )

    wait("the nodes are ready", "--for=condition=Ready", *(f"node/{name}" for name in cluster.nodes))
    wait("the cluster's DNS is ready", "--for=condition=Available", "deployment/coredns", "-n", "kube-system")


def _ready(cluster: LocalCluster) -> None:
    target = cluster.directory / "cluster.json"
    scratch = target.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(cluster.record), indent=2))
    scratch.rename(target)
