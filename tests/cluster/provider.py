"""Clusters by their names: where they come from, and how they end."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from . import controlplane, kind, places
from .cluster import Cluster
from .controlplane import ControlPlane
from .kind import KindCluster
from .toolchain import Kubernetes


def start(name: str = "pullpass", *, nodes: int = 1) -> KindCluster:
    """Start a cluster with nodes, or attach to a running one of that name that has at least as many."""
    with _locked(name):
        controlplane.remove(name)
        return kind.start(name, nodes)


def start_control_plane(
    name: str, *, controllers: bool = True, kubernetes: Kubernetes = "newest", compaction: str = "5m"
) -> ControlPlane:
    """Start etcd, API server and (unless `controllers` is off) controller manager, or attach to running ones.

    `kubernetes` is the version of the latter two, and `compaction` after how long the API server forgets older
    versions of what is stored, with the default of Kubernetes. That is enough for whatever only talks to the API, in a
    few seconds and without root.
    """
    with _locked(name):
        kind.remove(name)
        return controlplane.start(name, controllers=controllers, kubernetes=kubernetes, compaction=compaction)


def attach(name: str) -> Cluster | None:
    """The running cluster of that name, or None."""
    return controlplane.attach(name) or kind.attach(name)


def stop(name: str) -> None:
    """End the cluster of that name and remove its leftovers, also when it is half gone."""
    with _locked(name):
        _remove(name)


def names() -> list[str]:
    """Every cluster that there is something of, running or not."""
    top = places.clusters()
    return sorted(entry.name for entry in top.iterdir() if entry.is_dir()) if top.exists() else []


def sweep() -> list[str]:
    """Remove the leftovers of clusters that went down or were cut off while starting, and name them.

    Running ones stay, whoever uses them; one that is being started is waited for, and then is a running one.
    """
    swept = []
    for name in names():
        with _locked(name):
            if attach(name) is None and places.cluster(name).exists():
                _remove(name)
                swept.append(name)
    return swept


def _remove(name: str) -> None:
    kind.remove(name)
    controlplane.remove(name)
    # A start that was cut off may have left a directory that neither knows.
    shutil.rmtree(places.cluster(name), ignore_errors=True)


@contextmanager
def _locked(name: str) -> Iterator[None]:
    """One run at a time starts or ends a cluster. The kernel drops the lock with its holder."""
    locks = places.clusters().parent / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / f"{places.cluster(name).name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
