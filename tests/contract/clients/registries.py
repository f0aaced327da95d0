"""Registries to run the clients against: of each version one behind the token server, and one open to all."""

import http.client
import json
import os
import re
import ssl
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tests.clients.content import blobs_of
from tests.cluster import ports, processes, toolchain

from .realm import ISSUER, LOOPBACK, SERVICE, Realm

PROGRAMS = {"2.8.2": "docker-registry", "3.1.2": "registry"}
"""CNCF Distribution, by version."""
FILES = {"certificate": "tls.crt", "key": "tls.key"}
_MOUNT = re.compile(r'"POST /v2/(\S+)/blobs/uploads/\?\S*mount=\S* HTTP/1.1" (\d+)')


@dataclass(frozen=True)
class Registry:
    """A registry that runs. What is in it is read from its files, so that nobody needs to be let in."""

    host: str
    directory: Path

    def content(self, image: str) -> list[str]:
        """The digests of the blobs that an image of the registry is made of."""
        repository, _, tag = image.partition(":")
        digest = (self._repositories / repository / f"_manifests/tags/{tag}/current/link").read_text()
        kind, _, name = digest.partition(":")
        blob = self._storage / f"blobs/{kind}/{name[:2]}/{name}/data"
        return blobs_of(blob.read_bytes())

    def tree(self) -> dict[str, int]:
        """Every file about repositories (tags, manifests, layers, uploads that were begun) and when it was written."""
        return {
            file: os.stat(file).st_mtime_ns
            for directory, _, names in os.walk(self._repositories)
            for file in (f"{directory}/{name}" for name in names)
        }

    def manifests(self, repository: str) -> list[str]:
        """The tags and the digests of the manifests that are in a repository now."""
        top = self._repositories / repository / "_manifests"
        return sorted(str(link.relative_to(top)) for link in top.rglob("link"))

    def mounts(self, repository: str, expected: int) -> list[int]:
        """The registry's answers to requests to mount a blob, challenges apart, once there are so many.

        It logs them only after the client has them.
        """
        what = f"{expected} mounts into {repository}"
        processes.wait_until(lambda: len(self._mounts(repository)) >= expected, what, timeout=30, log=self._log)
        return self._mounts(repository)

    def _mounts(self, repository: str) -> list[int]:
        asked: list[tuple[str, str]] = _MOUNT.findall(self._log.read_text())
        return [int(status) for name, status in asked if name == repository and status != "401"]

    @property
    def _storage(self) -> Path:
        return self.directory / "storage/docker/registry/v2"

    @property
    def _repositories(self) -> Path:
        return self._storage / "repositories"

    @property
    def _log(self) -> Path:
        return self.directory / "log"


@contextmanager
def running(version: str, directory: Path, realm: Realm | None) -> Iterator[Registry]:
    """A registry that sends clients to the realm, or lets everybody do everything where there is none.

    It serves at the realm's address, and with its certificate where that has one.
    """
    port = ports.free()
    address, host = (realm.address, realm.host_name) if realm is not None else (LOOPBACK, "localhost")
    served = {"addr": f"{address}:{port}", "secret": "of this test"}
    config: dict[str, object] = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}, "delete": {"enabled": True}},
        "http": served,
    }
    if realm is not None:
        bundle = directory / "ca.crt"
        bundle.write_bytes(realm.ca.certificate_pem)
        token = {"realm": realm.url, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(bundle)}
        config["auth"] = {"token": token}
        if realm.mount is not None:
            files = {name: str(realm.mount.directory / file) for name, file in FILES.items()}
            config["http"] = {**served, "tls": files}
    file, pid_file, log = directory / "config.yml", directory / "pid", directory / "log"
    file.write_text(json.dumps(config))
    program = toolchain.tool(PROGRAMS[version])
    # Off, or it looks for a collector of traces that is not there.
    processes.start([program, "serve", file], pid_file=pid_file, log=log, env={"OTEL_TRACES_EXPORTER": "none"})
    tls = realm.mount.client_context() if realm is not None and realm.mount is not None else None
    try:
        processes.wait_until(
            partial(_answers, address, port, tls), "it answers", timeout=120, pid_files=[pid_file], log=log
        )
        yield Registry(f"{host}:{port}", directory)
    finally:
        processes.stop(pid_file)


def _answers(address: str, port: int, tls: ssl.SSLContext | None) -> bool:
    connection = (
        http.client.HTTPConnection(address, port, timeout=30)
        if tls is None
        else http.client.HTTPSConnection(address, port, timeout=30, context=tls)
    )
    with closing(connection):
        try:
            connection.request("GET", "/v2/")
            return connection.getresponse().status in (200, 401)
        except OSError:
            return False
