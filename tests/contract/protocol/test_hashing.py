"""How often bcrypt runs for a login: the same for whatever fails, so that time tells no user from another.

Counted where bcrypt itself is called; no clock is asked.
"""

import base64
import json
from collections.abc import Callable
from typing import Any

import bcrypt
import pytest

from pullpass.credentials import hashing
from tests.contract.protocol.client import FORGED, GOOD, USER, WRONG, Client, basic, refused
from tests.contract.protocol.test_lives import WAYS
from tests.unit.tokenserver.world import COST, World, password

Hashed = list[tuple[bytes, bytes]]
LOGINS: dict[str, tuple[str, str]] = {
    "a wrong password with a right id": (USER, FORGED),
    "a password id that no slot has": (USER, WRONG),
    "an unknown user": ("web.nobody", GOOD),
    "an unknown namespace": ("nowhere.reader", GOOD),
    "a user that cannot be one": ("x" * 1024, GOOD),
    "no user": ("", GOOD),
    "a user with NUL": (USER + "\0", GOOD),
    "a user in UTF-8": ("wéb.🔑", GOOD),
}
MALFORMED = [
    pytest.param("", id="none"),
    pytest.param("secret", id="a guess"),
    pytest.param("x" * 72, id="72 bytes"),
    pytest.param("x" * 73, id="73 bytes"),
    pytest.param("é" * 40, id="80 bytes"),
    pytest.param("\0", id="NUL"),
    pytest.param(GOOD + "\0", id="NUL behind"),
    pytest.param(GOOD[:-1], id="a character too few"),
    pytest.param(GOOD[:-1] + ("a" if GOOD[-1] != "a" else "b"), id="a typing error"),
    pytest.param(GOOD.upper(), id="upper case"),
]


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> Hashed:
    """What bcrypt was asked, in order."""
    calls: Hashed = []
    real = bcrypt.checkpw

    def counted(text: bytes, hash_: bytes) -> bool:
        calls.append((text, hash_))
        return real(text, hash_)

    monkeypatch.setattr(bcrypt, "checkpw", counted)
    return calls


def costs(hashed: Hashed) -> list[int]:
    return [int(hash_.split(b"$")[2]) for _, hash_ in hashed]


@pytest.mark.parametrize("who", LOGINS)
async def test_whoever_is_refused_costs_one_check_of_the_usual_cost(client: Client, who: str, hashed: Hashed) -> None:
    user, secret = LOGINS[who]
    refused(await client.get("", basic(user, secret)), 401, "UNAUTHORIZED")
    assert costs(hashed) == [COST]
    assert hashed[0][0] == secret.encode()


@pytest.mark.parametrize("way", WAYS)
async def test_a_dead_credential_costs_one_check_of_the_usual_cost(client: Client, way: str, hashed: Hashed) -> None:
    WAYS[way](client.world)
    refused(await client.get(), 401, "UNAUTHORIZED")
    assert costs(hashed) == [COST]


async def test_a_good_login_costs_one_check_of_the_usual_cost(client: Client, hashed: Hashed) -> None:
    assert (await client.get()).status == 200
    assert costs(hashed) == [COST]


async def test_a_token_without_a_record_costs_one_check(client: Client, hashed: Hashed) -> None:
    client.world.cache.on_secret("DELETED", {"metadata": {"name": "rt-uid-1", "uid": "s"}})
    refused(await client.get(), 401, "UNAUTHORIZED")
    assert costs(hashed) == [COST]


@pytest.mark.parametrize("secret", MALFORMED)
@pytest.mark.parametrize("user", [USER, "web.nobody"])
async def test_a_malformed_password_costs_no_check_whoever_sends_it(
    client: Client, user: str, secret: str, hashed: Hashed
) -> None:
    refused(await client.get("", basic(user, secret)), 401, "UNAUTHORIZED")
    assert (await client.post(username=user, password=secret)).status == 401
    assert hashed == []


async def test_a_wrong_password_sent_as_post_and_then_as_get_costs_one_check(client: Client, hashed: Hashed) -> None:
    """containerd repeats each failure as GET."""
    refused(await client.post(password=FORGED), 401, "UNAUTHORIZED")
    refused(await client.get("", basic(USER, FORGED)), 401, "UNAUTHORIZED")
    assert len(hashed) == 1


@pytest.mark.parametrize("who", LOGINS)
async def test_a_refusal_that_is_remembered_costs_none_whoever_it_was(client: Client, who: str, hashed: Hashed) -> None:
    for _ in range(3):
        refused(await client.get("", basic(*LOGINS[who])), 401, "UNAUTHORIZED")
    assert len(hashed) == 1


async def test_a_guesser_sees_the_same_whether_the_user_exists_or_not(client: Client, hashed: Hashed) -> None:
    """The answers, when it is told to wait, for how long, and how much is hashed."""
    seen = []
    for user in (USER, "web.nobody"):
        del hashed[:]
        answers = [await client.get("", basic(user, password(id_=f"{n:06x}").text)) for n in range(25)]
        told = [(answer.status, answer.body, answer.headers.get("Retry-After")) for answer in answers]
        seen.append((told, costs(hashed), [{*answer.headers} for answer in answers]))
    assert seen[0] == seen[1]
    assert {status for status, _, _ in seen[0][0]} <= {401, 429}


async def test_requests_that_cannot_be_meant_are_refused_before_any_hashing(client: Client, hashed: Hashed) -> None:
    assert (await client.get("scope=nonsense")).status == 400
    assert (await client.get("service=other")).status == 400
    assert (await client.get("account=other")).status == 400
    assert (await client.post(grant_type="other")).status == 400
    assert (await client.send("PUT", "/token", basic(USER, GOOD))).status == 405
    assert hashed == []


def plant(world: World, hash_: str, version: str) -> None:
    """Writes a version of the record with that for a hash."""
    slot = {"id": "aaaaaa", "nonce": "n", "seed": "s", "hash": hash_, "createdAt": "2027-02-28T12:00:00Z"}
    content: dict[str, Any] = {
        "tokenUid": "uid-1",
        "namespace": "web",
        "name": "reader",
        "published": "password1",
        "slots": {"password1": slot},
    }
    world.cache.on_secret(
        "MODIFIED",
        {
            "metadata": {
                "name": "rt-uid-1",
                "resourceVersion": version,
                "labels": {"pullpass.dev/component": "credential-record"},
            },
            "data": {"record.json": base64.b64encode(json.dumps(content).encode()).decode()},
        },
    )


REAL = hashing.hash_password(GOOD, COST)
PLANTED: dict[str, Callable[[], str]] = {
    "a cost that takes days": lambda: REAL.replace("$04$", "$31$"),
    "a cost above any of ours": lambda: REAL.replace("$04$", "$13$"),
    "another scheme": lambda: REAL.replace("$2b$", "$2x$"),
    "cut off": lambda: REAL[:-1],
    "more behind": lambda: REAL + "a",
    "empty": lambda: "",
    "the password itself": lambda: GOOD,
}


@pytest.mark.parametrize("what", PLANTED)
async def test_a_planted_hash_is_a_401_and_never_reaches_bcrypt(client: Client, what: str, hashed: Hashed) -> None:
    """bcrypt raises for a malformed hash, which would be a 500, and takes its cost from the hash."""
    plant(client.world, PLANTED[what](), "98")
    refused(await client.get(), 401, "UNAUTHORIZED")
    assert hashed == []
    plant(client.world, REAL, "99")
    assert (await client.get()).status == 200
