"""The form of a password: `pullpass_` + id + secret + checksum.

The fixed prefix lets secret scanners find a leak, the checksum refuses typing errors before any hashing, and the
public id names the slot, so that a login costs one bcrypt check however many slots there are. The secret is derived
from the operator's seed and a nonce kept in the credential record: a rotation that was cut off between record and
pull secret goes on with the same password, although it was never stored.
"""

import base64
import hmac
import re
import secrets
import zlib
from dataclasses import dataclass, field

PREFIX = "pullpass_"
ID_LENGTH = 6
SECRET_BYTES = 20
"""160 random bits; 32 characters of base32."""

_FORM = re.compile(rf"{PREFIX}([0-9a-f]{{{ID_LENGTH}}})([a-z2-7]{{32}})([a-z2-7]{{7}})")


@dataclass(frozen=True)
class Password:
    """A well-formed password. The text is left out of the repr."""

    id: str
    text: str = field(repr=False)


def _base32(data: bytes) -> str:
    return base64.b32encode(data).decode().rstrip("=").lower()


def _checksum(body: str) -> str:
    return _base32(zlib.crc32(body.encode()).to_bytes(4, "big"))


def parse(text: str) -> Password | None:
    """The password, or None where the text cannot be one of ours. Hashes nothing."""
    match = _FORM.fullmatch(text) if text.isascii() else None
    if match is None or match[3] != _checksum(text[: -len(match[3])]):
        return None
    return Password(id=match[1], text=text)


def new_id() -> str:
    """A fresh public password id."""
    return secrets.token_hex(ID_LENGTH // 2)


def new_nonce() -> str:
    """A fresh nonce, 256 random bits as hex."""
    return secrets.token_hex(32)


def derive(seed: bytes, token_uid: str, nonce: str, id: str) -> Password:
    """The password that belongs to a nonce: HMAC-SHA256 under the seed, cut to 160 bits."""
    message = "\0".join(("pullpass/password/v1", token_uid, nonce, id)).encode()
    body = f"{PREFIX}{id}{_base32(hmac.digest(seed, message, 'sha256')[:SECRET_BYTES])}"
    return Password(id=id, text=body + _checksum(body))


def seed_id(seed: bytes) -> str:
    """A public fingerprint of a seed: tells whether a password can still be derived."""
    return hmac.digest(seed, b"pullpass/seed-id/v1", "sha256").hex()[:16]
