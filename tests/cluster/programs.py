"""etcd, API server and controller manager of a control plane, configured as in production."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from . import certificates, toolchain
from .toolchain import Kubernetes

SERVICE_RANGE = "10.96.0.0/16"

PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager")
"""In the order in which they are started."""

Start = Callable[[str, Sequence[str | Path]], Path]
"""Starts a program under a name, and returns its pid file."""


@dataclass(frozen=True)
class Addresses:
    """The ports of 127.0.0.1 where the parts listen."""

    api_port: int
    etcd_port: int
    etcd_peer_port: int


def program(name: str, kubernetes: Kubernetes) -> Path:
    """The path of one of PROGRAMS, built where that has not been done yet. There is one etcd for all versions."""
    return toolchain.tool(name if name == "etcd" or kubernetes == "newest" else f"{name}-oldest")


def prepare(pki: Path, addresses: Addresses) -> None:
    """Issue the certificates and write each client's kubeconfig; `admin.kubeconfig` has all rights."""
    shutil.rmtree(pki, ignore_errors=True)
    authority = certificates.Authority(pki)
    service_accounts = certificates.write_key(pki / "service-accounts.key")
    certificates.write_public_key(service_accounts, pki / "service-accounts.pub")
    authority.issue("api-server", "kube-apiserver", names=["localhost", "127.0.0.1"])
    clients: dict[str, tuple[str, list[str]]] = {
        "controller-manager": ("system:kube-controller-manager", []),
        "admin": ("kubernetes-admin", ["system:masters"]),
    }
    for file, (user, groups) in clients.items():
        _kubeconfig(authority, authority.issue(file, user, groups), f"https://127.0.0.1:{addresses.api_port}", file)


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


def api_server(start: Start, pki: Path, addresses: Addresses, kubernetes: Kubernetes, compaction: str) -> Path:
    """Start the API server, with authorization and admission as in production."""
    flags = [
        f"--etcd-servers=http://127.0.0.1:{addresses.etcd_port}",
        f"--etcd-compaction-interval={compaction}",
        f"--secure-port={addresses.api_port}",
        f"--service-cluster-ip-range={SERVICE_RANGE}",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--client-ca-file={pki}/ca.crt",
        f"--tls-cert-file={pki}/api-server.crt",
        f"--tls-private-key-file={pki}/api-server.key",
        f"--cert-dir={pki}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={pki}/service-accounts.pub",
        f"--service-account-signing-key-file={pki}/service-accounts.key",
        "--profiling=false",
        "--bind-address=127.0.0.1",
        # Loopback is refused as an address for the `kubernetes` Service, which nobody needs here.
        "--endpoint-reconciler-type=none",
    ]
    return start("kube-apiserver", [program("kube-apiserver", kubernetes), *flags])


def controller_manager(start: Start, pki: Path, kubernetes: Kubernetes) -> Path:
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
    return start("kube-controller-manager", [program("kube-controller-manager", kubernetes), *flags])
