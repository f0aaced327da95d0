"""Issues and checks certificates: the CA and leaf behind access tokens, and those of our servers for TLS (RFC 5280).

Registries hold the CA alone, so the leaf can be renewed without touching them; `replacement` says how the CA itself is
replaced. Both of ours are EC P-256, which all versions of CNCF Distribution take. A CA that people bring may be RSA,
or an intermediate one.
"""

import ipaddress
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pullpass.signing.jwks import full_length

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

CA_LIFETIME = timedelta(days=3650)
LEAF_LIFETIME = timedelta(days=90)
SERVER_LIFETIME = timedelta(days=365)
"""Of a server's certificate. It is renewed with a third left, in which servers that read it only at start must
restart."""
BACKDATED = timedelta(hours=1)
"""How far a registry's clock may be behind ours: registries allow certificates no clock skew."""
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_SECOND = timedelta(seconds=1)
_Extension = TypeVar("_Extension", bound=x509.ExtensionType)


class CertificateError(ValueError):
    """A certificate or key that cannot be used. The message says why, and never holds key material."""


@dataclass(frozen=True)
class KeyPair:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)
    chain: tuple[x509.Certificate, ...] = ()
    """The certificates after it in its PEM file."""

    @property
    def certificate_pem(self) -> bytes:
        """The certificate, without its chain."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The private key as PKCS #8, unencrypted."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    @property
    def not_before(self) -> datetime:
        """The begin of its validity, in UTC."""
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        """The end of its validity, in UTC."""
        return self.certificate.not_valid_after_utc


def new_key() -> ec.EllipticCurvePrivateKey:
    """Generates a P-256 key whose thumbprint every registry computes alike, see `jwks.full_length`."""
    while True:
        key = ec.generate_private_key(ec.SECP256R1())
        if full_length(key.public_key()):
            return key


def new_ca(now: datetime) -> KeyPair:
    """Creates a self-signed CA that is valid for ten years and may issue leaves only."""
    return _new_ca("pullpass signing CA", now)


def _new_ca(common_name: str, now: datetime) -> KeyPair:
    key = new_key()
    name = _name(common_name)
    builder = (
        _builder(name, name, key.public_key(), now, now + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True), critical=True)
    )
    return KeyPair(builder.sign(key, hashes.SHA256()), key)


def new_leaf(ca: KeyPair, now: datetime) -> KeyPair:
    """Issues a leaf with a new key that is valid for 90 days, or until the CA expires if that is earlier."""
    key = new_key()
    ends = min(now + LEAF_LIFETIME, ca.not_after)
    builder = (
        _builder(_name("pullpass token server"), ca.certificate.subject, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(_authority(ca.certificate), critical=False)
    )
    return KeyPair(builder.sign(ca.key, hashes.SHA256()), key)


def new_server_ca(now: datetime) -> KeyPair:
    """Creates a self-signed CA for the certificates of our servers that is valid for ten years.

    It is not the CA of access tokens: to trust one of the two must not mean to trust the other.
    """
    return _new_ca("pullpass server CA", now)


def new_server_certificate(ca: KeyPair, hosts: Sequence[str], now: datetime) -> KeyPair:
    """Issues a server's certificate for these DNS names and IP addresses that is valid for a year.

    Raises CertificateError where one of `hosts` is neither.
    """
    key = new_key()
    ends = min(now + SERVER_LIFETIME, ca.not_after)
    builder = (
        _builder(_name("pullpass"), ca.certificate.subject, key.public_key(), now, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(_authority(ca.certificate), critical=False)
    )
    return KeyPair(builder.sign(ca.key, hashes.SHA256()), key)


def load_certificates(pem: bytes) -> list[x509.Certificate]:
    """Reads the certificates of a PEM file, at least one. Raises CertificateError."""
    # For a serial number that is not positive the library only warns; Go, and so Distribution, refuses negative ones.
    with warnings.catch_warnings(action="ignore", category=CryptographyDeprecationWarning):
        try:
            certificates = x509.load_pem_x509_certificates(pem)
        except (ValueError, x509.InvalidVersion):
            raise CertificateError("cannot parse the certificate as PEM") from None
        if any(certificate.serial_number <= 0 for certificate in certificates):
            raise CertificateError(
                "the certificate's serial number is not positive, as RFC 5280 requires: issue another"
            )
    return certificates


def load_pair(certificate_pem: bytes, key_pem: bytes) -> KeyPair:
    """Reads a certificate, with the chain after it in the file, and its private key.

    Raises CertificateError where they cannot be parsed or do not belong together.
    """
    certificate, *chain = load_certificates(certificate_pem)
    try:
        public_key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError("cannot parse the certificate as PEM") from None
    try:
        key = serialization.load_pem_private_key(key_pem, password=None)
    except TypeError:
        raise CertificateError("the private key is encrypted; store it without a passphrase") from None
    except (ValueError, UnsupportedAlgorithm):
        raise CertificateError("cannot parse the private key as PEM") from None
    if not isinstance(key, PrivateKey):
        raise CertificateError("the private key is neither RSA nor EC; not all registries support other kinds")
    if key.public_key() != public_key:
        raise CertificateError("the private key belongs to another certificate")
    return KeyPair(certificate, key, tuple(chain))


def check_ca(ca: KeyPair, now: datetime) -> None:
    """Raises CertificateError for a CA from which registries would not accept a leaf."""
    if not (constraints := _extension(ca.certificate, x509.BasicConstraints)) or not constraints.ca:
        raise CertificateError("the certificate is not that of a CA (basicConstraints lacks CA:TRUE)")
    if (usage := _extension(ca.certificate, x509.KeyUsage)) and not usage.key_cert_sign:
        raise CertificateError("the certificate may not sign others (keyUsage lacks keyCertSign)")
    if isinstance(ca.key, rsa.RSAPrivateKey):
        if ca.key.key_size < 2048:
            raise CertificateError(f"an RSA key of {ca.key.key_size} bits is too short; use at least 2048")
    elif not isinstance(ca.key.curve, _CURVES):
        raise CertificateError(f"registries do not support the curve {ca.key.curve.name}; use P-256, P-384 or P-521")
    if now >= ca.not_after:
        raise CertificateError(f"the certificate expired at {ca.not_after.isoformat()}")
    if now < ca.not_before:
        raise CertificateError(f"the certificate is not valid before {ca.not_before.isoformat()}")


def subject_names(certificate: x509.Certificate) -> list[str]:
    """Returns the DNS names and IP addresses in a server's certificate."""
    names = _extension(certificate, x509.SubjectAlternativeName)
    if names is None:
        return []
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def issued_by(certificate: x509.Certificate, ca: x509.Certificate) -> bool:
    """Tells whether the CA's key signed a certificate. A CA renewed over the same key and name counts as the same."""
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def same_authority(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Tells whether two certificates have the same subject and key, so that what one issued verifies under both."""
    return one.subject == other.subject and same_key(one, other)


def same_key(one: x509.Certificate, other: x509.Certificate) -> bool:
    """Tells whether two certificates have the same key. False where its kind is unknown."""
    try:
        return one.public_key() == other.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return False


def usable(leaf: KeyPair, ca: x509.Certificate, now: datetime) -> bool:
    """Tells whether registries that trust the CA accept at this moment what the leaf signs."""
    public_key = leaf.certificate.public_key()
    return isinstance(public_key, ec.EllipticCurvePublicKey) and full_length(public_key) and _valid(leaf, ca, now)


def leaf_due(leaf: KeyPair, ca: x509.Certificate, now: datetime) -> datetime:
    """Returns when to renew the leaf: with a third of its life left, or `now` where registries would refuse it."""
    return _due(leaf, ca) if usable(leaf, ca, now) else now


def server_certificate_due(server: KeyPair, ca: x509.Certificate, hosts: Sequence[str], now: datetime) -> datetime:
    """Returns when to renew a server's certificate: with a third of its life left, or `now` where a name is missing."""
    named = set(hosts) <= set(subject_names(server.certificate))
    return _due(server, ca) if named and _valid(server, ca, now) else now


def _valid(pair: KeyPair, ca: x509.Certificate, now: datetime) -> bool:
    return issued_by(pair.certificate, ca) and pair.not_before <= now < pair.not_after


def _due(pair: KeyPair, ca: x509.Certificate) -> datetime:
    if pair.not_after >= ca.not_valid_after_utc - _SECOND:
        return pair.not_after  # the CA expires then, too, so a new one would not be valid for longer
    return pair.not_after - (pair.not_after - pair.not_before) / 3


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise CertificateError(
            f"a certificate cannot have the name {host!r}: it is neither a DNS name nor an IP address"
        ) from None


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - BACKDATED)
        .not_valid_after(ends.astimezone(UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority(ca: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    # The identifier in the CA's certificate: in one that other software made it need not be the hash of the key.
    if identifier := _extension(ca, x509.SubjectKeyIdentifier):
        return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    key = ca.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise CertificateError("the CA's key is neither RSA nor EC")
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(key)


def _extension(certificate: x509.Certificate, kind: type[_Extension]) -> _Extension | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        raise CertificateError("the certificate's extensions cannot be read") from None


def _usage(*, key_cert_sign: bool = False, digital_signature: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        key_cert_sign=key_cert_sign,
        crl_sign=key_cert_sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
