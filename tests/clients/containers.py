"""skopeo, podman and buildah, which share a library: GET at the realm with Basic."""

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from tests.cluster import toolchain

from .client import WRONG, Client, Credentials
from .content import Content, digest_of

_SAYS = {
    "": "denied: requested access to the resource is denied",
    "login": "invalid username/password",
    "wrong": WRONG,
    "anonymous": WRONG,
}
_SKOPEO_SAYS = {**_SAYS, "delete": "authentication required"}


class _Containers(Client):
    """They find the login in REGISTRY_AUTH_FILE, and buildah insists on the file."""

    program: ClassVar[str]

    def __init__(
        self, registry: str, credentials: Credentials | None, directory: Path, trust: Path | None = None
    ) -> None:
        super().__init__(registry, credentials, directory, trust)
        Path(self.environment()["REGISTRY_AUTH_FILE"]).write_text("{}")

    def login(self) -> None:
        assert self.credentials is not None
        user = ("--username", self.credentials.username, "--password-stdin")
        self.run(*self._program(), "login", self.verify(), *user, self.registry, stdin=self.credentials.password)

    def _program(self) -> list[str | Path]:
        return [toolchain.tool(self.program)]


class Skopeo(_Containers):
    name = program = "skopeo"
    says = _SKOPEO_SAYS

    def pull(self, image: str) -> str:
        target = self.fresh("pulled")
        # Of its targets this one keeps the manifest as it is.
        self.run(
            *self._program(),
            "copy",
            self.verify("src-tls-verify"),
            self._at(image),
            f"dir:{target}",
        )
        return digest_of((target / "manifest.json").read_bytes())

    def push(self, content: Content, image: str) -> None:
        source = f"oci-archive:{content.archive}"
        self.run(*self._program(), "copy", self.verify("dest-tls-verify"), source, self._at(image))

    def tags(self, repository: str) -> list[str]:
        listed = json.loads(self.run(*self._program(), "list-tags", self.verify(), self._at(repository)))
        return list(listed["Tags"])

    def delete(self, image: str) -> None:
        self.run(*self._program(), "delete", self.verify(), self._at(image))

    def _at(self, image: str) -> str:
        return f"docker://{self.registry}/{image}"


class _Storing(_Containers):
    """With a store of images, here a new one for each operation: from a full one nothing would be fetched."""

    def pull(self, image: str) -> str:
        with self._store() as store:
            self.run(*store, "pull", "--quiet", self.verify(), f"{self.registry}/{image}")
            [listed] = json.loads(self.run(*store, "images", "--format=json" if self.name == "podman" else "--json"))
        digest: str = listed.get("digest") or listed["Digest"]
        return digest

    def push(self, content: Content, image: str) -> None:
        with self._store() as store:
            pulled = self.run(*store, "pull", "--quiet", f"oci-archive:{content.archive}").strip()
            self.run(*store, "push", "--quiet", self.verify(), pulled, f"docker://{self.registry}/{image}")

    @contextmanager
    def _store(self) -> Iterator[list[str | Path]]:
        """The program with options that name the store. vfs needs no kernel that can overlay."""
        # Not below our directory: podman takes no path for this one that is as long as those of tests.
        with tempfile.TemporaryDirectory(prefix="run-") as run:
            yield [*self._program(), f"--root={self.fresh('store')}", f"--runroot={run}", "--storage-driver=vfs"]


class Podman(_Storing):
    name = program = "podman"
    says = _SAYS

    def tags(self, repository: str) -> list[str]:
        place = f"{self.registry}/{repository}"
        with self._store() as store:
            listed = json.loads(self.run(*store, "search", self.verify(), "--list-tags", "--format=json", place))
        return [tag for entry in listed for tag in entry["Tags"]]

    def catalog(self) -> list[str]:
        command = ("search", self.verify(), "--limit=100", "--format={{.Name}}", f"{self.registry}/")
        with self._store() as store:
            return [line.removeprefix(f"{self.registry}/") for line in self.run(*store, *command).split()]


class DebianBuildah(_Storing):
    name = "buildah-debian"
    program = "/usr/bin/buildah"
    says = _SAYS


class Buildah(_Storing):
    name = program = "buildah"
    says: ClassVar = {**_SAYS, "": "requested access to the resource is denied"}

    def _program(self) -> list[str | Path]:
        toolchain.tool("/usr/lib/podman/netavark")  # without it no command starts, whether it needs a network or not
        return super()._program()
