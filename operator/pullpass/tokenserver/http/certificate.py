"""The certificate that the token server serves with: read from files, and read again when they change.

A connection keeps the certificate that it was opened with; the next one gets what is there by then. So a renewal cuts
nothing off.
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
LOOK_SECONDS = 5.0
"""How long a new certificate goes unnoticed. The kubelet takes a minute or more to bring it."""


class ServedCertificate:
    """Certificate and key in a directory, as the kubelet mounts a Secret of type kubernetes.io/tls.

    Raises CertificateError where there is none that can be used.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._complaint = ""
        self._content = self._read()
        self._load(self._content)

    @property
    def context(self) -> ssl.SSLContext:
        """What the next connection is served with: replaced as a whole, so certificate and key always match."""
        return self._context

    async def watch(self) -> None:
        """Looks for a new certificate, for ever."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                self.look()
            except Exception:
                log.exception("looking for a new certificate failed; the last one is served on")

    def look(self) -> None:
        """Loads what is there if it is new. What cannot be used is said in the log, once, and the last one stays."""
        try:
            content = self._read()
            if content != self._content:
                self._load(content)
                self._content = content
            self._complaint = ""
        except CertificateError as error:
            if str(error) != self._complaint:
                self._complaint = str(error)
                log.error("%s. The certificate until %s is served on.", error, self.not_after.isoformat())

    def _read(self) -> "_Content":
        # The kubelet exchanges all files of a Secret at once, by the one link that leads to their directory: to follow
        # it once is to see both in the same state.
        files = (self._directory / CERTIFICATE).resolve().parent
        try:
            return _Content(files, (files / CERTIFICATE).read_bytes(), (files / KEY).read_bytes())
        except OSError as error:
            raise CertificateError(
                f"{self._directory} has no {CERTIFICATE} and {KEY} that can be read ({type(error).__name__}): "
                "mount a Secret of type kubernetes.io/tls there"
            ) from None

    def _load(self, content: "_Content") -> None:
        try:
            pair = load_pair(content.certificate, content.key)
            # OpenSSL reads the files once more, and takes no key that does not belong to the certificate.
            context = server_context(content.files / CERTIFICATE, content.files / KEY)
            names = ", ".join(subject_names(pair.certificate)) or "no name"
        except (CertificateError, ssl.SSLError, OSError, ValueError) as error:
            raise CertificateError(
                f"the certificate in {self._directory} cannot be used: {error}; "
                "correct the Secret that is mounted there"
            ) from None
        self._context = context
        self.not_after = pair.not_after
        """When the certificate ends."""
        log.info("serving a certificate for %s until %s", names, self.not_after.isoformat())


@dataclass(frozen=True)
class _Content:
    """What was in the files."""

    files: Path = field(compare=False)
    certificate: bytes
    key: bytes = field(repr=False)
