"""The Docker engine whose containers are kind's nodes: the one that answers here, or one of our own.

One that answers is used, and nothing of it is touched but what we made there. Where none does, Debian's `docker.io` is
installed and started: in namespaces of its own for processes and mounts, so that everything in it ends with its first
process, and with a directory, bridges and addresses of its own. There is one for the whole machine, as two would write
over each other's rules in the firewall. It goes with the last who needs it.
"""

import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from pathlib import Path
from typing import Any, TextIO

from . import capabilities, firewall, processes, progress, toolchain
from .controlgroups import ControlGroup

NETWORK = "pullpass"
"""The network of our nodes, in whichever engine. kind's own is left to the clusters of others."""
LABEL = "dev.pullpass.test"
"""Label of all images that we make, and with the value `container` of containers that are no nodes."""

_DIRECTORY = Path("/var/lib/pullpass-engine")
"""All of our own engine. One place for whoever starts it, from whichever checkout."""
SOCKET = _DIRECTORY / "docker.sock"
PID_FILE = _DIRECTORY / "engine.pid"
_BEFORE = _DIRECTORY / "before.json"
"""How the machine was before it was started."""
_BRIDGE = "pullpass0"
"""Of the engine itself. Those of its networks have the names that Docker gives."""
_NETWORKS = [IPv4Network(f"{first}.0.0/16") for first in ("172.28", "172.29", "172.30", "172.31", "10.213", "10.214")]
"""The first that nothing here leads to is the engine's: the lower half for networks, the last /24 for its bridge."""
_GROUP = ControlGroup("/pullpass-engine")
_FORWARDING = Path("/proc/sys/net/ipv4/ip_forward")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_WRITES = [Path(path) for path in ("/etc/docker", "/etc/docker/key.json", "/opt/containerd")]
"""What an engine makes outside its directory, parents first."""

# /run is the engine's own: it would find the containerd of the machine there, and systemd, which knows nothing of its
# control group. The machine's resolv.conf may be in there as well.
_INIT = """
set -e
resolv=$(readlink -f /etc/resolv.conf || true)
content=$(cat "$resolv" 2>/dev/null || true)
mount -t tmpfs tmpfs /run
case $resolv in
  /run/*) mkdir -p "${resolv%/*}"; printf '%s\\n' "$content" >"$resolv" ;;
esac
exec "$@"
"""


@dataclass(frozen=True)
class Engine:
    """An engine of this machine."""

    host: str
    """Where it listens, as in DOCKER_HOST."""

    @property
    def ours(self) -> bool:
        """Whether it is one that we started."""
        return self.host == f"unix://{SOCKET}"

    @property
    def environment(self) -> dict[str, str]:
        """What programs that use it need in their environment, kind among them."""
        return {
            "DOCKER_HOST": self.host,
            "DOCKER_CONTEXT": "",
            "KIND_EXPERIMENTAL_PROVIDER": "docker",
            "KIND_EXPERIMENTAL_DOCKER_NETWORK": NETWORK,
        }

    def docker(
        self, *arguments: str | Path, input: str | None = None, check: bool = True, timeout: float | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run Docker's command line; `RuntimeError` with what it said where it fails."""
        command: list[str | Path] = ["docker", *arguments]
        return processes.run(command, input=input, env=self.environment, check=check, timeout=timeout)

    def answers(self) -> bool:
        """Whether it does. Having the command does not mean that."""
        if not shutil.which("docker"):
            return False
        try:
            return self.docker("version", check=False, timeout=30).returncode == 0
        except RuntimeError:
            return False

    def ensure_network(self) -> None:
        """Make `NETWORK` where it is not there."""
        if self._has_network():
            return
        made = self.docker("network", "create", "--driver=bridge", NETWORK, check=False)
        if made.returncode and not self._has_network():  # it may be there by now
            raise RuntimeError(f"docker network create {NETWORK}: {made.stderr}")

    def _has_network(self) -> bool:
        return self.docker("network", "inspect", NETWORK, check=False).returncode == 0


OWN = Engine(f"unix://{SOCKET}")
"""The one that we start, whether it runs or not."""


def found() -> Engine | None:
    """The engine of this machine that answers, as the environment or the user's context leads to it.

    `RuntimeError` where it is on another machine: its containers' ports would be there.
    """
    if not shutil.which("docker"):
        return None
    inspected = processes.run(["docker", "context", "inspect", "--format={{.Endpoints.docker.Host}}"], check=False)
    version = processes.run(["docker", "version"], check=False, timeout=60)
    if inspected.returncode or version.returncode:
        return None
    host = inspected.stdout.strip()
    if not host.startswith("unix://"):
        raise RuntimeError(f"the Docker engine at {host} is none of this machine; name one of it in DOCKER_HOST")
    return Engine(host)


@contextmanager
def use() -> Iterator[Engine]:
    """An engine for as long as the block lasts. Our own goes after the last block, unless a container is in it.

    `RuntimeError` says what is missing where there can be none.
    """
    if (there := found()) is not None:
        yield there
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise RuntimeError(
            f"no Docker engine answers; start one, or be root on Debian, where it is installed{_what_docker_says()}"
        )
    toolchain.install_debian(["dockerd", "docker", "runc", "iptables", "nft", "ip", "unshare"])
    if (there := found()) is not None:  # its package has started one
        yield there
        return
    try:
        with ExitStack() as using:
            with _locked("engine"):
                if not OWN.answers():
                    _end()
                    with progress.step("starting a Docker engine"):
                        _start()
                using.enter_context(_locked("users", fcntl.LOCK_SH))
            yield OWN
    finally:
        end_if_idle()


def end_if_idle() -> None:
    """End our own engine and remove all of it, if nobody uses it and no container is in it."""
    if os.geteuid() != 0 or not _DIRECTORY.exists():
        return
    with _locked("engine"):
        try:
            with _locked("users", fcntl.LOCK_EX | fcntl.LOCK_NB):
                pass
        except BlockingIOError:
            return
        runs = processes.alive(processes.read(PID_FILE))
        if not runs or not OWN.docker("ps", "--all", "--quiet", timeout=120).stdout:
            _end()
            shutil.rmtree(_DIRECTORY)


def clean() -> None:
    """Remove what of ours is left in the engine of this machine, and our own engine if it is idle."""
    if (engine := found()) is not None:
        strays = engine.docker("ps", "--all", "--quiet", f"--filter=label={LABEL}=container").stdout.split()
        if strays:
            engine.docker("rm", "--force", *strays, check=False)
        # Neither can be removed while a container of another run has it.
        engine.docker("network", "rm", NETWORK, check=False)
        images: list[str] = []
        # One that others are made of goes after them.
        while (left := _images(engine)) != images:
            images = left
            engine.docker("image", "rm", *images, check=False)
    end_if_idle()


def _images(engine: Engine) -> list[str]:
    return sorted(set(engine.docker("image", "ls", "--all", "--quiet", f"--filter=label={LABEL}").stdout.split()))


def _what_docker_says() -> str:
    if not shutil.which("docker"):
        return ""
    return "\n" + processes.run(["docker", "version"], check=False, timeout=60).stderr


def _start() -> None:
    """Start our own engine; nothing of it is left where that fails."""
    try:
        network = _free_network()
        before = {
            "boot": _BOOT.read_text(),
            "firewall": firewall.saved(),
            "forwarding": _FORWARDING.read_text(),
            "network": str(network),
            "absent": [str(path) for path in _WRITES if not path.exists()],
        }
        _BEFORE.write_text(json.dumps(before))
        _ip("link", "add", _BRIDGE, "type", "bridge")
        _ip("address", "add", f"{network.broadcast_address - 254}/24", "dev", _BRIDGE)
        _ip("link", "set", _BRIDGE, "up")
        _GROUP.create()
        # The machine's own configuration is not for it.
        (_DIRECTORY / "daemon.json").write_text("{}")
        daemon: list[str | Path] = [
            toolchain.tool("dockerd"),
            f"--config-file={_DIRECTORY / 'daemon.json'}",
            f"--host={OWN.host}",
            f"--data-root={_DIRECTORY / 'data'}",
            "--exec-root=/run/docker",
            "--pidfile=/run/docker.pid",
            f"--bridge={_BRIDGE}",
            f"--default-address-pool=base={next(network.subnets())},size=24",
            f"--cgroup-parent={_GROUP.path}",
            f"--add-runtime=pullpass={capabilities.runtime(_DIRECTORY)}",
            "--default-runtime=pullpass",
        ]
        spaces: list[str | Path] = [
            toolchain.tool("unshare"),
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--",
        ]
        log = _DIRECTORY / "engine.log"
        processes.start([*spaces, "/bin/sh", "-c", _INIT, "engine", *daemon], pid_file=PID_FILE, log=log)
        processes.wait_until(OWN.answers, "the Docker engine answers", timeout=60, pid_files=[PID_FILE], log=log)
    except BaseException:
        _end()
        raise


def _end() -> None:
    """End our own engine, in whatever state it is, and put the machine back. The locks stay, for who holds them."""
    # SIGKILL, as nothing in it is to be kept. The kernel ends what is in its namespaces.
    processes.stop(PID_FILE, first=signal.SIGKILL)
    if _BEFORE.exists():
        _put_back(json.loads(_BEFORE.read_text()))
    _GROUP.remove()
    for entry in _DIRECTORY.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.suffix != ".lock":
            entry.unlink()


def _put_back(before: dict[str, Any]) -> None:
    # A machine that was started anew since has none of it, and may have an engine of its own by now.
    if before["boot"] == _BOOT.read_text():
        network = IPv4Network(before["network"])
        bridges = _bridges(network)
        firewall.clean(before["firewall"], bridges, network)
        _FORWARDING.write_text(before["forwarding"])
        for name in bridges:
            _ip("link", "delete", name)
    for path in map(Path, reversed(before["absent"])):
        if path.is_file():
            path.unlink()
        for directory, _, _ in os.walk(path, topdown=False):
            with suppress(OSError):  # somebody has put something there
                os.rmdir(directory)


def _bridges(network: IPv4Network) -> list[str]:
    """The bridges of our own engine: those with an address in its network, and the one that may not have it yet."""
    fields = [line.split() for line in _ip("-4", "-oneline", "address", "show", "type", "bridge").splitlines()]
    found = {name for _, name, _, address, *_ in fields if IPv4Interface(address).ip in network}
    return sorted(found | ({_BRIDGE} if Path("/sys/class/net", _BRIDGE).exists() else set()))


def _free_network() -> IPv4Network:
    listed = _ip("-4", "route", "show", "table", "all")
    routes = [IPv4Network(word, strict=False) for word in listed.split() if re.fullmatch(r"[0-9.]+(/[0-9]+)?", word)]
    free = (one for one in _NETWORKS if not any(one.overlaps(route) for route in routes))
    network = next(free, None)
    if network is None:
        raise RuntimeError(f"no network is free for a Docker engine: tried {', '.join(map(str, _NETWORKS))}")
    return network


def _ip(*arguments: str) -> str:
    return processes.run([toolchain.tool("ip"), *arguments]).stdout


@contextmanager
def _locked(name: str, how: int = fcntl.LOCK_EX) -> Iterator[None]:
    """Hold a lock in the engine's directory. The kernel drops it with its holder."""
    with _lock_file(_DIRECTORY / f"{name}.lock", how):
        yield


def _lock_file(path: Path, how: int) -> TextIO:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with suppress(FileNotFoundError), ExitStack() as opened:
            lock = opened.enter_context(open(path, "w"))
            fcntl.flock(lock, how)
            # Whoever had it before may have removed the directory, and this file is nobody's lock any more.
            if os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
                opened.pop_all()
                return lock
