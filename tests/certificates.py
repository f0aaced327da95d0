"""Certificates for tests, and directories that change as a mounted Secret does."""

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path

from pullpass.signing.certificates import KeyPair, new_server_ca, new_server_certificate

HOSTS = ("localhost", "127.0.0.1")


class Mount:
    """Certificate and key as the kubelet mounts a Secret: files are links, and one link exchanges all of them."""

    def __init__(self, directory: Path, ca: KeyPair | None = None) -> None:
        self.directory = directory
        self.ca = ca or new_server_ca(datetime.now(UTC))
        self._numbers = count()
        self.renew()

    @classmethod
    @contextmanager
    def temporary(cls) -> Iterator["Mount"]:
        """One for as long as the context lasts."""
        with tempfile.TemporaryDirectory() as directory:
            yield cls(Path(directory))

    def renew(self, *hosts: str) -> KeyPair:
        """Puts a new certificate there, for the loopback address or for these hosts."""
        pair = new_server_certificate(self.ca, hosts or HOSTS, datetime.now(UTC))
        self.put(pair.certificate_pem, pair.key_pem)
        return pair

    def put(self, certificate: bytes, key: bytes) -> None:
        """Puts these files there."""
        state = self.directory / f"..{next(self._numbers)}"
        state.mkdir()
        for name, content in {"tls.crt": certificate, "tls.key": key, "ca.crt": self.ca.certificate_pem}.items():
            (state / name).write_bytes(content)
            link = self.directory / name
            if not link.is_symlink():
                link.symlink_to(f"..data/{name}")
        new = self.directory / "..data_tmp"
        new.symlink_to(state.name)
        new.replace(self.directory / "..data")

    def client_context(self) -> ssl.SSLContext:
        """What a client that trusts the CA, and nobody else, connects with."""
        return ssl.create_default_context(cadata=self.ca.certificate_pem.decode())
