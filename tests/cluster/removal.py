"""How a local cluster ends, in whatever state it is: running, cut off while it started, or half gone."""

import fcntl
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager

from . import controlgroups, controlplane, places, processes
from .node import Node


@contextmanager
def locked(name: str) -> Iterator[None]:
    """One run at a time starts or ends a cluster. The kernel drops the lock with its holder."""
    locks = places.clusters().parent / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with open(locks / f"{places.cluster(name).name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def remove(name: str) -> None:
    """End a cluster and remove everything of it. The caller has it locked."""
    directory = places.cluster(name)
    if not directory.exists():
        return
    (directory / "cluster.json").unlink(missing_ok=True)
    # One signal ends the nodes, as all are inside the first, and nothing in them has anything to say to anybody
    # outside. SIGKILL, as PID 1 of a namespace ignores what it has no handler for.
    processes.stop(Node(directory, 1).pid_file("namespace"), first=signal.SIGKILL)
    for pid_file in sorted((directory / "pids").rglob("*.pid"), key=lambda pid_file: _turn(pid_file.stem)):
        processes.stop(pid_file, grace=5)
    controlgroups.of_cluster(directory).remove()
    shutil.rmtree(directory)


def _turn(program: str) -> int:
    """When to stop a program: the control plane last, and backwards."""
    return -controlplane.PROGRAMS.index(program) if program in controlplane.PROGRAMS else -len(controlplane.PROGRAMS)


def keep_logs(name: str) -> None:
    """Keep what a failed start has written, as it is the only trace of why."""
    logs = places.cluster(name) / "logs"
    if logs.exists():
        kept = places.clusters().parent / "failed" / name
        shutil.rmtree(kept, ignore_errors=True)
        shutil.copytree(logs, kept)
