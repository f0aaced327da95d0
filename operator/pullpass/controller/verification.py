"""How the operator knows its token servers over TLS before it tells them a password.

It connects to pods, by their addresses, which no certificate is for. So it goes by the Secret that the token servers
serve with: a certificate for the Service's name, of a CA that the Secret names, is verified as any client does it.
Otherwise, for a certificate from elsewhere and for other names, nothing but that very certificate is accepted.
"""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pullpass.controller.keys.storage import CA, CERTIFICATE, KeySecretError, content, where
from pullpass.kube.client import Kube
from pullpass.kube.resources import SECRETS
from pullpass.signing.certificates import CertificateError, load_certificates, subject_names

LOOK_SECONDS = 10.0
"""How long a changed Secret goes unnoticed. The kubelet takes longer to bring it to the token servers."""


@dataclass(frozen=True)
class Terms:
    """What a server has to show."""

    context: ssl.SSLContext
    host: str | None
    """The name that its certificate must be for; None: the context accepts no certificate but known ones."""


class Verification:
    """The terms for the servers that serve with one Secret, kept current."""

    def __init__(self, kube: Kube, namespace: str, secret: str, service: str) -> None:
        self._kube = kube
        self._namespace = namespace
        self._secret = secret
        self._host = f"{service}.{namespace}.svc"
        self._terms: Terms | None = None
        self._of: object = None
        self._looked = float("-inf")
        self._leaf: x509.Certificate | None = None
        self._before: x509.Certificate | None = None

    async def terms(self) -> Terms:
        """What a server has to show now. Raises KeySecretError where the Secret is of no use, KubeError."""
        now = asyncio.get_running_loop().time()
        if self._terms is None or now - self._looked > LOOK_SECONDS:
            secret = await self._kube.get(SECRETS, self._namespace, self._secret)
            if self._terms is None or secret.get("data") != self._of:
                self._terms, self._of = self._read(secret), secret.get("data")
            self._looked = now
        return self._terms

    def _read(self, secret: Mapping[str, Any]) -> Terms:
        try:
            leaf = load_certificates(content(secret, CERTIFICATE))[0]
        except CertificateError:
            raise KeySecretError(f"{where(secret)}: {CERTIFICATE} is not readable PEM. Correct it.") from None
        if leaf != self._leaf:
            # Servers go on with the one before until the kubelet has brought them this one.
            self._before, self._leaf = self._leaf, leaf
        if (secret.get("data") or {}).get(CA) and self._is_for_the_service(secret, leaf):
            return Terms(_context(secret, content(secret, CA)), self._host)
        known = (one.public_bytes(Encoding.PEM) for one in (leaf, self._before) if one is not None)
        context = _context(secret, b"".join(known))
        context.check_hostname = False  # it is for other names, and no other certificate is accepted
        return Terms(context, None)

    def _is_for_the_service(self, secret: Mapping[str, Any], leaf: x509.Certificate) -> bool:
        try:
            return self._host in subject_names(leaf)
        except CertificateError as error:
            raise KeySecretError(f"{where(secret)}: {CERTIFICATE}: {error}. Correct it.") from None


def _context(secret: Mapping[str, Any], trusted: bytes) -> ssl.SSLContext:
    """Accepts these certificates, and what those of them that are CAs have signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=trusted.decode("ascii"))
    except (ssl.SSLError, ValueError):
        raise KeySecretError(f"{where(secret)}: {CA} is not readable PEM. Correct it.") from None
    return context
