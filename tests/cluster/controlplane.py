"""etcd, API server, controller manager and scheduler of one cluster, configured as in production.

They run wherever `Start` puts them: on this machine for a cluster without a node, inside the first node's
namespaces for a full one. All that this module knows of it is the addresses.
"""

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from . import certificates, processes, toolchain

SERVICE_RANGE = "10.96.0.0/16"
SERVICE_API = "10.96.0.1"

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
"""In the order in which they are started."""

Start = Callable[[str, Sequence[str | Path]], Path]
"""Starts a program under a name, where the control plane is to run, and returns its pid file."""


@dataclass(frozen=True)
class Addresses:
    """Where the parts listen. `advertised` is how pods reach the API server, None where there are none."""

    api_port: int
    etcd_port: int
    etcd_peer_port: int
    advertised: str | None = None


def prepare(pki: Path, addresses: Addresses, *, host_port: int, nodes: Mapping[str, str]) -> None:
    """Issue the certificates and write each client's kubeconfig; `admin.kubeconfig` is for this machine.

    `nodes` has the address of each node by its name.
    """
    shutil.rmtree(pki, ignore_errors=True)
    authority = certificates.Authority(pki)
    service_accounts = certificates.write_key(pki / "service-accounts.key")
    certificates.write_public_key(service_accounts, pki / "service-accounts.pub")
    names = ["localhost", "127.0.0.1", SERVICE_API, "kubernetes.default.svc", "kubernetes.default"]
    names += ["kubernetes.default.svc.cluster.local", "kubernetes"]
    authority.issue("api-server", "kube-apiserver", names=[*names, *filter(None, [addresses.advertised])])
    authority.issue("kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"])

    inside = addresses.advertised or "127.0.0.1"
    clients: dict[str, tuple[str, list[str]]] = {
        "controller-manager": ("system:kube-controller-manager", []),
        "scheduler": ("system:kube-scheduler", []),
        "kube-proxy": ("system:kube-proxy", []),
    }
    for node, address in nodes.items():
        clients[node] = (f"system:node:{node}", ["system:nodes"])
        authority.issue(f"{node}-server", f"system:node:{node}", names=[node, address])
    for file, (user, groups) in clients.items():
        _kubeconfig(authority, authority.issue(file, user, groups), f"https://{inside}:{addresses.api_port}", file)
    admin = authority.issue("admin", "kubernetes-admin", ["system:masters"])
    _kubeconfig(authority, admin, f"https://127.0.0.1:{host_port}", "admin")


def _kubeconfig(authority: certificates.Authority, pair: certificates.Pair, server: str, name: str) -> None:
    # Paths and not contents: the file is then no longer than one wants to read, and no copy of a key lies
    # about.
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "pullpass-test",
        "clusters": [
            {
                "name": "pullpass-test",
                "cluster": {"server": server, "certificate-authority": str(authority.pair.certificate)},
            }
        ],
        "users": [{"name": name, "user": {"client-certificate": str(pair.certificate), "client-key": str(pair.key)}}],
        "contexts": [{"name": "pullpass-test", "context": {"cluster": "pullpass-test", "user": name}}],
    }
    path = authority.directory / f"{name}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(yaml.safe_dump(config, sort_keys=False))


def etcd(start: Start, data: Path, addresses: Addresses) -> Path:
    """Start etcd, without waiting: the API server waits for it.

    It does not sync to disk: a test needs no durability beyond a killed process, and on a slow disk the syncs
    are most of the time that a write takes.
    """
    client = f"http://127.0.0.1:{addresses.etcd_port}"
    peer = f"http://127.0.0.1:{addresses.etcd_peer_port}"
    data.mkdir(parents=True, exist_ok=True, mode=0o700)
    flags = [
        f"--data-dir={data}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]
    return start("etcd", [toolchain.tool("etcd"), *flags])


def api_server(start: Start, pki: Path, addresses: Addresses) -> Path:
    """Start the API server, with authorization and admission as in production."""
    flags = [
        f"--etcd-servers=http://127.0.0.1:{addresses.etcd_port}",
        f"--secure-port={addresses.api_port}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--allow-privileged=true",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/api-server.crt",
        f"--tls-private-key-file={pki}/api-server.key",
        f"--cert-dir={pki}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        f"--kubelet-certificate-authority={pki}/ca.crt",
        f"--kubelet-client-certificate={pki}/kubelet-client.crt",
        f"--kubelet-client-key={pki}/kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP",
        "--profiling=false",
    ]
    if addresses.advertised:
        flags += ["--bind-address=0.0.0.0", f"--advertise-address={addresses.advertised}"]
    else:
        # Loopback is refused as an address for the `kubernetes` Service, which nobody needs here.
        flags += ["--bind-address=127.0.0.1", "--endpoint-reconciler-type=none"]
    return start("kube-apiserver", [toolchain.tool("kube-apiserver"), *flags])


def controller_manager(start: Start, pki: Path) -> Path:
    """Start the controllers: without them namespaces are not emptied and have no default service account."""
    flags = [
        f"--kubeconfig={pki}/controller-manager.kubeconfig",
        "--secure-port=0",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        f"--service-account-private-key-file={pki}/service-accounts.key",
        f"--root-ca-file={pki}/ca.crt",
        f"--cluster-signing-cert-file={pki}/ca.crt",
        f"--cluster-signing-key-file={pki}/ca.key",
        "--profiling=false",
    ]
    return start("kube-controller-manager", [toolchain.tool("kube-controller-manager"), *flags])


def scheduler(start: Start, pki: Path) -> Path:
    flags = [
        f"--kubeconfig={pki}/scheduler.kubeconfig",
        "--secure-port=0",
        "--leader-elect=false",
        "--profiling=false",
    ]
    return start("kube-scheduler", [toolchain.tool("kube-scheduler"), *flags])


def wait_ready(ready: Callable[[], bool], pid_files: Sequence[Path], log: Path) -> None:
    """Wait until the API server says that it is ready, or one of its processes ends."""
    processes.wait_until(
        ready,
        "the API server is ready",
        timeout=90,
        pid_files=pid_files,
        log=log,
    )
