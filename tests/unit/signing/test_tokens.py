"""Access tokens: header, claims and signature as registries demand them."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from pullpass.signing import jwks
from pullpass.signing.certificates import CertificateError, KeyPair, new_ca, new_key, new_leaf
from pullpass.signing.tokens import Signer, access_claims, new_token_id
from tests.unit.signing.authorities import given_ca

NOW = datetime(2027, 3, 1, 12, 0, 0, 900_000, tzinfo=UTC)
WHOLE = int(NOW.timestamp())
CA = new_ca(NOW)
LEAF = new_leaf(CA, NOW)
SIGNER = Signer(LEAF.key_pem, LEAF.certificate_pem)
ACCESS = [{"type": "repository", "name": "team/app", "actions": ["pull"]}]


def der(pair: KeyPair) -> str:
    return base64.b64encode(pair.certificate.public_bytes(serialization.Encoding.DER)).decode()


def claims(**changed: Any) -> dict[str, Any]:
    given_: dict[str, Any] = {
        "issuer": "pullpass",
        "service": "registry",
        "subject": "web.reader",
        "access": ACCESS,
        "now": NOW,
        "lifetime": timedelta(seconds=300),
        "token_id": "id",
    }
    return access_claims(**{**given_, **changed})


def test_the_claims_of_a_token() -> None:
    assert claims() == {
        "iss": "pullpass",
        "sub": "web.reader",
        "aud": "registry",
        "exp": WHOLE + 300,
        "nbf": WHOLE - 10,
        "iat": WHOLE - 10,
        "jti": "id",
        "access": ACCESS,
    }


def test_times_are_whole_numbers_on_the_wire() -> None:
    payload = SIGNER.sign(claims()).split(".")[1]
    text = base64.urlsafe_b64decode(payload + "==").decode()
    for name in ("exp", "nbf", "iat"):
        assert re.search(rf'"{name}":\d{{10}}[,}}]', text)


@given(
    lifetime=st.integers(1, 86_400),
    left=st.floats(min_value=0.001, max_value=1e6, allow_nan=False),
)
def test_a_token_never_outlives_its_credential_nor_its_lifetime(lifetime: int, left: float) -> None:
    end = NOW + timedelta(seconds=left)
    if end <= NOW:
        return
    exp = claims(lifetime=timedelta(seconds=lifetime), not_after=end)["exp"]
    assert exp <= end.timestamp()
    assert exp <= NOW.timestamp() + lifetime
    assert exp > min(end.timestamp(), NOW.timestamp() + lifetime) - 1


@pytest.mark.parametrize("late", [0, 1, 3600])
def test_nothing_is_issued_for_what_has_ended(late: int) -> None:
    with pytest.raises(ValueError, match="ended"):
        claims(not_after=NOW - timedelta(seconds=late))


def test_the_signature_verifies_and_the_header_carries_the_leaf() -> None:
    token = SIGNER.sign(claims())
    header = jwt.get_unverified_header(token)
    public = LEAF.certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert header == {"typ": "JWT", "alg": "ES256", "kid": jwks.thumbprint(public), "x5c": [der(LEAF)]}
    assert SIGNER.kid == header["kid"]
    options: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    assert jwt.decode(token, public, algorithms=["ES256"], audience="registry", options=options) == claims()
    assert len(base64.urlsafe_b64decode(token.split(".")[2] + "==")) == 64


def test_a_changed_token_does_not_verify() -> None:
    header, _, signature = SIGNER.sign(claims()).split(".")
    other = jwks.encode(json.dumps(claims(subject="web.admin")).encode())
    public = LEAF.certificate.public_key()
    assert isinstance(public, ec.EllipticCurvePublicKey)
    with pytest.raises(jwt.InvalidSignatureError):
        jwt.decode(f"{header}.{other}.{signature}", public, algorithms=["ES256"], audience="registry")


def test_a_root_in_the_chain_is_not_sent() -> None:
    signer = Signer(LEAF.key_pem, LEAF.certificate_pem + CA.certificate_pem)
    assert jwt.get_unverified_header(signer.sign({}))["x5c"] == [der(LEAF)]


def test_an_intermediate_in_the_chain_is_sent_and_bounds_the_signer() -> None:
    ends = NOW.replace(microsecond=0) + timedelta(days=3)
    between = given_ca(NOW, new_key(), issuer=CA, ends=ends)
    leaf = new_leaf(between, NOW)
    signer = Signer(leaf.key_pem, leaf.certificate_pem + between.certificate_pem + CA.certificate_pem)
    assert jwt.get_unverified_header(signer.sign({}))["x5c"] == [der(leaf), der(between)]
    assert signer.not_after == ends


def test_a_signer_ends_with_its_leaf_and_shows_no_key() -> None:
    assert SIGNER.not_after == LEAF.not_after
    assert "PRIVATE" not in repr(SIGNER)
    assert str(LEAF.key.private_numbers()) not in repr(vars(SIGNER))


@pytest.mark.parametrize(
    ("key", "chain"),
    [
        (CA.key_pem, LEAF.certificate_pem),
        (b"-----BEGIN PRIVATE KEY-----\nhush\n-----END PRIVATE KEY-----\n", LEAF.certificate_pem),
        (LEAF.key_pem, b""),
    ],
)
def test_a_leaf_that_cannot_sign_is_refused_without_showing_it(key: bytes, chain: bytes) -> None:
    with pytest.raises(CertificateError) as caught:
        Signer(key, chain)
    assert "hush" not in str(caught.value)


def test_only_p256_signs() -> None:
    given_ = given_ca(NOW, rsa.generate_private_key(65537, 2048))
    with pytest.raises(CertificateError, match="P-256"):
        Signer(given_.key_pem, given_.certificate_pem)


def test_token_ids_do_not_repeat() -> None:
    ids = {new_token_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(len(token_id) == 22 for token_id in ids)
