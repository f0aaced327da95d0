"""bcrypt, fenced: no exception and no hostile cost gets through.

bcrypt raises for passwords over 72 bytes and for malformed hashes, and takes its cost from the stored hash, so a
hash that somebody planted could occupy a core for hours.
"""

import functools
import re

import bcrypt

MAXIMUM_COST = 12
DEFAULT_COST = 6
"""About 4 ms: cost protects guessable passwords, and 160 random bits are not guessable."""

_HASH = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{53}")


def hash_password(text: str, cost: int) -> str:
    """The bcrypt hash of a password. Blocks for the time the cost takes."""
    return bcrypt.hashpw(text.encode(), bcrypt.gensalt(cost)).decode()


def check(text: str, hash: str) -> bool:
    """Whether the password belongs to the hash. Blocks; False for any hash that is malformed or too costly."""
    match = _HASH.fullmatch(hash)
    if match is None or not 4 <= int(match[1]) <= MAXIMUM_COST:
        return False
    try:
        return bcrypt.checkpw(text.encode(), hash.encode())
    except ValueError:
        return False


@functools.cache
def dummy_hash(cost: int) -> str:
    """A hash that no password has, at that cost: what an unknown user is checked against."""
    return bcrypt.hashpw(b"no password of ours has this form", bcrypt.gensalt(cost)).decode()
