"""What an access token costs, beside what cannot be had for less.

The floors are one HMAC, one ES256 signature, one bcrypt check, and an empty handler of the same server. Beside them an
access token for a warm credential: once for the same scopes over and over, as when many nodes pull one image, and once
for other scopes each time, so that each answer is decided and signed by itself.

The server has one core and the load generator another. Everything is loaded in turn and the ratios are taken round by
round, so that a machine whose speed drifts does not decide.
"""

import hmac
import statistics
import time
from collections.abc import Callable, Iterator

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from pullpass.credentials import hashing
from tests.bench.figures import Figure
from tests.bench.served import Served, serving

ROUNDS = 5
SECONDS = 4


def run() -> Iterator[Figure]:
    """Measures and yields the figures."""
    with serving() as served:
        yield from _first_login(served)
        signing = Signing()
        rounds = [
            (
                served.rate(served.empty, SECONDS),
                served.rate(served.token, SECONDS),
                served.rate(served.token, SECONDS, differing=True),
                signing.seconds(),
            )
            for _ in range(ROUNDS)
        ]
    middle = statistics.median
    yield Figure(
        "floor_hmac_sha256", 1e6 * _seconds(lambda: hmac.digest(b"k" * 32, b"m" * 256, "sha256"), 20_000), "us"
    )
    yield Figure("floor_es256_signature", 1e6 * middle(s for *_, s in rounds), "us")
    hash_ = hashing.hash_password("password", hashing.DEFAULT_COST)
    yield Figure("floor_bcrypt_check", 1e6 * _seconds(lambda: hashing.check("password", hash_), 50), "us")
    yield Figure("empty_handler", middle(e for e, *_ in rounds), "requests/s")
    yield Figure("token_same_scopes", middle(t for _, t, _, _ in rounds), "requests/s")
    yield Figure("token_same_scopes_over_empty", middle(t / e for e, t, _, _ in rounds), "ratio", goal=0.6)
    yield Figure("token_other_scopes", middle(t for *_, t, _ in rounds), "requests/s")
    yield Figure("token_other_scopes_over_empty", middle(t / e for e, _, t, _ in rounds), "ratio")
    over_floor = middle(t * (1 / e + s) for e, _, t, s in rounds)
    yield Figure("token_other_scopes_over_empty_and_signature", over_floor, "ratio")


def _first_login(served: Served) -> Iterator[Figure]:
    """A password that many send at once, for other scopes each time, and nobody has sent before."""
    served.rate(served.token, 1, differing=True)
    checks = served.metrics()["pullpass_token_server_bcrypt_checks_total"]
    yield Figure("first_login_bcrypt_checks", checks, "checks", goal=1, at="most")


class Signing:
    """Signs as the server does it."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._algorithm = ec.ECDSA(hashes.SHA256())

    def seconds(self) -> float:
        """How long one signature takes."""
        return _seconds(lambda: self._key.sign(b"m" * 1000, self._algorithm), 5_000)


def _seconds(work: Callable[[], object], times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        work()
    return (time.process_time() - begun) / times
