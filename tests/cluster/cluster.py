"""What a cluster to test on is, whoever provides it."""

import os
import subprocess
from abc import ABC, abstractmethod
from pathlib import Path

from . import toolchain


class Cluster(ABC):
    """A running cluster.

    `localhost:<registry_port>` is the registry's NodePort both for the nodes' container runtimes and for
    programs on this machine, so one image reference means the same to both; `token_port` likewise for the
    token server. What comes from this machine goes by way of the first node. Without a node nothing can listen there.
    """

    name: str
    kubeconfig: Path
    """Full rights, usable from this machine."""
    registry_port: int
    token_port: int
    nodes: tuple[str, ...]
    """The names of the nodes. The control plane is on the first; without any there is nothing else."""

    def kubectl(
        self, *args: str, input: str | None = None, check: bool = True, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl of the cluster's own version; output is in the result, or in the error if it fails."""
        done = subprocess.run(
            [toolchain.tool("kubectl"), *args],
            input=input,
            env={**os.environ, "KUBECONFIG": str(self.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode:
            raise RuntimeError(f"kubectl {' '.join(args)}: exit status {done.returncode}\n{done.stderr}{done.stdout}")
        return done

    @abstractmethod
    def load_image(self, archive: Path) -> None:
        """Put an OCI archive (`images`) onto every node, under the name that the archive gives it."""

    @abstractmethod
    def trust(self, registry: str, ca: str) -> None:
        """Have every node's container runtime trust this CA (PEM) for the registry of this URL and its token server."""

    @abstractmethod
    def kill_container(self, node: str, container: str) -> None:
        """Send SIGKILL to a container's first process, as the kernel does where memory runs out.

        `container` is the id that the pod's status has, without the runtime in front of it.
        """

    @abstractmethod
    def stop_api_server(self) -> None:
        """Take the API server away, as a failing control plane would; what is stored stays."""

    @abstractmethod
    def start_api_server(self) -> None:
        """Bring the API server back and wait until it is ready."""

    @abstractmethod
    def stop(self) -> None:
        """End the cluster and remove everything that it left."""
