"""Creates access tokens: JWTs (RFC 7519) that registries verify without calling us.

ES256 (RFC 7518) with an `x5c` header (RFC 7515) is the form that all versions of CNCF Distribution accept.
"""

import base64
import json
import secrets
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from pullpass.signing.certificates import CertificateError, load_pair
from pullpass.signing.jwks import encode, thumbprint

SKEW = timedelta(seconds=10)
"""How far `nbf` and `iat` are in the past: some registries allow no clock skew for them."""


_ES256 = ec.ECDSA(hashes.SHA256())
_json = json.JSONEncoder(separators=(",", ":")).encode
"""Like json.dumps, which creates an encoder in each call."""


class Signer:
    """Signs access tokens with one leaf."""

    def __init__(self, key_pem: bytes, chain_pem: bytes) -> None:
        """Loads the leaf's key and certificate, with any intermediate certificates after it, all as PEM.

        Raises CertificateError where they cannot be used; its text has no key material.
        """
        pair = load_pair(chain_pem, key_pem)
        if not isinstance(pair.key, ec.EllipticCurvePrivateKey) or not isinstance(pair.key.curve, ec.SECP256R1):
            raise CertificateError("the key is not EC P-256, as ES256 needs it")
        self._key = pair.key
        # Root certificates are not sent: a registry trusts only those that it has itself.
        sent = [pair.certificate, *(c for c in pair.chain if c.issuer != c.subject)]
        self.not_after: datetime = min(certificate.not_valid_after_utc for certificate in sent)
        """When registries stop accepting what this signer signs."""
        self.kid: str = thumbprint(pair.key.public_key())
        """The key's id in the JWKS."""
        x5c = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode() for certificate in sent]
        self._header = _segment({"typ": "JWT", "alg": "ES256", "kid": self.kid, "x5c": x5c}) + "."

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Returns the claims as a compact JWS."""
        content = self._header + _segment(claims)
        r, s = decode_dss_signature(self._key.sign(content.encode(), _ES256))
        return f"{content}.{encode(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def new_token_id() -> str:
    """Returns a unique `jti` of 128 random bits."""
    return secrets.token_urlsafe(16)


def access_claims(
    *,
    issuer: str,
    service: str,
    subject: str,
    access: Iterable[Mapping[str, Any]],
    now: datetime,
    lifetime: timedelta,
    not_after: datetime | None = None,
    token_id: str,
) -> dict[str, Any]:
    """Returns the claims of an access token; times are in seconds since 1970, rounded down.

    `access` is the granted access (`type`, `name`, `actions`). The access token expires after `lifetime`, or at
    `not_after` (the end of its password or RegistryToken) if that is earlier. Raises ValueError where that has passed.
    Registries accept `exp` for up to 60 s longer.
    """
    end = now + lifetime if not_after is None else min(now + lifetime, not_after)
    if end <= now:
        raise ValueError(f"cannot issue an access token: the credential ended at {end.isoformat()}")
    issued = int((now - SKEW).timestamp())
    return {
        "iss": issuer,
        "sub": subject,
        "aud": service,
        "exp": int(end.timestamp()),
        "nbf": issued,
        "iat": issued,
        "jti": token_id,
        "access": [dict(entry) for entry in access],
    }


def _segment(content: Mapping[str, Any]) -> str:
    return encode(_json(content).encode())
