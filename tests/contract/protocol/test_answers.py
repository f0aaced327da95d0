"""What a granted request is answered with, and what clients make of it (distribution's token specification).

Go's clients decode the whole answer or nothing: `expires_in` into an int, `issued_at` into a time (RFC 3339).
"""

import json
import re
from datetime import timedelta

import pytest

from pullpass.tokenserver.handler import TOKEN_PATHS
from tests.contract.protocol.client import ALL, GOOD, USER, Client, basic, refused
from tests.unit.tokenserver.world import START

RFC3339 = re.compile(r"\d{4}-(0[1-9]|1[0-2])-\d\dT\d\d:\d\d:\d\dZ")
SCOPE = "repository:demo/nginx:pull"


@pytest.mark.parametrize("path", TOKEN_PATHS)
async def test_get_and_post_are_answered_under_each_path(client: Client, path: str) -> None:
    """Ours, that of Distribution's `autoredirect`, and that of Azure Container Registry."""
    assert (await client.get(path=path)).status == 200
    assert (await client.post(path=path)).status == 200


async def test_the_answer_has_both_names_of_the_token_and_both_are_equal(client: Client) -> None:
    """docker and containerd read only `access_token` after a POST; old clients only `token` after a GET."""
    for answer in (await client.get(f"scope={SCOPE}"), await client.post(scope=SCOPE)):
        assert answer.json["token"] == answer.json["access_token"]
        assert answer.json["token"].count(".") == 2


async def test_expires_in_is_a_whole_number(client: Client) -> None:
    client.world.now = START + timedelta(microseconds=999_999)
    for answer in (await client.get(), await client.post()):
        assert type(answer.json["expires_in"]) is int
        assert re.search(rb'"expires_in":300[,}]', answer.body)


@pytest.mark.parametrize("microseconds", [0, 1, 500_000, 999_999])
async def test_issued_at_is_rfc3339_in_utc(client: Client, microseconds: int) -> None:
    """docker, containerd and skopeo reject the whole answer over another form."""
    client.world.now = START + timedelta(microseconds=microseconds)
    for answer in (await client.get(), await client.post()):
        assert RFC3339.fullmatch(answer.json["issued_at"])
        assert answer.json["issued_at"] == "2027-03-01T12:00:00Z"


async def test_an_answer_is_json_and_is_not_to_be_kept(client: Client) -> None:
    """RFC 6749, 5.1."""
    for answer in (await client.get(), await client.post()):
        assert answer.headers["Content-Type"].split(";")[0] == "application/json"
        assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")
        assert "Set-Cookie" not in answer.headers


@pytest.mark.parametrize(
    ("version", "asked", "said"),
    [
        ("1.1", "", ""),
        ("1.1", "keep-alive", ""),
        ("1.1", "close", "close"),
        ("1.0", "", ""),
        ("1.0", "keep-alive", "keep-alive"),
    ],
)
async def test_an_answer_is_the_same_whatever_becomes_of_its_connection(
    client: Client, version: str, asked: str, said: str
) -> None:
    """RFC 9112, 9.3: a connection of HTTP/1.1 stays open unless one of both says `close`, that of 1.0 only if both say
    `keep-alive`."""
    usual = await client.get()
    request = f"GET /token? HTTP/{version}\r\nHost: tokens\r\nAuthorization: {basic(USER, GOOD)}\r\n"
    request += f"Connection: {asked}\r\n\r\n" if asked else "\r\n"
    answer = await client.raw(request.encode())
    assert answer.headers.pop("Connection", "") == said
    assert answer.body == usual.body
    assert int(usual.headers["Content-Length"]) == len(usual.body)
    one, other = (
        {name: it for name, it in headers.items() if name != "Date"} for headers in (answer.headers, usual.headers)
    )
    assert one == other


async def test_an_answer_is_dated_in_the_second_that_it_is_given_in(client: Client) -> None:
    for second in range(3):
        client.world.now = START + timedelta(seconds=second, microseconds=999_999)
        answer = await client.get()
        assert answer.headers["Date"] == f"Mon, 01 Mar 2027 12:00:0{second} GMT"


@pytest.mark.parametrize("managed", [False, True])
@pytest.mark.parametrize("path", ["/token", "/healthz", "/readyz", "/metrics", "/tokens/uid-1", "/nothing", "*"])
@pytest.mark.parametrize("more", ["", "Expect: 100-continue", "Expect: \xff", "Connection: close", "no HTTP"])
async def test_no_answer_tells_what_the_server_is_made_of(
    client: Client, caplog: pytest.LogCaptureFixture, path: str, more: str, managed: bool
) -> None:
    for method in ("GET", "OPTIONS"):
        request = f"{method} {path} HTTP/1.1\r\nHost: tokens\r\n{more}\r\n\r\n"
        answer = await client.raw(request.encode("latin-1"), client.management_port if managed else None)
        assert answer.status < 500
        if answer.status != 100:
            assert answer.headers["Server"] == "pullpass"
            assert answer.headers["Date"]
        assert "aiohttp" not in str(answer.headers)
    assert not caplog.records


async def test_what_fails_beyond_our_handlers_is_answered_like_everything_else(
    client: Client, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> bytes:
        raise RuntimeError("of the test")

    monkeypatch.setattr(client.server.metrics, "text", fail)
    refused(await client.manage("/metrics"), 500, "UNKNOWN")
    assert "of the test" in caplog.text
    assert (await client.get()).status == 200


async def test_an_answer_to_a_post_says_which_scope_was_granted(client: Client) -> None:
    """distribution's OAuth2 page demands it: less may be granted than was asked for."""
    answer = await client.post(scope="repository:demo/nginx:push,pull repository:samples/a:* repository:other:pull")
    assert answer.json["scope"] == "repository:demo/nginx:pull repository:samples/a:pull,metadata_read"
    assert answer.json["token_type"] == "Bearer"
    assert (await client.post()).json["scope"] == ""


async def test_an_answer_to_a_get_has_no_keys_of_oauth2(client: Client) -> None:
    assert set((await client.get(f"scope={SCOPE}")).json) == {"token", "access_token", "expires_in", "issued_at"}


@pytest.mark.parametrize("query", ["offline_token=true", "offline_token=true&client_id=docker&service=registry"])
async def test_no_refresh_token_is_ever_returned(client: Client, query: str) -> None:
    """`docker login` would store one and throw the password away; crane adopts one from any answer."""
    assert "refresh_token" not in (await client.get(query)).json
    assert "refresh_token" not in (await client.post(access_type="offline", client_id="docker")).json


@pytest.mark.parametrize(
    ("query", "access"),
    [
        pytest.param("account=web.reader&client_id=docker&offline_token=true&service=registry", 0, id="docker login"),
        pytest.param(f"account=web.reader&scope={SCOPE}&service=registry", 1, id="docker pull"),
        pytest.param("account=web.reader&service=registry", 0, id="skopeo login"),
        pytest.param(f"account=web.reader&scope={SCOPE},push&service=registry", 1, id="skopeo push"),
        pytest.param(f"scope={SCOPE}&service=registry", 1, id="crane pull"),
        pytest.param("scope=registry:catalog:*&service=registry", 0, id="crane catalog"),
        pytest.param(f"account=web.reader&client_id=regctl&scope={SCOPE}&service=registry", 1, id="regctl"),
        pytest.param(f"scope={SCOPE}&service=registry", 1, id="oras and Helm"),
        pytest.param(f"service=registry&scope={SCOPE},push", 1, id="conformance"),
        pytest.param("service=registry", 0, id="a challenge without a scope"),
        pytest.param("", 0, id="realm alone"),
    ],
)
async def test_the_first_request_of_each_client_gets_exactly_200(client: Client, query: str, access: int) -> None:
    """oras, containers/image and the conformance tests take no other status."""
    answer = await client.get(query)
    assert answer.status == 200
    assert len(answer.access) == access


async def test_the_longest_answer_fits_into_every_clients_limit(client: Client) -> None:
    """crane reads 64 KiB, oras 128 KiB, containers/image 1 MiB; the token has to fit into a registry's headers."""
    client.world.scope_map([{"repositories": ["*"], "actions": ALL}])
    names = [f"{n:02}{'a' * 253}" for n in range(32)]
    answer = await client.post(scope=[f"repository:{name}:*" for name in names])
    assert len(answer.access) == 32
    assert len(answer.body) < 64 * 1024
    assert len(answer.json["token"]) < 32 * 1024
    json.loads(answer.body)
