"""Clusters made of processes of this machine: a full one with a node, or a control plane alone.

Everything of a cluster is below one directory, and every process of it is known there by a pid file, so
that any later run can end it, however the first one went down. The directory has a `cluster.json` from the
moment it is ready.
"""

import fcntl
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from . import controlplane, forwarder, images, node, places, ports, processes, progress, toolchain
from .cluster import Cluster
from .controlplane import Addresses
from .namespace import ADDRESS, Namespace

_INSIDE = Addresses(api_port=6443, etcd_port=2379, etcd_peer_port=2380, advertised=ADDRESS)
_BACKWARDS = ("kubelet", "kube-proxy", "kube-scheduler", "kube-controller-manager", "kube-apiserver", "etcd")
"""The order to stop in; whatever else has a pid file goes first."""
_PROGRAMS = ("namespace", "forwarder", "containerd", *_BACKWARDS)
"""What a full cluster consists of."""


@dataclass(frozen=True)
class Record:
    """What later runs have to know of a cluster; `cluster.json`."""

    has_node: bool
    api_port: int
    etcd_port: int
    etcd_peer_port: int
    registry_port: int = ports.FIRST_PAIR
    token_port: int = ports.FIRST_PAIR + 1
    programs: tuple[str, ...] = ()

    @property
    def addresses(self) -> Addresses:
        return _INSIDE if self.has_node else Addresses(self.api_port, self.etcd_port, self.etcd_peer_port)


class LocalCluster(Cluster):
    """A cluster of processes of this machine."""

    def __init__(self, name: str, record: Record) -> None:
        self.name = name
        self.directory = places.cluster(name)
        self.record = record
        self.has_node = record.has_node
        self.registry_port = record.registry_port
        self.token_port = record.token_port
        self.pki = self.directory / "pki"
        self.kubeconfig = self.pki / "admin.kubeconfig"
        self.space = Namespace(self.directory, name)

    def load_image(self, archive: Path) -> None:
        if not self.has_node:
            raise RuntimeError(f"cluster {self.name} has no node")
        node.load_image(self.space, archive)

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
        with _locked(self.name):
            _remove(self.name)

    def pid_file(self, program: str) -> Path:
        return self.directory / "pids" / f"{program}.pid"

    def log(self, program: str) -> Path:
        """What a program has written, for a look after a failure."""
        return self.directory / "logs" / f"{program}.log"

    def launch(self, program: str, argv: Sequence[str | Path]) -> Path:
        """Start a program where this cluster's programs run."""
        prefix = self.space.enter() if self.has_node else []
        processes.start([*prefix, *argv], pid_file=self.pid_file(program), log=self.log(program))
        return self.pid_file(program)

    def wait_api_server(self) -> None:
        def ready() -> bool:
            return self.kubectl("get", "--raw", "/readyz", "--request-timeout=5s", check=False).returncode == 0

        needed = [self.pid_file("etcd"), self.pid_file("kube-apiserver")]
        controlplane.wait_ready(ready, needed, self.log("kube-apiserver"))

    def running(self) -> bool:
        """Whether what was started is there, API server and etcd apart: a test may have stopped those."""
        return all(
            processes.alive(processes.read(self.pid_file(program)))
            for program in self.record.programs
            if program not in ("kube-apiserver", "etcd")
        )


def start(name: str, *, with_node: bool, controllers: bool = True) -> LocalCluster:
    """Start a cluster, or attach to a running one of that name that has what is asked for."""
    if with_node and os.geteuid() != 0:
        raise PermissionError("a node needs root: it makes namespaces, mounts and iptables rules")
    prepare(with_node)
    with _locked(name):
        running = attach(name)
        if running and (running.has_node or not with_node):
            return running
        _remove(name)
        try:
            with progress.step(f"starting cluster {name}"):
                return _start_full(name) if with_node else _start_control_plane(name, controllers)
        except BaseException:
            _keep_logs(name)
            _remove(name)
            raise


def prepare(with_node: bool = True) -> None:
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
    except (OSError, ValueError):
        return None
    cluster = LocalCluster(name, Record(**{**content, "programs": tuple(content["programs"])}))
    return cluster if cluster.running() else None


def names() -> list[str]:
    """Every cluster there is something of, running or not."""
    top = places.clusters()
    return sorted(entry.name for entry in top.iterdir() if entry.is_dir()) if top.exists() else []


def remove(name: str) -> None:
    """End a cluster and remove everything of it, in whatever state it is."""
    with _locked(name):
        _remove(name)


def sweep() -> list[str]:
    """Remove the rests of clusters that went down or were cut off while starting, and name them.

    Running ones stay, whoever uses them; one that is being started is waited for, and then is a running one.
    """
    swept = []
    for name in names():
        with _locked(name):
            if attach(name) is None and places.cluster(name).exists():
                _remove(name)
                swept.append(name)
    return swept


def _start_control_plane(name: str, controllers: bool) -> LocalCluster:
    programs = ["etcd", "kube-apiserver", *(["kube-controller-manager"] if controllers else [])]
    record = Record(False, ports.free(), ports.free(), ports.free(), programs=tuple(programs))
    cluster = LocalCluster(name, record)
    _start_programs(cluster, host_port=record.api_port)
    _wait_default_namespace(cluster, controllers)
    _ready(cluster)
    return cluster


def _start_full(name: str) -> LocalCluster:
    claim = ports.claim_pair()
    api = ports.listen_anywhere()
    try:
        api_port = int(api.getsockname()[1])
        inside = (_INSIDE.etcd_port, _INSIDE.etcd_peer_port)
        record = Record(True, api_port, *inside, claim.registry_port, claim.token_port, _PROGRAMS)
        cluster = LocalCluster(name, record)
        cluster.space.create(cluster.log("namespace"))
        forwards = {api: _INSIDE.api_port, claim.registry: claim.registry_port, claim.token: claim.token_port}
        for listener in forwards:
            listener.set_inheritable(True)
        pairs = [f"{listener.fileno()}:{port}" for listener, port in forwards.items()]
        enter = cluster.space.enter(mounts=False)
        processes.start(
            [*enter, sys.executable, forwarder.__file__, *pairs],
            pid_file=cluster.pid_file("forwarder"),
            log=cluster.log("forwarder"),
        )
    finally:
        claim.close()
        api.close()
    _start_programs(cluster, host_port=api_port)
    pid_files = node.start(cluster.launch, cluster.space, cluster.directory / "node", cluster.pki, cluster.log)
    cluster.kubectl("apply", "-f", "-", input=node.dns_manifests())
    node.wait_ready(cluster.kubectl, pid_files, cluster.log("kubelet"))
    _wait_default_namespace(cluster, True)
    _ready(cluster)
    return cluster


def _start_programs(cluster: LocalCluster, *, host_port: int) -> None:
    addresses = cluster.record.addresses
    controlplane.etcd(cluster.launch, cluster.directory / "etcd", addresses)
    controlplane.prepare(cluster.pki, addresses, host_port=host_port, node=node.NAME if cluster.has_node else None)
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


def _ready(cluster: LocalCluster) -> None:
    target = cluster.directory / "cluster.json"
    scratch = target.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(cluster.record), indent=2))
    scratch.rename(target)


def _remove(name: str) -> None:
    directory = places.cluster(name)
    if not directory.exists():
        return
    (directory / "cluster.json").unlink(missing_ok=True)
    # One signal ends a node: nothing in it has anything to say to anybody outside.
    Namespace(directory, name).destroy()
    found = {pid_file.stem: pid_file for pid_file in (directory / "pids").glob("*.pid")}
    for program in sorted(found, key=lambda program: _BACKWARDS.index(program) if program in _BACKWARDS else -1):
        processes.stop(found[program], grace=5)
    shutil.rmtree(directory)


def _keep_logs(name: str) -> None:
    """Keep what a failed start has written, as it is the only trace of why."""
    logs = places.cluster(name) / "logs"
    if logs.exists():
        kept = places.clusters().parent / "failed" / name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(logs, kept)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One run at a time starts or stops a cluster. The kernel drops the lock with its holder."""
    locks = places.clusters().parent / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / f"{places.cluster(name).name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
