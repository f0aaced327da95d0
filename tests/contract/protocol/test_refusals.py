"""Refusals: the error list of the OCI distribution specification, which docker, crane and skopeo print."""

import pytest

from pullpass.tokenserver.handler import TOKEN_PATHS
from tests.contract.protocol.client import FORM, GOOD, USER, WRONG, Client, basic, refused


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("service=other", id="another service"),
        pytest.param("service=Registry", id="our service in another case"),
        pytest.param("service=registry%00", id="NUL behind our service"),
        pytest.param("service=registry%20", id="a space behind our service"),
        pytest.param("service=registry&service=other", id="another service beside ours"),
        pytest.param("service=%FF", id="a service that is not UTF-8"),
        pytest.param("account=somebody.else", id="another account"),
        pytest.param("account=WEB.READER", id="the account in another case"),
        pytest.param("account=web.reader&account=somebody.else", id="another account beside the user"),
        pytest.param("scope=nonsense", id="nonsense for a scope"),
        pytest.param("&".join("x=1" for _ in range(200)), id="two hundred parameters"),
        pytest.param("&" * 200 + "scope=repository:demo/nginx:pull", id="separators alone count too"),
    ],
)
async def test_a_get_that_cannot_be_meant(client: Client, query: str) -> None:
    refused(await client.get(query), 400, "UNSUPPORTED")


@pytest.mark.parametrize("query", ["account=", "account=web.reader", "account=web.reader&account=", "service="])
async def test_an_account_that_is_empty_or_the_user_says_nothing_new(client: Client, query: str) -> None:
    assert (await client.get(query)).status == 200


async def test_an_unknown_service_is_named_beside_ours(client: Client) -> None:
    """One server must not sign for whatever audience a client names."""
    message = (await client.get("service=elsewhere")).json["errors"][0]["message"]
    assert "elsewhere" in message
    assert "registry" in message


@pytest.mark.parametrize("value", ["%0A%0D%1B[31m", "x" * 3000, "%FF%00%C3%A4", "%3Cscript%3E"])
async def test_what_is_quoted_is_short_and_printable(client: Client, value: str) -> None:
    for query in (f"service={value}", f"scope={value}", f"scope=repository:{value}:pull"):
        answer = await client.get(query)
        refused(answer, 400, "UNSUPPORTED")
        message = answer.json["errors"][0]["message"]
        assert message.isprintable()
        assert message.isascii()
        assert len(message) < 400


async def test_a_get_has_no_keys_of_oauth2_in_its_refusal_and_a_post_has(client: Client) -> None:
    """RFC 6749, 5.2, in the same object: clients of either kind ignore the keys of the other."""
    assert set((await client.get("service=other")).json) == {"errors"}
    assert set((await client.post(service="other")).json) == {"errors", "error", "error_description"}


async def test_a_401_challenges_and_its_realm_is_no_address(client: Client) -> None:
    """RFC 7617; a URL there would be taken for one to send the password to."""
    for answer in (await client.get("", basic(USER, WRONG)), await client.post(password=WRONG)):
        assert answer.headers["WWW-Authenticate"] == 'Basic realm="pullpass", charset="UTF-8"'


MANAGEMENT = ("/healthz", "/readyz", "/metrics", "/tokens/uid-1?password=aaaaaa&registry=default", "/registries")
"""Pages of another port, which clients do not reach."""


@pytest.mark.parametrize(
    "path", ["/", "/token/", "/token/x", "/v2/", "/v2/token", "/auth", "/%00", "/TOKEN", *MANAGEMENT]
)
async def test_there_is_nothing_under_other_paths(client: Client, path: str) -> None:
    for method in ("GET", "POST", "PUT"):
        refused(await client.send(method, path, basic(USER, GOOD)), 404, "UNSUPPORTED")


@pytest.mark.parametrize("path", TOKEN_PATHS)
@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
async def test_a_token_is_had_by_get_and_post_alone(client: Client, method: str, path: str) -> None:
    """RFC 9110, 15.5.6."""
    answer = await client.send(method, path, basic(USER, GOOD))
    refused(answer, 405, "UNSUPPORTED")
    assert answer.headers["Allow"] == "GET, POST"
    assert (await client.send("HEAD", path)).status == 405


async def test_a_defect_is_a_500_that_says_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(GOOD)

    monkeypatch.setattr(client.world.cache, "token", broken)
    for answer in (await client.get(), await client.post()):
        refused(answer, 500, "UNKNOWN")
        assert GOOD not in answer.body.decode()


async def test_no_refusal_repeats_the_password(client: Client) -> None:
    answers = [
        await client.get("service=other"),
        await client.get("account=other"),
        await client.get("", basic(GOOD, GOOD)),
        await client.get("", f"Basic {GOOD}"),
        await client.get("", f"{GOOD} {GOOD}"),
        await client.post(grant_type="other"),
        await client.post(grant_type=GOOD),
        await client.post(account="other"),
        await client.post(password=[GOOD, GOOD]),
        await client.post(scope="nonsense"),
        await client.send("POST", "/token", body=GOOD.encode(), content_type=FORM),
        await client.send("POST", "/token", body=GOOD.encode(), content_type="text/plain"),
        await client.send("GET", f"/{GOOD}"),
    ]
    assert {answer.status for answer in answers} == {400, 401, 404}
    for answer in answers:
        assert GOOD not in answer.body.decode()
        assert GOOD not in repr(answer.headers)
