"""Certificates: what is made, what is accepted, when a leaf is renewed, and what errors never say."""

import base64
import traceback
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa

from pullpass.signing.certificates import (
    CertificateError,
    KeyPair,
    PrivateKey,
    check_ca,
    issued_by,
    leaf_due,
    load_pair,
    new_ca,
    new_key,
    new_leaf,
    same_authority,
)
from pullpass.signing.jwks import full_length
from tests.unit.signing.authorities import given_ca

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
CA = new_ca(NOW)
LEAF = new_leaf(CA, NOW)


def test_the_ca_may_sign_leaves_for_ten_years() -> None:
    extensions = CA.certificate.extensions
    constraints = extensions.get_extension_for_class(x509.BasicConstraints)
    usage = extensions.get_extension_for_class(x509.KeyUsage)
    assert constraints.critical
    assert constraints.value.ca
    assert constraints.value.path_length == 0
    assert usage.critical
    assert usage.value.key_cert_sign
    assert not usage.value.digital_signature
    assert CA.not_before == NOW - timedelta(hours=1)
    assert CA.not_after == NOW + 3650 * DAY
    assert isinstance(CA.key, ec.EllipticCurvePrivateKey)
    assert isinstance(CA.key.curve, ec.SECP256R1)
    check_ca(CA, NOW)


def test_the_leaf_signs_tokens_for_ninety_days_and_nothing_else() -> None:
    extensions = LEAF.certificate.extensions
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    authority = extensions.get_extension_for_class(x509.AuthorityKeyIdentifier).value
    identifier = CA.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert authority.key_identifier == identifier.digest
    assert LEAF.not_before == NOW - timedelta(hours=1)
    assert LEAF.not_after == NOW + 90 * DAY
    assert issued_by(LEAF.certificate, CA.certificate)
    assert LEAF.certificate.serial_number != new_leaf(CA, NOW).certificate.serial_number


def test_a_leaf_never_outlives_its_ca() -> None:
    ca = given_ca(NOW, new_key(), ends=NOW + 5 * DAY)
    assert new_leaf(ca, NOW).not_after == ca.not_after


def test_keys_with_a_leading_zero_byte_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [ec.derive_private_key(scalar, ec.SECP256R1()) for scalar in range(1, 2000)]
    short = next(key for key in keys if not full_length(key.public_key()))
    good = keys[0]
    made = iter([short, short, good])
    monkeypatch.setattr(ec, "generate_private_key", lambda curve: next(made))
    assert new_key() is good


@pytest.mark.parametrize(
    "make_key",
    [
        lambda: rsa.generate_private_key(65537, 2048),
        lambda: ec.generate_private_key(ec.SECP384R1()),
        lambda: ec.generate_private_key(ec.SECP521R1()),
    ],
    ids=["rsa", "p384", "p521"],
)
def test_a_given_ca_of_another_key_type_issues_leaves(make_key: Callable[[], PrivateKey]) -> None:
    given = given_ca(NOW, make_key(), cert_sign=True)
    ca = load_pair(given.certificate_pem, given.key_pem)
    check_ca(ca, NOW)
    assert issued_by(new_leaf(ca, NOW).certificate, ca.certificate)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: LEAF, "basicConstraints"),
        (lambda: given_ca(NOW, new_key(), ca=None), "basicConstraints"),
        (lambda: given_ca(NOW, new_key(), cert_sign=False), "keyCertSign"),
        (lambda: given_ca(NOW, new_key(), ends=NOW), "expired at 2027-03-01T12:00:00"),
        (lambda: given_ca(NOW, new_key(), begins=NOW + DAY), "is not valid before 2027-03-02"),
        (lambda: given_ca(NOW, rsa.generate_private_key(65537, 1024)), "1024 bits"),
        (lambda: given_ca(NOW, ec.generate_private_key(ec.SECP256K1())), "secp256k1"),
    ],
    ids=["leaf", "no-constraints", "no-cert-sign", "ended", "early", "short-rsa", "curve"],
)
def test_a_ca_that_registries_would_refuse_is_refused_in_words(make: Callable[[], KeyPair], said: str) -> None:
    with pytest.raises(CertificateError, match=said):
        check_ca(make(), NOW)


def pem(key: ed25519.Ed25519PrivateKey | dsa.DSAPrivateKey | PrivateKey, password: bytes | None = None) -> bytes:
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def negative(certificate: x509.Certificate) -> bytes:
    """The same, as PEM, with a serial number below zero; the signature does not matter here."""
    number = certificate.serial_number
    serial = number.to_bytes(number.bit_length() // 8 + 1)
    der = certificate.public_bytes(serialization.Encoding.DER)
    changed = base64.encodebytes(der.replace(serial, bytes([serial[0] | 0x80]) + serial[1:]))
    return b"-----BEGIN CERTIFICATE-----\n" + changed + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("certificate", "key", "said"),
    [
        (negative(LEAF.certificate), LEAF.key_pem, "serial number is not positive"),
        (LEAF.certificate_pem + negative(CA.certificate), LEAF.key_pem, "serial number is not positive"),
        (b"", LEAF.key_pem, "cannot parse the certificate as PEM"),
        (LEAF.key_pem, LEAF.key_pem, "cannot parse the certificate as PEM"),
        (LEAF.certificate_pem[:200], LEAF.key_pem, "cannot parse the certificate as PEM"),
        (LEAF.certificate_pem, b"", "cannot parse the private key as PEM"),
        (LEAF.certificate_pem, LEAF.key_pem[:90], "cannot parse the private key as PEM"),
        (LEAF.certificate_pem, pem(LEAF.key, b"hunter2"), "encrypted"),
        (LEAF.certificate_pem, CA.key_pem, "another certificate"),
        (LEAF.certificate_pem, pem(ed25519.Ed25519PrivateKey.generate()), "neither RSA nor EC"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # without keys, which are others in each run
)
def test_broken_files_are_refused_without_showing_them(certificate: bytes, key: bytes, said: str) -> None:
    with pytest.raises(CertificateError, match=said) as caught:
        load_pair(certificate, key)
    shown = "".join(traceback.format_exception(caught.value))
    assert not [line for line in key.decode().splitlines() if line and line in shown]


def test_a_pair_survives_its_files_and_keeps_its_chain() -> None:
    loaded = load_pair(LEAF.certificate_pem + CA.certificate_pem, LEAF.key_pem)
    assert loaded.certificate == LEAF.certificate
    assert loaded.chain == (CA.certificate,)
    assert loaded.key_pem == LEAF.key_pem


def test_the_representation_shows_no_key() -> None:
    assert repr(CA).startswith("KeyPair(certificate=<Certificate(")
    assert "key=" not in repr(CA)


def test_a_leaf_is_renewed_with_a_third_of_its_life_left() -> None:
    due = leaf_due(LEAF, CA.certificate, NOW)
    assert due == LEAF.not_after - (LEAF.not_after - LEAF.not_before) / 3
    assert NOW + 59 * DAY < due < NOW + 61 * DAY
    assert leaf_due(LEAF, CA.certificate, NOW + 70 * DAY) == due


@pytest.mark.parametrize(
    ("leaf", "now"),
    [
        (new_leaf(new_ca(NOW), NOW), NOW),
        (LEAF, LEAF.not_after),
        (LEAF, LEAF.not_before - timedelta(seconds=1)),
        (KeyPair(given_ca(NOW, rsa.generate_private_key(65537, 2048), issuer=CA).certificate, CA.key), NOW),
        (
            KeyPair(given_ca(NOW, ec.derive_private_key(1, ec.SECP384R1()), issuer=CA).certificate, CA.key),
            NOW,
        ),
    ],
    ids=["other-ca", "ended", "early", "rsa", "p384"],
)
def test_a_leaf_that_registries_would_refuse_is_due_at_once(leaf: KeyPair, now: datetime) -> None:
    assert leaf_due(leaf, CA.certificate, now) == now


def test_a_leaf_of_a_ca_that_ends_first_is_not_renewed_in_ever_shorter_steps() -> None:
    ca = given_ca(NOW, new_key(), ends=NOW + 10 * DAY)
    leaf = new_leaf(ca, NOW)
    assert leaf_due(leaf, ca.certificate, NOW + 9 * DAY) == ca.not_after


def test_a_ca_renewed_over_the_same_key_keeps_its_leaf() -> None:
    old = given_ca(NOW, new_key(), ends=NOW + 10 * DAY)
    leaf = new_leaf(old, NOW)
    renewed = given_ca(NOW, old.key, ends=NOW + 100 * DAY)
    assert NOW < leaf_due(leaf, renewed.certificate, NOW) < leaf.not_after


def test_a_ca_is_the_same_by_name_and_key() -> None:
    old = given_ca(NOW, new_key())
    assert same_authority(old.certificate, given_ca(NOW, old.key, ends=NOW + 100 * DAY).certificate)
    assert not same_authority(old.certificate, given_ca(NOW, new_key()).certificate)
    assert not same_authority(CA.certificate, new_ca(NOW).certificate)
    assert not same_authority(CA.certificate, given_ca(NOW, CA.key).certificate)
