"""A node as namespaces: its own network, mounts and processes, like a node container without an engine.

What runs inside can leave nothing behind: when its first process ends, the kernel ends every other one, and
takes the mounts, the bridge, the iptables rules and the listening sockets along. Only control groups are
not bound to it and are removed by hand. Nothing of the network is visible outside: `forwarder` brings in
the ports that are to be reached.
"""

import hashlib
import os
import signal
import time
from pathlib import Path

from . import places, processes, toolchain

ADDRESS = "172.30.0.2"
"""The node's address; nobody but itself and its pods can see it, so that every cluster has the same."""

# PID 1 of the node. `wait` also reaps the orphans of containerd's shims. /run and /var/lib are the node's
# own because kubelet, CNI and iptables have paths there that cannot be set.
_INIT = """
set -e
mount --make-rshared /
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
mkdir /var/lib/kubelet
mount --bind "$1/var-lib-kubelet" /var/lib/kubelet
mount --bind "$1/var-log" /var/log
mount --bind "$1/resolv.conf" /etc/resolv.conf
ip link set lo up
ip link add eth0 type veth peer name outside
ip link set outside up
ip addr add "$2/24" dev eth0
ip link set eth0 up
ip route add default dev eth0
sysctl -q -w net.ipv4.ip_forward=1
sysctl -q -w net.bridge.bridge-nf-call-iptables=1 || true
: >"$1/namespace-ready"
while :; do
  sleep 1000 &
  wait $!
done
"""


class Namespace:
    """The namespaces of one node, under the directory of its cluster."""

    def __init__(self, directory: Path, name: str) -> None:
        self._directory = directory
        # Two state directories may each have a cluster of this name.
        place = hashlib.sha256(str(directory.resolve()).encode()).hexdigest()[:8]
        self._group = f"pullpass-{name}-{place}"
        self.pid_file = directory / "pids/namespace.pid"

    def create(self, log: Path) -> None:
        """Make the namespaces and wait until mounts and links are in place."""
        for hidden in (Path("/run"), Path("/var/lib")):
            for needed in (places.ROOT, places.cache().resolve(), self._directory.resolve()):
                if needed.is_relative_to(hidden):
                    raise RuntimeError(f"{needed}: a node cannot see what lies under {hidden}")
        ready = self._directory / "namespace-ready"
        ready.unlink(missing_ok=True)
        for mounted in ("var-log", "var-lib-kubelet"):
            (self._directory / mounted).mkdir(parents=True, exist_ok=True)
        # No name server: the node's own names are numbers, and a test cluster asks nobody outside.
        (self._directory / "resolv.conf").write_text("options ndots:1\n")
        for group in self.groups():
            group.mkdir(exist_ok=True)
        unshare: list[str | Path] = [
            toolchain.tool("unshare"),
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        init: list[str | Path] = ["/bin/sh", "-c", _INIT, "pullpass-node", self._directory, ADDRESS]
        processes.start([*unshare, "--", *init], pid_file=self.pid_file, log=log)
        processes.wait_until(ready.exists, "the node's namespaces", timeout=20, pid_files=[self.pid_file], log=log)

    def enter(self, *, mounts: bool = True) -> list[str | Path]:
        """What to put before a command for it to run inside."""
        target = ["--target", str(self._init()), "--net", "--pid"]
        return [toolchain.tool("nsenter"), *target, *(["--mount"] if mounts else []), "--"]

    def _init(self) -> int:
        identity = processes.read(self.pid_file)
        if identity is None or not processes.alive(identity):
            raise RuntimeError("the node is not running")
        children = Path(f"/proc/{identity.pid}/task/{identity.pid}/children").read_text().split()
        return int(children[0])

    @property
    def cgroup_root(self) -> str:
        return f"/{self._group}"

    def destroy(self) -> None:
        """End everything inside and remove its control groups."""
        # SIGKILL, as PID 1 of a namespace ignores what it has no handler for.
        processes.stop(self.pid_file, first=signal.SIGKILL)
        deadline = time.monotonic() + 10
        for group in self.groups():
            while group.exists():
                _remove_groups(group)
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{group} is still in use")

    def groups(self) -> list[Path]:
        """The node's control groups, one per hierarchy; its pods' groups are below them."""
        return [mount / self._group for mount in cgroup_mounts(Path("/proc/self/mountinfo").read_text())]


def cgroup_mounts(mountinfo: str) -> list[Path]:
    """Where control groups are mounted: once for version 2, once per controller for version 1."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] in ("cgroup", "cgroup2"):
            found.append(Path(before.split(" ")[4]))
    return found


def _remove_groups(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            time.sleep(0.05)  # a process of it is just ending
