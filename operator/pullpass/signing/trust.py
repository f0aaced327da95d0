"""What registries are given: the trust bundle and the JWKS, as the contents of one ConfigMap."""

from collections.abc import Mapping
from datetime import datetime

from cryptography import x509

from pullpass.signing import jwks
from pullpass.signing.certificates import KeyPair, issued_by

BUNDLE_KEY = "ca.crt"
JWKS_KEY = "jwks.json"
REPLACED_KEYS = 4
"""At most so many replaced keys stay in the JWKS: far more than a regular renewal ever leaves."""


def contents(ca: KeyPair, leaf: KeyPair, published: Mapping[str, str], now: datetime) -> dict[str, str]:
    """The ConfigMap's data, given what it holds now.

    The bundle is the CA that issues leaves and nothing above it: what else its root certified must not sign
    access tokens. The JWKS has the leaf's key first and keeps those it replaced until their certificates end,
    as long as they are of the same CA.
    """
    replaced = [
        certificate
        for certificate in jwks.certificates(published.get(JWKS_KEY, ""))
        if certificate != leaf.certificate and _counts(certificate, ca, now)
    ]
    replaced.sort(key=lambda certificate: certificate.not_valid_before_utc, reverse=True)
    return {
        BUNDLE_KEY: ca.certificate_pem.decode(),
        JWKS_KEY: jwks.document([leaf.certificate, *replaced[:REPLACED_KEYS]]),
    }


def _counts(certificate: x509.Certificate, ca: KeyPair, now: datetime) -> bool:
    return jwks.valid_at(certificate, now) and issued_by(certificate, ca.certificate)
