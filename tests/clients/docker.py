"""Docker: its command line and an engine, which is what speaks to registries: GET at the realm with Basic."""

import io
import json
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from tests.cluster import toolchain
from tests.cluster.engine import Engine

from .client import WRONG, Client
from .content import Content, blobs_of, digest_of

CERTIFICATES = Path("/etc/docker/certs.d")
"""Where an engine finds the CAs to trust, in a directory for each registry's host and port."""
_SAYS = {"": "denied: requested access to the resource is denied", "wrong": WRONG, "anonymous": WRONG}
_PADDING = bytes(10240)


class Docker(Client):
    """Leaves no image in the engine, which may be somebody's.

    `trust` holds while a command runs. Without it the registry's host is `localhost`, for which an engine asks for no
    certificate.
    """

    name = "docker"
    says = _SAYS
    mounts_config = False
    engine: ClassVar[Engine]
    """The engine to work on; set where one is used."""

    def login(self) -> None:
        self.say_login()

    def say_login(self) -> str:
        """Log in; what is printed."""
        assert self.credentials is not None
        user = ("--username", self.credentials.username, "--password-stdin")
        return self.docker("login", *user, self.registry, stdin=self.credentials.password)

    def pull(self, image: str) -> str:
        with self._image(image) as name:
            said = self.docker("pull", name)
            assert "Already exists" not in said, f"not all of it was fetched:\n{said}"
            [found] = json.loads(self.docker("image", "inspect", "--format={{json .RepoDigests}}", name))
        return str(found.partition("@")[2])

    def push(self, content: Content, image: str) -> None:
        with self._image(image) as name:
            self.docker("load", "--input", self._archive(content, name))
            self.docker("push", name)

    def mount(self, source: str, target: str) -> None:
        with self._image(source) as pulled, self._image(target) as name:
            self.docker("pull", pulled)
            self.docker("tag", pulled, name)
            self.docker("push", name)

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "DOCKER_HOST": self.engine.host}

    def docker(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """All that the command prints."""
        with self._trusted():
            done = self.running(toolchain.tool("docker"), *arguments, stdin=stdin)
        return f"{done.stdout}{done.stderr}"

    def buildx(self, *arguments: str | Path) -> str:
        """All that `docker buildx` prints, which is a plugin."""
        plugin = self.directory / "cli-plugins/docker-buildx"
        if not plugin.exists():
            plugin.parent.mkdir()
            plugin.symlink_to(toolchain.tool("docker-buildx"))
        return self.docker("buildx", *arguments)

    @contextmanager
    def _image(self, image: str) -> Iterator[str]:
        """The whole name of an image, which the engine has neither before nor after."""
        name = f"{self.registry}/{image}"
        self.engine.docker("image", "rm", name, check=False)
        try:
            yield name
        finally:
            self.engine.docker("image", "rm", name, check=False)

    def _archive(self, content: Content, name: str) -> Path:
        """The image under this name, in the one form that engines of all versions load.

        Its layers are the content's with zeros behind: a layer that the engine has pulled from the registry, for
        whomever, it would mount from there.
        """
        config_digest, *digests = blobs_of(content.manifest)
        layers = [content.blobs[digest] + _PADDING for digest in digests]
        config = json.loads(content.blobs[config_digest])
        config["rootfs"]["diff_ids"] = [digest_of(layer) for layer in layers]
        names = [f"{number}/layer.tar" for number, _ in enumerate(layers)]
        index = [{"Config": "config.json", "RepoTags": [name], "Layers": names}]
        files = {
            "manifest.json": json.dumps(index).encode(),
            "config.json": json.dumps(config).encode(),
            **dict(zip(names, layers, strict=True)),
        }
        target = self.fresh("pushed") / "image.tar"
        with tarfile.open(target, "w") as archive:
            for path, file in files.items():
                info = tarfile.TarInfo(path)
                info.size = len(file)
                archive.addfile(info, io.BytesIO(file))
        return target

    @contextmanager
    def _trusted(self) -> Iterator[None]:
        """Let the engine trust what this client trusts."""
        if self.trust is None:
            yield
            return
        with ExitStack() as made:
            directory = CERTIFICATES / self.registry
            for path in (*reversed([parent for parent in directory.parents if not parent.exists()]), directory):
                path.mkdir()
                made.callback(_remove_empty, path)
            bundle = directory / "ca.crt"
            made.callback(bundle.unlink)
            bundle.write_bytes(self.trust.read_bytes())
            yield


def _remove_empty(directory: Path) -> None:
    with suppress(OSError):  # somebody has put something there meanwhile
        directory.rmdir()
