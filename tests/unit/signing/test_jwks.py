"""Key ids and key sets: the form of RFC 7638, and keys on which implementations differ."""

import base64
import hashlib
import json
from datetime import UTC, datetime

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from pullpass.signing import jwks
from pullpass.signing.certificates import new_ca, new_leaf
from tests.unit.signing.authorities import of_no_version

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
CA = new_ca(NOW)
LEAF = new_leaf(CA, NOW)
SHORT = next(
    key
    for key in (ec.derive_private_key(scalar, ec.SECP256R1()).public_key() for scalar in range(1, 2000))
    if not jwks.full_length(key)
)


def key_of(scalar: int) -> ec.EllipticCurvePublicKey:
    return ec.derive_private_key(scalar, ec.SECP256R1()).public_key()


def test_the_thumbprint_of_a_known_key() -> None:
    # Scalar 1 gives the generator, whose thumbprint is on record.
    assert jwks.thumbprint(key_of(1)) == "xx0BcA-wMohw8atYDJOe6peGModklG2wRHBlXHMvl0M"


@given(st.integers(min_value=1, max_value=2**250))
def test_thumbprints_are_those_of_the_rfc_over_full_coordinates(scalar: int) -> None:
    key = key_of(scalar)
    point = key.public_numbers()
    x, y = (base64.urlsafe_b64encode(number.to_bytes(32, "big")).decode().rstrip("=") for number in (point.x, point.y))
    text = f'{{"crv":"P-256","kty":"EC","x":"{x}","y":"{y}"}}'
    digest = hashlib.sha256(text.encode()).digest()
    assert jwks.thumbprint(key) == base64.urlsafe_b64encode(digest).decode().rstrip("=")
    assert jwks.full_length(key) == (min(point.x, point.y).bit_length() > 248)


def test_a_short_coordinate_keeps_its_zero_byte() -> None:
    point = SHORT.public_numbers()
    document = jwks._required(SHORT)
    padded = [base64.urlsafe_b64decode(document[name] + "=") for name in "xy"]
    assert [len(coordinate) for coordinate in padded] == [32, 32]
    assert b"\0" in {coordinate[:1] for coordinate in padded}
    assert [int.from_bytes(coordinate, "big") for coordinate in padded] == [point.x, point.y]


def test_another_curve_is_not_full_length() -> None:
    assert not jwks.full_length(ec.generate_private_key(ec.SECP384R1()).public_key())


def test_a_key_set_is_readable_by_others_and_gives_back_its_certificates() -> None:
    other = new_leaf(CA, NOW)
    text = jwks.document([LEAF.certificate, other.certificate])
    read = jwt.PyJWKSet.from_json(text)
    public = LEAF.certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert read.keys[0].key_id == jwks.thumbprint(public)
    assert read.keys[0].key == public
    assert read.keys[0].algorithm_name == "ES256"
    assert jwks.certificates(text) == [LEAF.certificate, other.certificate]
    assert text == jwks.document([LEAF.certificate, other.certificate])


def test_a_key_set_holds_no_private_key() -> None:
    assert '"d"' not in jwks.document([LEAF.certificate])


ENTRY = jwks.jwk(LEAF.certificate)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("", 0),
        ("[]", 0),
        ("{}", 0),
        ("not json", 0),
        ('{"keys": 5}', 0),
        ('{"keys": [5, null, {}, {"x5c": []}, {"x5c": [5]}, {"x5c": ["%"]}, {"x5c": ["AAAA"]}]}', 0),
        (json.dumps({"keys": [{"x5c": None}, ENTRY]}), 1),
        (json.dumps({"keys": [{"x5c": ["".join(of_no_version(NOW).decode().splitlines()[1:-1])]}, ENTRY]}), 1),
    ],
)
def test_entries_that_cannot_be_read_are_left_out(text: str, count: int) -> None:
    assert len(jwks.certificates(text)) == count
