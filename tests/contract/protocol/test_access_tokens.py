"""The access token inside the answer: what Distribution 2.8 to 3.1 and zot demand of it (RFC 7515, 7519, 8725)."""

import base64
import json
import re
from datetime import timedelta
from typing import Any

import jwt
from cryptography.hazmat.primitives.serialization import Encoding

from tests.contract.protocol.client import PULL, Answer, Client
from tests.unit.tokenserver.world import CA, LEAF, START

NOW = int(START.timestamp())
QUERY = "scope=repository:demo/nginx:pull&service=registry"


def segments(answer: Answer) -> tuple[bytes, bytes, bytes]:
    header, claims, signature = (
        base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in answer.json["token"].split(".")
    )
    return header, claims, signature


def header(answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(segments(answer)[0])
    return content


async def test_the_header_names_es256_and_the_leaf(client: Client) -> None:
    """The one form that Distribution 2.8, 3.0 and 3.1 all take with `rootcertbundle`."""
    content = header(await client.get(QUERY))
    assert (content["typ"], content["alg"]) == ("JWT", "ES256")
    assert content["x5c"] == [base64.b64encode(LEAF.certificate.public_bytes(Encoding.DER)).decode()]
    assert base64.b64encode(CA.certificate.public_bytes(Encoding.DER)).decode() not in content["x5c"]


async def test_the_header_carries_no_key_and_nothing_unknown(client: Client) -> None:
    """A verifier that takes its key from `jwk`, `jku` or `x5u` trusts anybody (RFC 8725, 3.10)."""
    assert set(header(await client.get(QUERY))) == {"typ", "alg", "kid", "x5c"}


async def test_the_signature_is_64_raw_bytes(client: Client) -> None:
    """RFC 7518, 3.4; libtrust, in Distribution 2.8, looks at the length."""
    for _ in range(8):
        client.world.now += timedelta(seconds=1)
        assert len(segments(await client.get(QUERY))[2]) == 64


async def test_the_claims_are_those_that_registries_read(client: Client) -> None:
    claims = (await client.get(QUERY)).claims
    assert set(claims) == {"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "access"}
    assert (claims["iss"], claims["sub"]) == ("pullpass", "web.reader")
    assert claims["access"] == PULL


async def test_the_audience_is_one_string(client: Client) -> None:
    """Distribution 2.8 rejects a list."""
    for query in (QUERY, "", "service="):
        assert (await client.get(query)).claims["aud"] == "registry"


async def test_times_are_integers(client: Client) -> None:
    """Every registry rejects a fraction."""
    client.world.now = START + timedelta(microseconds=750_000)
    content = segments(await client.get(QUERY))[1].decode()
    for name in ("exp", "nbf", "iat"):
        assert re.search(rf'"{name}":\d{{10}}[,}}]', content)


async def test_it_is_valid_at_once_even_where_clocks_differ(client: Client) -> None:
    """zot grants `nbf` and `iat` no leeway."""
    claims = (await client.get(QUERY)).claims
    assert (claims["nbf"], claims["iat"]) == (NOW - 10, NOW - 10)


async def test_it_ends_when_expires_in_says(client: Client) -> None:
    answer = await client.get(QUERY)
    assert answer.claims["exp"] == NOW + answer.json["expires_in"] == NOW + 300


async def test_an_entry_has_a_type_a_name_and_actions_and_no_class(client: Client) -> None:
    """A registry takes `repository(plugin)` for another type."""
    answer = await client.get("scope=repository(plugin):demo/nginx:pull")
    assert segments(answer)[1].count(b"plugin") == 0
    [entry] = answer.access
    assert set(entry) == {"type", "name", "actions"}
    assert entry["type"] == "repository"


async def test_without_access_the_list_is_empty_and_not_null(client: Client) -> None:
    assert b'"access":[]' in segments(await client.get())[1]


async def test_no_entry_is_without_actions(client: Client) -> None:
    answer = await client.get("scope=repository:other:pull&scope=repository:demo/nginx:push&scope=registry:catalog:*")
    assert answer.access == []


async def test_the_same_claims_come_by_post(client: Client) -> None:
    by_get = (await client.get(QUERY)).claims
    by_post = (await client.post(scope="repository:demo/nginx:pull")).claims
    assert by_get | {"jti": ""} == by_post | {"jti": ""}
    assert by_get["jti"] != by_post["jti"]


async def test_the_password_is_in_no_claim(client: Client) -> None:
    answer = await client.post(scope="repository:demo/nginx:pull")
    token = answer.json["token"]
    shown = json.dumps([jwt.get_unverified_header(token), answer.claims])
    assert "pullpass_" not in shown
    assert "aaaaaa" not in shown
