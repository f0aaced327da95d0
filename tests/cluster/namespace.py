"""A node as namespaces: its own network, mounts and processes, like a node container without an engine.

What runs inside can leave nothing behind: when its first process ends, the kernel ends every other one, and
takes the mounts, the bridge, the iptables rules and the listening sockets along. The namespaces of a cluster's
further nodes are inside those of its first one, and end with them.
"""

from pathlib import Path

from . import places, processes, toolchain

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
sysctl -q -w net.ipv4.ip_forward=1
sysctl -q -w net.bridge.bridge-nf-call-iptables=1 || true
: >"$1/ready"
while :; do
  sleep 1000 &
  wait $!
done
"""


class Namespace:
    """The namespaces of one node, with what is mounted there under a directory; `outer` are the first node's."""

    def __init__(self, directory: Path, pid_file: Path, outer: "Namespace | None") -> None:
        self._directory = directory
        self.pid_file = pid_file
        self._outer = outer

    def create(self, log: Path) -> None:
        """Make the namespaces and wait until the mounts are in place."""
        for hidden in (Path("/run"), Path("/var/lib")):
            for needed in (places.ROOT, places.cache().resolve(), self._directory.resolve()):
                if needed.is_relative_to(hidden):
                    raise RuntimeError(f"{needed}: a node cannot see what lies under {hidden}")
        ready = self._directory / "ready"
        ready.unlink(missing_ok=True)
        for mounted in ("var-log", "var-lib-kubelet"):
            (self._directory / mounted).mkdir(parents=True, exist_ok=True)
        # No name server: the node's own names are numbers, and a test cluster asks nobody outside.
        (self._directory / "resolv.conf").write_text("options ndots:1\n")
        unshare: list[str | Path] = [
            toolchain.tool("unshare"),
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
        ]
        init: list[str | Path] = ["/bin/sh", "-c", _INIT, "pullpass-node", self._directory]
        outer = self._outer.enter("net", "pid") if self._outer else []
        processes.start([*outer, *unshare, "--", *init], pid_file=self.pid_file, log=log)
        processes.wait_until(ready.exists, "the node's namespaces", timeout=20, pid_files=[self.pid_file], log=log)

    def enter(self, *kinds: str) -> list[str | Path]:
        """What to put before a command for it to run in these of the namespaces, by default in all."""
        flags = [f"--{kind}" for kind in kinds or ("net", "pid", "mount")]
        return [toolchain.tool("nsenter"), "--target", str(self.init()), *flags, "--"]

    def init(self) -> int:
        """The pid, on this machine, of the node's first process."""
        identity = processes.read(self.pid_file)
        if identity is None or not processes.alive(identity):
            raise RuntimeError("the node is not running")
        pid = identity.pid
        # What was started is nsenter or unshare, and has one child: the next of them, or what we look for.
        while _number_inside(pid) != 1:
            pid = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        return pid


def _number_inside(pid: int) -> int:
    """Which pid a process has in the innermost namespace that it is in."""
    status = Path(f"/proc/{pid}/status").read_text()
    numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
    return int(numbers.split()[-1])
