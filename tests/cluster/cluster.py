"""What a cluster to test on is, whoever provides it."""

import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from . import processes, toolchain


class Cluster(ABC):
    """A running cluster."""

    name: str
    kubeconfig: Path
    """Full rights, usable from this machine."""
    nodes: tuple[str, ...]
    """The names of the nodes. The control plane is on the first."""

    def kubectl(
        self, *args: str, input: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl of the newest version; output is in the result, or in the error if it fails."""
        return processes.run(
            [toolchain.tool("kubectl"), *args],
            input=input,
            env={"KUBECONFIG": str(self.kubeconfig)},
            check=check,
            timeout=timeout,
        )

    @abstractmethod
    def stop_api_server(self) -> None:
        """Take the API server away, as a failing control plane would; what is stored stays."""

    @abstractmethod
    def start_api_server(self) -> None:
        """Bring the API server back and wait until it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """End the cluster and remove everything that it left."""
