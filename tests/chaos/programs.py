"""The two processes of pullpass, as processes of this machine."""

import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from pullpass.api import registries
from tests.cluster import ControlPlane, processes

SYSTEM = "pullpass-system"
CREDENTIALS = "pullpass-system-credentials"
REGISTRIES = Path(__file__).with_name("registries.json")
DEFAULT, SECOND = registries.load(REGISTRIES)
"""The registry of all tokens but those of single tests, and one more."""
SERVICE = DEFAULT.service
(REGISTRY_HOST,) = DEFAULT.hosts


def operator(identity: str, health_port: int, metrics_port: int, token_servers: str) -> list[str]:
    """The command line of an operator. `token_servers` is the name of their management Service."""
    return [
        "operator",
        f"--namespace={SYSTEM}",
        f"--credentials-namespace={CREDENTIALS}",
        f"--registries={REGISTRIES}",
        f"--token-server-service={token_servers}",
        f"--health-port={health_port}",
        f"--metrics-port={metrics_port}",
        f"--identity={identity}",
    ]


def token_server(port: int, management_port: int) -> list[str]:
    """The command line of a token server."""
    return [
        "token-server",
        f"--credentials-namespace={CREDENTIALS}",
        f"--registries={REGISTRIES}",
        f"--port={port}",
        f"--management-port={management_port}",
        "--drain-seconds=0",
    ]


class Program:
    """A process of pullpass. Its pid file lies with those of the cluster, so it ends with it at the latest."""

    def __init__(self, cluster: ControlPlane, name: str, arguments: Sequence[str], kubeconfig: Path) -> None:
        self.name = name
        self.log = cluster.log(name)
        self.begun = 0.0
        """When it was started, on the monotonic clock."""
        self._arguments = arguments
        self._pid_file = cluster.pid_file(name)
        self._kubeconfig = kubeconfig
        self._pid = 0
        self._status: int | None = None

    def start(self) -> None:
        """Starts it, anew if it has ended."""
        assert not self.alive, f"{self.name} is running"
        self.begun, self._status = time.monotonic(), None
        command: list[str | Path] = [Path(sys.executable).with_name("pullpass"), *self._arguments]
        identity = processes.start(
            command, pid_file=self._pid_file, log=self.log, env={"KUBECONFIG": str(self._kubeconfig)}
        )
        self._pid = identity.pid

    @property
    def exit_status(self) -> int | None:
        """Its exit status, negative for the signal that ended it; None while it runs."""
        if self._pid and self._status is None:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._status = os.waitstatus_to_exitcode(status)
        return self._status

    @property
    def alive(self) -> bool:
        """Whether it runs, or stands still."""
        return self._pid != 0 and self.exit_status is None

    @property
    def pid(self) -> int:
        """Its process id, once it was started."""
        return self._pid

    def kill(self) -> None:
        """Ends it without a word, and waits for the end."""
        self._send(signal.SIGKILL)
        self._wait(60)

    def pause(self) -> None:
        """It stands still, and keeps its connections."""
        self._send(signal.SIGSTOP)

    def resume(self) -> None:
        """It goes on."""
        self._send(signal.SIGCONT)

    def terminate(self) -> None:
        """Asks it to end, as Kubernetes does first, and does not wait."""
        self._send(signal.SIGTERM)
        self.resume()

    def stop(self) -> None:
        """Ends it as Kubernetes would, and waits for the end."""
        self.terminate()
        if not self._wait(30):
            self.kill()

    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.begun

    def mebibytes(self) -> float:
        """Resident memory."""
        return self._memory("VmRSS")

    def peak_mebibytes(self) -> float:
        """The most memory that it has had."""
        return self._memory("VmHWM")

    def _memory(self, field: str) -> float:
        found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{self._pid}/status").read_text())
        assert found is not None
        return int(found[1]) / 1024

    def _send(self, number: signal.Signals) -> None:
        # Whoever has not been waited for keeps its pid, so it is nobody else's.
        if self.alive:
            os.kill(self._pid, number)

    def _wait(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self.alive and time.monotonic() < deadline:
            time.sleep(0.02)
        return not self.alive

    def __enter__(self) -> "Program":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
