"""Loads the certificate that the token server serves from files, and loads it again when they change.

A connection keeps the certificate that it was opened with, and new connections get the new one. So a renewal interrupts
nothing.
"""

import asyncio
import logging
import ssl
from dataclasses import dataclass, field
from pathlib import Path

from pullpass.signing.certificates import CertificateError, load_pair, subject_names
from pullpass.tokenserver.http.tls import server_context

log = logging.getLogger(__name__)

CERTIFICATE, KEY = "tls.crt", "tls.key"
POLL_SECONDS = 5.0
"""Between two looks at the files. The kubelet takes a minute or more to update them."""


class ServedCertificate:
    """The certificate and key in a directory, as the kubelet mounts a Secret of type kubernetes.io/tls.

    Raises CertificateError where they are missing or cannot be used.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._logged_error = ""
        self._content = self._read()
        self._load(self._content)

    @property
    def context(self) -> ssl.SSLContext:
        """The TLS context for new connections. It is replaced as a whole, so certificate and key always match."""
        return self._context

    async def watch(self) -> None:
        """Reloads the certificate when its files change, until cancelled."""
        while True:
            await asyncio.sleep(POLL_SECONDS)
            try:
                self.reload()
            except Exception:
                log.exception("checking for a new certificate failed; the current one stays in use")

    def reload(self) -> None:
        """Loads the files if they have changed. Where they cannot be used, the current certificate stays in use, and
        the error is logged once."""
        try:
            content = self._read()
            if content != self._content:
                self._load(content)
                self._content = content
            self._logged_error = ""
        except CertificateError as error:
            if str(error) != self._logged_error:
                self._logged_error = str(error)
                log.error("%s. The current one stays in use until %s.", error, self.not_after.isoformat())

    def _read(self) -> "_Content":
        # The kubelet replaces all files of a Secret at once, by changing one symbolic link to their directory. So both
        # files are read through one resolution of that link.
        files = (self._directory / CERTIFICATE).resolve().parent
        try:
            return _Content(files, (files / CERTIFICATE).read_bytes(), (files / KEY).read_bytes())
        except OSError as error:
            raise CertificateError(
                f"cannot read {CERTIFICATE} and {KEY} in {self._directory} ({type(error).__name__}): "
                "mount a Secret of type kubernetes.io/tls there"
            ) from None

    def _load(self, content: "_Content") -> None:
        try:
            pair = load_pair(content.certificate, content.key)
            # OpenSSL reads the files itself, and refuses a key that does not belong to the certificate.
            context = server_context(content.files / CERTIFICATE, content.files / KEY)
            names = ", ".join(subject_names(pair.certificate)) or "no name"
        except (CertificateError, ssl.SSLError, OSError, ValueError) as error:
            raise CertificateError(
                f"cannot use the certificate in {self._directory}: {error}; correct the Secret that is mounted there"
            ) from None
        self._context = context
        self.not_after = pair.not_after
        """When the certificate expires."""
        log.info("serving a certificate for %s until %s", names, self.not_after.isoformat())


@dataclass(frozen=True)
class _Content:
    """The contents of the files."""

    files: Path = field(compare=False)
    certificate: bytes
    key: bytes = field(repr=False)
