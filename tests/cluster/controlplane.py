"""Control planes alone: etcd, API server and controller manager as processes of this machine, without a node.

Everything of one is below one directory, and every process of it is known there by a pid file, so that any later run
can end it, however the first one went down. The directory has a `controlplane.json` from the moment it is ready.
"""

import json
import shutil
import signal
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import places, ports, processes, programs, progress, toolchain
from .cluster import Cluster
from .programs import Addresses
from .toolchain import Kubernetes


@dataclass(frozen=True)
class Record:
    """What later runs have to know of a control plane; `controlplane.json`."""

    api_port: int
    etcd_port: int
    etcd_peer_port: int
    programs: tuple[str, ...]
    kubernetes: Kubernetes
    compaction: str

    @property
    def addresses(self) -> Addresses:
        """Where its parts listen."""
        return Addresses(self.api_port, self.etcd_port, self.etcd_peer_port)


class ControlPlane(Cluster):
    """A cluster that has no node."""

    nodes = ()

    def __init__(self, name: str, record: Record) -> None:
        self.name = name
        self.record = record
        self.directory = places.cluster(name)
        self.pki = self.directory / "pki"
        self.kubeconfig = self.pki / "admin.kubeconfig"

    def stop_api_server(self) -> None:
        # Killed, as a failing one is. Asked to end, it first waits for the watches of its clients.
        processes.stop(self.pid_file("kube-apiserver"), first=signal.SIGKILL)

    def start_api_server(self) -> None:
        record = self.record
        programs.api_server(self.launch, self.pki, record.addresses, record.kubernetes, record.compaction)
        self.wait_api_server()

    def stop_etcd(self) -> None:
        """Take the store away; the API server stays, and fails."""
        processes.stop(self.pid_file("etcd"), first=signal.SIGKILL)

    def start_etcd(self) -> None:
        """Bring the store back and wait until the API server reads from it again.

        A read, because what `/readyz` says of etcd may be some seconds old.
        """
        programs.etcd(self.launch, self.directory / "etcd", self.record.addresses)
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
        """Start a program and return its pid file."""
        processes.start(argv, pid_file=self.pid_file(program), log=self.log(program))
        return self.pid_file(program)

    def wait_api_server(self) -> None:
        """Wait until the API server says that it is ready, or one of its processes ends."""
        processes.wait_until(
            lambda: self.kubectl("get", "--raw", "/readyz", "--request-timeout=5s", check=False).returncode == 0,
            "the API server is ready",
            timeout=90,
            pid_files=[self.pid_file("etcd"), self.pid_file("kube-apiserver")],
            log=self.log("kube-apiserver"),
        )

    def running(self) -> bool:
        """Whether what was started is there, API server and etcd apart: a test may have stopped those."""
        others = [name for name in self.record.programs if name not in ("kube-apiserver", "etcd")]
        return all(processes.alive(processes.read(self.pid_file(name))) for name in others)


def start(name: str, *, controllers: bool, kubernetes: Kubernetes, compaction: str) -> ControlPlane:
    """Start a control plane, or attach to a running one of that name and version. The caller has it locked."""
    for program in programs.PROGRAMS:
        programs.program(program, kubernetes)
    running = attach(name)
    if running and running.record.kubernetes == kubernetes:
        return running
    remove(name)
    try:
        with progress.step(f"starting control plane {name}, Kubernetes {toolchain.kubernetes_version(kubernetes)}"):
            return _start(name, controllers, kubernetes, compaction)
    except BaseException:
        _keep_logs(name)
        remove(name)
        raise


def attach(name: str) -> ControlPlane | None:
    """The running control plane of that name."""
    try:
        content = json.loads((places.cluster(name) / "controlplane.json").read_text())
        record = Record(**{**content, "programs": tuple(content["programs"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # nothing there, or what another version of this module has written
    cluster = ControlPlane(name, record)
    return cluster if cluster.running() else None


def remove(name: str) -> None:
    """End a control plane and remove everything of it, in whatever state it is. The caller has it locked."""
    directory = places.cluster(name)
    if not (directory / "pids").exists():
        return
    (directory / "controlplane.json").unlink(missing_ok=True)
    # Backwards: a program must not miss what it needs.
    for program in reversed(programs.PROGRAMS):
        processes.stop(directory / "pids" / f"{program}.pid", grace=5)
    shutil.rmtree(directory)


def _start(name: str, controllers: bool, kubernetes: Kubernetes, compaction: str) -> ControlPlane:
    wanted = programs.PROGRAMS if controllers else programs.PROGRAMS[:2]
    record = Record(ports.free(), ports.free(), ports.free(), wanted, kubernetes, compaction)
    cluster = ControlPlane(name, record)
    programs.etcd(cluster.launch, cluster.directory / "etcd", record.addresses)
    programs.prepare(cluster.pki, record.addresses)
    programs.api_server(cluster.launch, cluster.pki, record.addresses, kubernetes, compaction)
    cluster.wait_api_server()
    if controllers:
        programs.controller_manager(cluster.launch, cluster.pki, kubernetes)
    # A pod is refused until its namespace has the service account, which a controller makes.
    first = "serviceaccount/default" if controllers else "namespace/default"
    processes.wait_until(
        lambda: cluster.kubectl("get", first, "-n", "default", check=False).returncode == 0,
        f"{first} is there",
        timeout=60,
        log=cluster.log(wanted[-1]),
    )
    target = cluster.directory / "controlplane.json"
    scratch = target.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(record), indent=2))
    scratch.rename(target)
    return cluster


def _keep_logs(name: str) -> None:
    """Keep what a failed start has written, as it is the only trace of why."""
    logs = places.cluster(name) / "logs"
    if logs.exists():
        kept = places.clusters().parent / "failed" / name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(logs, kept)
