"""containerd's own client, of 1 and 2, with the code that a kubelet's pulls go through: POST at the realm, then GET."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

from tests.cluster import processes, toolchain

from .client import Client
from .content import TAG, Content

_CONFIG = """\
version = 2
root = "{directory}/root"
state = "{directory}/state"
imports = []
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.tracing",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.overlayfs",
  "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "{socket}"

[plugins."io.containerd.internal.v1.opt"]
path = "{directory}/opt"

# Otherwise what was pulled in one namespace is not fetched in another.
[plugins."io.containerd.metadata.v1.bolt"]
content_sharing_policy = "isolated"

# What moves images in containerd 2; 1.6 does not have it. By default it is for overlayfs.
[[plugins."io.containerd.transfer.v1.local".unpack_config]]
platform = "linux"
snapshotter = "native"
"""


@contextmanager
def containerd(program: str, directory: Path) -> Iterator[Path]:
    """A containerd of our own; gives its socket."""
    socket, pid_file, log = directory / "containerd.sock", directory / "containerd.pid", directory / "log"
    config = directory / "containerd.toml"
    config.write_text(_CONFIG.format(directory=directory, socket=socket))
    processes.start([toolchain.tool(program), "--config", config], pid_file=pid_file, log=log)
    try:
        processes.wait_until(socket.exists, "containerd answers", timeout=120, pid_files=[pid_file], log=log)
        yield socket
    finally:
        processes.stop(pid_file)


# It prints no text of a token server's, but the status.
_SAYS = {
    "": "insufficient_scope: authorization failed",
    "wrong": "401 Unauthorized",
    "anonymous": "401 Unauthorized",
}


class Ctr2(Client):
    name = "ctr2"
    says = _SAYS
    program: ClassVar[str] = "ctr"
    daemon: ClassVar[str] = "containerd"
    socket: ClassVar[Path]
    """Of the containerd to work on; set where one is started."""

    def pull(self, image: str) -> str:
        space = self.fresh("pulled").name
        name = f"{self.registry}/{image}"
        self._ctr(space, "images", "pull", *self._login(), "--snapshotter=native", name)
        return self._digest(space, name)

    def push(self, content: Content, image: str) -> None:
        space = self.fresh("pushed").name
        self._ctr(space, "images", "import", "--no-unpack", content.archive)
        self._ctr(space, "images", "push", *self._login(), f"{self.registry}/{image}", f"localhost/app:{TAG}")

    def _login(self) -> list[str]:
        if self.credentials is None:
            return self._way()
        return [*self._way(), "--user", f"{self.credentials.username}:{self.credentials.password}"]

    def _way(self) -> list[str]:
        """How it reaches the registry. What a node is told in hosts.toml holds for the token server as well."""
        if self.trust is None:
            return ["--plain-http"]
        hosts = self.directory / "hosts"
        told = hosts / self.registry / "hosts.toml"
        told.parent.mkdir(parents=True, exist_ok=True)
        # containerd 1.6 wants a table for the host, and 2 goes on to the server, of which on localhost it asks for no
        # certificate if it is not told of a CA.
        server, ca = f"https://{self.registry}", f'ca = "{self.trust}"\n'
        told.write_text(f'server = "{server}"\n{ca}[host."{server}"]\n{ca}')
        return [f"--hosts-dir={hosts}"]

    def environment(self) -> dict[str, str]:
        return {key: value for key, value in super().environment().items() if key != "SSL_CERT_FILE"}

    def _digest(self, space: str, name: str) -> str:
        for line in self._ctr(space, "images", "list").splitlines():
            words = line.split()
            if words[0] == name:
                return words[2]
        raise AssertionError(f"{name} is not listed")

    def _ctr(self, space: str, *arguments: str | Path) -> str:
        # A namespace for each client and operation: containerd keeps what it has.
        name = f"{self.directory.name}-{space}"
        return self.run(toolchain.tool(self.program), f"--address={self.socket}", f"--namespace={name}", *arguments)


class Ctr1(Ctr2):
    """Debian's."""

    name = "ctr1"
    program = "/usr/bin/ctr"
    daemon = "/usr/bin/containerd"
