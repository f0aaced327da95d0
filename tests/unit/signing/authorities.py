"""Certificate authorities that people bring, as other software makes them."""

import base64
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pullpass.signing.certificates import KeyPair, PrivateKey, new_key


def given_ca(
    now: datetime,
    key: PrivateKey,
    *,
    issuer: KeyPair | None = None,
    ca: bool | None = True,
    cert_sign: bool | None = None,
    begins: datetime | None = None,
    ends: datetime | None = None,
    name: str = "given",
) -> KeyPair:
    """A CA made by other software; what is None is left out of the certificate."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins or now - timedelta(days=1))
        .not_valid_after(ends or now + timedelta(days=90))
    )
    # Without these, clients of Python 3.13 take no intermediate CA.
    builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if issuer is not None:
        above = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
        builder = builder.add_extension(above, critical=False)
    if ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    if cert_sign is not None:
        flags = dict.fromkeys(("content_commitment", "key_encipherment", "data_encipherment", "key_agreement"), False)
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=cert_sign,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
            **flags,
        )
        builder = builder.add_extension(usage, critical=True)
    return KeyPair(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def of_no_version(now: datetime) -> bytes:
    """A certificate in PEM of an X.509 version that there is not."""
    der = given_ca(now, new_key()).certificate.public_bytes(Encoding.DER)
    der = der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x04", 1)
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


def with_doubled_extension(now: datetime) -> KeyPair:
    """A CA whose certificate has one extension twice, which no library makes but people come across."""
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "doubled")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=90))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    )
    for number in ("1.2.3.4", "1.2.3.5"):
        builder = builder.add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier(number), b"x"), critical=False)
    der = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    return KeyPair(x509.load_der_x509_certificate(der.replace(b"\x06\x03*\x03\x05", b"\x06\x03*\x03\x04")), key)
