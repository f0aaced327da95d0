"""Registry clients that people use: skopeo and crane, each with a configuration of its own."""

import json
import os
import subprocess
import tarfile
from abc import ABC, abstractmethod
from pathlib import Path

from tests.cluster import toolchain

from .tokens import Credentials


class Client(ABC):
    """One client with one login. Each action raises RefusedError where the registry does not let it."""

    def __init__(self, registry: str, credentials: Credentials, directory: Path) -> None:
        self.registry = registry
        self.credentials = credentials
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    @abstractmethod
    def login(self) -> None:
        """The client's own login command."""

    @abstractmethod
    def push(self, archive: Path, image: str) -> None:
        """Push an OCI archive under `repository:tag`."""

    @abstractmethod
    def pull(self, image: str) -> None: ...

    @abstractmethod
    def delete(self, image: str) -> None: ...

    def _run(self, *command: str | Path, input: str | None = None) -> str:
        done = subprocess.run(
            list(map(str, command)),
            input=input,
            env={**os.environ, "DOCKER_CONFIG": str(self.directory)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        said = f"{done.stdout}{done.stderr}"
        if done.returncode:
            words = ("unauthorized", "denied", "authentication required", "invalid username/password")
            kind = RefusedError if any(word in said.lower() for word in words) else RuntimeError
            raise kind(f"{Path(command[0]).name} {command[1]}: {said}")
        return said


class RefusedError(Exception):
    """The registry or the token server said no."""


class Skopeo(Client):
    @property
    def _authfile(self) -> str:
        return f"--authfile={self.directory}/auth.json"

    def login(self) -> None:
        user = f"--username={self.credentials.username}"
        command = (toolchain.tool("skopeo"), "login", "--tls-verify=false", self._authfile, user)
        self._run(*command, "--password-stdin", self.registry, input=self.credentials.password)

    def push(self, archive: Path, image: str) -> None:
        target = f"docker://{self.registry}/{image}"
        command = (toolchain.tool("skopeo"), "copy", "--dest-tls-verify=false", self._authfile)
        self._run(*command, f"oci-archive:{archive}", target)

    def pull(self, image: str) -> None:
        source = f"docker://{self.registry}/{image}"
        command = (toolchain.tool("skopeo"), "copy", "--src-tls-verify=false", self._authfile)
        self._run(*command, source, f"dir:{self.directory}/pulled")

    def delete(self, image: str) -> None:
        command = (toolchain.tool("skopeo"), "delete", "--tls-verify=false", self._authfile)
        self._run(*command, f"docker://{self.registry}/{image}")


class Crane(Client):
    def login(self) -> None:
        # `crane auth login` only writes the file; the first request is what tells.
        user = ("--username", self.credentials.username, "--password-stdin")
        self._run(self._crane, "auth", "login", self.registry, *user, input=self.credentials.password)

    def push(self, archive: Path, image: str) -> None:
        layout = self.directory / archive.stem
        if not layout.exists():
            with tarfile.open(archive) as content:
                content.extractall(layout, filter="data")
        self._run(self._crane, "push", layout, f"{self.registry}/{image}")

    def pull(self, image: str) -> None:
        self._run(self._crane, "pull", f"{self.registry}/{image}", self.directory / "pulled.tar")

    def delete(self, image: str) -> None:
        name, _, _ = image.partition(":")
        digest = json.loads(self._run(self._crane, "manifest", f"{self.registry}/{image}"))
        assert digest
        found = self._run(self._crane, "digest", f"{self.registry}/{image}").strip()
        self._run(self._crane, "delete", f"{self.registry}/{name}@{found}")

    def catalog(self) -> str:
        return self._run(self._crane, "catalog", self.registry)

    @property
    def _crane(self) -> Path:
        return toolchain.tool("crane")
