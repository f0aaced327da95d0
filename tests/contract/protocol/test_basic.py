"""Credentials in a header (RFC 7617), as every client sends them with a GET."""

import base64
import json
import logging

import pytest

from tests.contract.protocol.client import FORGED, FORM, GOOD, USER, WRONG, Client, basic, refused
from tests.unit.tokenserver.world import password


def encoded(content: bytes) -> str:
    return "Basic " + base64.b64encode(content).decode()


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(basic(USER, WRONG), id="a password of nobody"),
        pytest.param(basic(USER, FORGED), id="a wrong password with a right id"),
        pytest.param(basic("web.nobody", GOOD), id="an unknown user"),
        pytest.param(basic("WEB.READER", GOOD), id="a user in upper case"),
        pytest.param(basic("reader", GOOD), id="a name without its namespace"),
        pytest.param(basic("web/reader", GOOD), id="a user with a slash"),
        pytest.param(basic("", GOOD), id="no user"),
        pytest.param(basic(USER, "secret"), id="a malformed password"),
        pytest.param(basic(USER, GOOD + "a"), id="a character too many"),
        pytest.param(basic(USER, GOOD[:-1]), id="a character too few"),
        pytest.param(basic(USER, " " + GOOD), id="a space in front"),
        pytest.param(basic(USER, GOOD + "\n"), id="a line break behind"),
        pytest.param(basic(USER, ":" + GOOD), id="a second colon"),
        pytest.param(basic(USER, "x" * 72), id="72 bytes"),
        pytest.param(basic(USER, "x" * 73), id="73 bytes: more than bcrypt takes"),
        pytest.param(basic(USER, "é" * 40), id="40 characters in 80 bytes"),
        pytest.param(basic(USER, GOOD + "x" * 30), id="a good one that goes on past 72 bytes"),
        pytest.param(basic(USER, "x" * 5000), id="an endless password"),
        pytest.param(basic("x" * 5000, GOOD), id="an endless user"),
        pytest.param(basic(USER, "\0"), id="NUL"),
        pytest.param(basic(USER, GOOD + "\0"), id="NUL behind the password"),
        pytest.param(basic(USER + "\0", GOOD), id="NUL behind the user"),
        pytest.param(basic(USER, GOOD + "\0" + "x" * 40), id="NUL and more behind the password"),
        pytest.param(basic("wéb.réader", GOOD), id="a user in UTF-8"),
        pytest.param(basic(USER, "pässwörd"), id="a password in UTF-8"),
        pytest.param(basic(USER, "🔑"), id="a password beyond the basic plane"),
        pytest.param(basic(USER, ""), id="no password"),
        pytest.param(basic("", ""), id="conformance: empty user and password"),
        pytest.param("Basic Og==", id="a colon alone"),
        pytest.param("Basic !!!", id="not base64"),
        pytest.param("Basic YTpi=", id="base64 with too much padding"),
        pytest.param("Basic YTpiY", id="base64 that breaks off"),
        pytest.param(encoded(b"\xff\xff\xff"), id="not UTF-8"),
        pytest.param(encoded(b"web.reader:\xed\xa0\x80"), id="a surrogate in UTF-8"),
        pytest.param(encoded("wéb:x".encode("latin-1")), id="Latin-1"),
        pytest.param(encoded(b"abc"), id="no colon"),
        pytest.param("Basic", id="the scheme alone"),
        pytest.param("Basic ", id="the scheme and a space"),
        pytest.param(f"Basic {USER}:{GOOD}", id="not encoded at all"),
        pytest.param("Bearer " + GOOD, id="another scheme"),
        pytest.param("Basi " + basic(USER, GOOD)[6:], id="nearly the scheme"),
        pytest.param(basic(USER, GOOD)[6:], id="no scheme"),
        pytest.param("", id="an empty header"),
    ],
)
async def test_whatever_does_not_work_gets_the_same_401(client: Client, authorization: str) -> None:
    """docker, skopeo and containerd tell people of a wrong password by the 401; a 500 would stop containerd's retry."""
    answer = await client.get("service=registry", authorization)
    refused(answer, 401, "UNAUTHORIZED")
    other = await client.get("", basic(USER, WRONG))
    assert answer.body == other.body
    assert {*answer.headers} == {*other.headers}


@pytest.mark.parametrize("query", ["service=registry", "service=registry&scope=repository:demo/nginx:pull", ""])
async def test_nobody_is_anonymous(client: Client, query: str) -> None:
    refused(await client.send("GET", f"/token?{query}"), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("form", ["basic {}", "BASIC {}", "Basic   {}", "Basic {} ", "  Basic {}"])
async def test_the_scheme_has_any_case_and_any_space_around(client: Client, form: str) -> None:
    assert (await client.get("", form.format(basic(USER, GOOD)[6:]))).status == 200


async def test_several_authorization_headers_are_refused_even_if_equal(client: Client) -> None:
    """Two readers of one request may each take another of them."""
    good = basic(USER, GOOD)
    for headers in ((good, basic("web.other", GOOD)), (good, good), ("", good)):
        refused(await client.get("", *headers), 400, "UNSUPPORTED")
        answer = await client.send("POST", "/token", *headers, body=b"grant_type=password", content_type=FORM)
        refused(answer, 400, "UNSUPPORTED")


async def test_the_user_name_is_never_taken_from_the_query(client: Client) -> None:
    refused(await client.send("GET", f"/token?username={USER}&password={GOOD}"), 401, "UNAUTHORIZED")
    refused(await client.send("GET", f"/token?account={USER}"), 401, "UNAUTHORIZED")


async def test_a_user_with_a_foreign_password_is_refused(client: Client) -> None:
    """Both tokens exist, and each password opens its own only."""
    client.world.cache.on_token(
        "ADDED",
        {
            "metadata": {"name": "other", "namespace": "web", "uid": "uid-2"},
            "spec": {"scopeMapRef": {"name": "demo"}},
        },
    )
    client.world.record(uid="uid-2", ids=("cccccc",))
    theirs = password("uid-2", "cccccc").text
    assert (await client.get("", basic("web.other", theirs))).status == 200
    assert (await client.get("", basic(USER, GOOD))).status == 200
    refused(await client.get("", basic("web.other", GOOD)), 401, "UNAUTHORIZED")
    refused(await client.get("", basic(USER, theirs)), 401, "UNAUTHORIZED")


@pytest.mark.parametrize("user", ["x\ny", "x\r\n{}", "\x1b[31m", '"}', GOOD])
async def test_nobody_writes_lines_of_their_own_into_the_log(
    client: Client, user: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pullpass.audit"):
        refused(await client.get("", basic(user, WRONG)), 401, "UNAUTHORIZED")
    [line] = [record.getMessage() for record in caplog.records if record.name == "pullpass.audit"]
    assert line.isprintable()
    assert json.loads(line)["user"] is None
