"""Publishes the leaf's public keys as a JSON Web Key Set (RFC 7517), for registries that trust keys instead of a CA.

Each key has its certificate in `x5c`, so the document itself says how long a replaced key is still valid.
"""

import base64
import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

_COORDINATE = 32


def encode(content: bytes) -> str:
    """Encodes bytes as base64url without padding (RFC 7515)."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def full_length(key: ec.EllipticCurvePublicKey) -> bool:
    """Tells whether it is a P-256 key neither of whose coordinates starts with a zero byte.

    CNCF Distribution 3 drops leading zero bytes before it hashes a key. So for 1 key in 128 its key id differs from the
    one of RFC 7638; such keys are not used.
    """
    numbers = key.public_numbers()
    least = 1 << 8 * (_COORDINATE - 1)
    return isinstance(key.curve, ec.SECP256R1) and numbers.x >= least and numbers.y >= least


def thumbprint(key: ec.EllipticCurvePublicKey) -> str:
    """Returns the key id of a P-256 key: its SHA-256 thumbprint of RFC 7638."""
    canonical = json.dumps(_required(key), sort_keys=True, separators=(",", ":"))
    return encode(hashlib.sha256(canonical.encode()).digest())


def jwk(certificate: x509.Certificate) -> dict[str, Any]:
    """Returns the JWK of a leaf certificate. Raises ValueError where its key is not P-256."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("only P-256 keys sign access tokens")  # noqa: TRY004
    chain = [base64.b64encode(certificate.public_bytes(Encoding.DER)).decode()]
    return {**_required(key), "use": "sig", "alg": "ES256", "kid": thumbprint(key), "x5c": chain}


def document(certificates: Iterable[x509.Certificate]) -> str:
    """Returns the JWKS of these leaves. The same leaves give the same text."""
    return json.dumps({"keys": [jwk(certificate) for certificate in certificates]}, indent=2) + "\n"


def certificates(text: str) -> list[x509.Certificate]:
    """Reads the certificates of a JWKS that `document` wrote. Skips keys that cannot be parsed."""
    try:
        keys = json.loads(text)["keys"]
    except (ValueError, KeyError, TypeError):
        return []
    found = []
    for key in keys if isinstance(keys, list) else []:
        try:
            certificate = x509.load_der_x509_certificate(base64.b64decode(key["x5c"][0], validate=True))
            jwk(certificate)
        except (ValueError, KeyError, TypeError, IndexError, x509.InvalidVersion):
            continue
        found.append(certificate)
    return found


def valid_at(certificate: x509.Certificate, now: datetime) -> bool:
    """Tells whether a certificate is valid at this moment."""
    return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc


def _required(key: ec.EllipticCurvePublicKey) -> dict[str, str]:
    numbers = key.public_numbers()
    x, y = (encode(number.to_bytes(_COORDINATE, "big")) for number in (numbers.x, numbers.y))
    return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
