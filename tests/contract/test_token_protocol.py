"""The token protocol over real HTTP: each form of request that registries' clients send, and what they need back."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import aiohttp
import jwt
import pytest
import pytest_asyncio
from aiohttp.test_utils import TestServer
from cryptography import x509
from multidict import CIMultiDict
from yarl import URL

from pullpass.tokenserver.server import TOKEN_PATHS, TokenServer
from pullpass.tokenserver.settings import Settings
from tests.unit.tokenserver.world import COST, LEAF, SIGNING_SECRET, START, World, password, text

GOOD = password().text
WRONG = password(id_="bbbbbb").text
PULL = [{"type": "repository", "name": "demo/nginx", "actions": ["pull"]}]
READ = [{"type": "repository", "name": "demo/nginx", "actions": ["pull", "metadata_read"]}]
FORM = "application/x-www-form-urlencoded"


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: Any
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.body)
        return content

    @property
    def claims(self) -> dict[str, Any]:
        """The claims of the access token, its signature and certificate checked as a registry does."""
        token = self.json["access_token"]
        leaf = x509.load_der_x509_certificate(base64.b64decode(jwt.get_unverified_header(token)["x5c"][0]))
        key: Any = leaf.public_key()
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=["ES256"],
            audience="registry",
            issuer="pullpass",
            options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
        )
        return claims

    @property
    def access(self) -> Any:
        return self.claims["access"]


def basic(user: str, secret: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{secret}".encode()).decode()


class Client:
    """Sends requests to one token server over a world."""

    def __init__(self, settings: Settings) -> None:
        self.world = World()
        self.age = 0.0
        self.server = TokenServer(settings, self.world.mirror, age=lambda: self.age, clock=self.world.clock)
        self.http = TestServer(self.server.application(), max_line_size=16384)
        self.session = aiohttp.ClientSession()

    async def send(
        self,
        method: str,
        path: str,
        *authorization: str,
        body: bytes | None = None,
        content_type: str | None = None,
    ) -> Answer:
        headers: CIMultiDict[str] = CIMultiDict([("Authorization", value) for value in authorization])
        if content_type is not None:
            headers["Content-Type"] = content_type
        url = URL(str(self.http.make_url("/")).rstrip("/") + path, encoded=True)
        async with self.session.request(
            method, url, headers=headers, data=body, skip_auto_headers=["Content-Type"]
        ) as response:
            return Answer(response.status, response.headers, await response.read())

    async def get(self, query: str = "", *authorization: str, path: str = "/token") -> Answer:
        return await self.send("GET", f"{path}?{query}", *(authorization or (basic("web.reader", GOOD),)))

    async def post(self, content_type: str | None = FORM, **fields: str | list[str]) -> Answer:
        form = {"grant_type": "password", "username": "web.reader", "password": GOOD, "service": "registry"} | fields
        filled = {key: value for key, value in form.items() if value != "-"}
        return await self.send("POST", "/token", body=urlencode(filled, doseq=True).encode(), content_type=content_type)


SETTINGS = Settings("credentials", "registry", "pullpass", bcrypt_cost=COST, max_staleness=timedelta(minutes=10))


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    made = Client(SETTINGS)
    await made.http.start_server()
    async with made.session:
        yield made
    await made.http.close()


def refused(answer: Answer, status: int, code: str) -> None:
    """Asserts the one error body that docker, crane and skopeo can print."""
    assert (answer.status, answer.headers["Content-Type"]) == (status, "application/json")
    [error] = answer.json["errors"]
    assert error["code"] == code
    assert error["message"]
    assert answer.headers["Cache-Control"] == "no-store"
    if status == 401:
        assert answer.headers["WWW-Authenticate"].startswith('Basic realm="')


# GET


async def test_login_has_no_scope_and_gets_a_token_without_access(client: Client) -> None:
    answer = await client.get("account=web.reader&client_id=docker&offline_token=true&service=registry")
    assert answer.status == 200
    assert answer.access == []
    assert "refresh_token" not in answer.json


@pytest.mark.parametrize("path", TOKEN_PATHS)
async def test_a_pull(client: Client, path: str) -> None:
    answer = await client.get("scope=repository%3Ademo%2Fnginx%3Apull&service=registry", path=path)
    assert answer.status == 200
    assert answer.access == PULL
    body = answer.json
    assert body["token"] == body["access_token"]
    assert body["expires_in"] == 300
    assert type(body["expires_in"]) is int
    assert body["issued_at"] == text(START)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")


async def test_the_claims(client: Client) -> None:
    claims = (await client.get("scope=repository:demo/nginx:pull&service=registry")).claims
    now = int(START.timestamp())
    assert claims["sub"] == "web.reader"
    assert claims["aud"] == "registry"
    assert (claims["exp"], claims["nbf"], claims["iat"]) == (now + 300, now - 10, now - 10)
    assert claims["jti"]


@pytest.mark.parametrize(
    ("query", "access"),
    [
        pytest.param("", [], id="nothing at all"),
        pytest.param("scope=", [], id="empty scope"),
        pytest.param("scope=repository:demo/nginx:pull", PULL, id="without service"),
        pytest.param("service=&scope=repository:demo/nginx:pull", PULL, id="empty service"),
        pytest.param("scope=repository:demo/nginx:pull,push", PULL, id="less than asked"),
        pytest.param("scope=repository:other:pull", [], id="nothing of what was asked"),
        pytest.param("scope=repository:demo/nginx:*", READ, id="star is expanded"),
        pytest.param("scope=repository:demo/nginx:*&scope=repository:demo/nginx:delete", READ, id="skopeo delete"),
        pytest.param(
            "scope=repository:demo/nginx:pull+repository:samples/a:pull,push",
            [*PULL, {"type": "repository", "name": "samples/a", "actions": ["pull"]}],
            id="conformance: one value for all",
        ),
        pytest.param(
            "scope=repository:demo/nginx:pull%20repository:demo/nginx:pull,push", PULL, id="containerd: overlapping"
        ),
        pytest.param(
            "scope=repository:samples/a:pull&scope=repository:demo/nginx:pull",
            [{"type": "repository", "name": "samples/a", "actions": ["pull"]}, *PULL],
            id="mount: two parameters",
        ),
        pytest.param("scope=repository(plugin):demo/nginx:pull", PULL, id="class is dropped"),
        pytest.param("scope=registry:catalog:*", [], id="no catalog"),
        pytest.param("scope=repository::pull", [], id="zot catalog"),
        pytest.param("scope=unknown:a:b", [], id="unknown type"),
        pytest.param("scope=repository:localhost:5000/demo/nginx:pull", [], id="port in the name"),
        pytest.param("scope=repository:samples:pull", [], id="prefix is not the name itself"),
        pytest.param("unknown=1&scope=repository:demo/nginx:pull", PULL, id="unknown parameter"),
        pytest.param(
            "&".join(f"scope=repository:samples/{'a' * 200}{n}:pull" for n in range(32)), None, id="a long line"
        ),
    ],
)
async def test_scopes_of_a_get(client: Client, query: str, access: Any) -> None:
    answer = await client.get(query)
    assert answer.status == 200
    assert len(answer.access) == 32 if access is None else answer.access == access


@pytest.mark.parametrize(
    "query",
    [
        "scope=repository",
        "scope=repository:Demo:pull",
        "scope=repository:a/../b:pull",
        "scope=repository:a%0Ab:pull",
        "scope=repository:a:pull%00",
        "&".join("scope=repository:a:pull" for _ in range(33)),
        "service=other",
        "service=registry&service=other",
        "account=somebody.else",
        "&".join("x=1" for _ in range(200)),
    ],
)
async def test_a_get_that_cannot_be_meant(client: Client, query: str) -> None:
    refused(await client.get(query), 400, "UNSUPPORTED")


async def test_an_unknown_service_is_named(client: Client) -> None:
    message = (await client.get("service=elsewhere")).json["errors"][0]["message"]
    assert "elsewhere" in message
    assert "registry" in message


@pytest.mark.parametrize(
    "authorization",
    [
        pytest.param(basic("web.reader", WRONG), id="wrong password"),
        pytest.param(basic("web.nobody", GOOD), id="unknown user"),
        pytest.param(basic("web.reader", "secret"), id="malformed password"),
        pytest.param(basic("web.reader", "x" * 5000), id="endless password"),
        pytest.param(basic("web.reader", ""), id="no password"),
        pytest.param(basic("", ""), id="conformance: empty user and password"),
        pytest.param("Basic Og==", id="a colon alone"),
        pytest.param("Basic !!!", id="not base64"),
        pytest.param("Basic /////w==", id="not UTF-8"),
        pytest.param("Basic YWJj", id="no colon"),
        pytest.param("Basic", id="scheme alone"),
        pytest.param("Bearer " + GOOD, id="another scheme"),
        pytest.param("", id="empty header"),
    ],
)
async def test_credentials_that_do_not_work(client: Client, authorization: str) -> None:
    answer = await client.get("service=registry", authorization)
    refused(answer, 401, "UNAUTHORIZED")
    assert answer.body == (await client.get("", basic("web.reader", WRONG))).body


async def test_no_credentials_are_challenged(client: Client) -> None:
    refused(await client.send("GET", "/token?service=registry"), 401, "UNAUTHORIZED")


async def test_basic_is_read_leniently(client: Client) -> None:
    value = basic("web.reader", GOOD).removeprefix("Basic ")
    for form in (f"basic {value}", f"BASIC   {value}", f"Basic {value} "):
        assert (await client.get("", form)).status == 200


async def test_two_authorization_headers_are_refused(client: Client) -> None:
    good = basic("web.reader", GOOD)
    refused(await client.get("", good, basic("web.other", GOOD)), 400, "UNSUPPORTED")


# POST


async def test_containerd_pull(client: Client) -> None:
    answer = await client.post(
        f"{FORM}; charset=utf-8", client_id="containerd-client", scope="repository:demo/nginx:pull"
    )
    assert answer.status == 200
    assert answer.access == PULL
    assert answer.json["scope"] == "repository:demo/nginx:pull"
    assert answer.json["expires_in"] == 300
    assert answer.json["token"] == answer.json["access_token"]
    assert answer.json["issued_at"]


@pytest.mark.parametrize(
    ("fields", "access"),
    [
        ({}, []),
        ({"scope": ""}, []),
        ({"scope": "repository:demo/nginx:pull repository:demo/nginx:pull,push"}, PULL),
        ({"scope": ["repository:demo/nginx:pull", "repository:demo/nginx:push"]}, PULL),
        ({"service": "-", "scope": "repository:demo/nginx:pull"}, PULL),
        ({"access_type": "offline", "client_id": "x"}, []),
        ({"account": "web.reader"}, []),
    ],
)
async def test_posts_that_work(client: Client, fields: dict[str, Any], access: Any) -> None:
    answer = await client.post(**fields)
    assert answer.status == 200
    assert answer.access == access
    assert "scope" in answer.json
    assert "refresh_token" not in answer.json


async def test_a_post_without_content_type_is_read_as_a_form(client: Client) -> None:
    assert (await client.post(content_type=None)).status == 200


async def test_a_post_may_carry_its_credentials_in_the_header(client: Client) -> None:
    answer = await client.send(
        "POST", "/token", basic("web.reader", GOOD), body=b"grant_type=password", content_type=FORM
    )
    assert answer.status == 200


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"password": WRONG}, 401, "invalid_grant"),
        ({"username": "web.nobody"}, 401, "invalid_grant"),
        ({"username": "-", "password": "-"}, 401, "invalid_grant"),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 401, "invalid_grant"),
        ({"grant_type": "-"}, 400, "unsupported_grant_type"),
        ({"grant_type": "client_credentials"}, 400, "unsupported_grant_type"),
        ({"grant_type": ["password", "password"]}, 400, "invalid_request"),
        ({"password": [GOOD, WRONG]}, 400, "invalid_request"),
        ({"service": "other"}, 400, "invalid_request"),
        ({"account": "other"}, 400, "invalid_request"),
        ({"scope": "nonsense"}, 400, "invalid_scope"),
    ],
)
async def test_posts_that_are_refused(client: Client, fields: dict[str, Any], status: int, error: str) -> None:
    answer = await client.post(**fields)
    refused(answer, status, "UNAUTHORIZED" if status == 401 else "UNSUPPORTED")
    assert answer.json["error"] == error
    assert answer.json["error_description"]


@pytest.mark.parametrize(
    ("body", "content_type"), [(b"{}", "application/json"), (b"a=\xff", FORM), (b"--x\r\n", "multipart/form-data")]
)
async def test_a_body_that_is_no_form(client: Client, body: bytes, content_type: str) -> None:
    answer = await client.send("POST", "/token", body=body, content_type=content_type)
    refused(answer, 400, "UNSUPPORTED")


async def test_a_body_beyond_any_clients_is_refused(client: Client) -> None:
    refused(await client.post(scope="a" * 100_000), 413, "SIZE_INVALID")


async def test_a_wrong_password_sent_as_post_and_get_costs_one_check(client: Client) -> None:
    refused(await client.post(password=WRONG), 401, "UNAUTHORIZED")
    refused(await client.get("", basic("web.reader", WRONG)), 401, "UNAUTHORIZED")
    assert client.server.checks.count == 1


# The credential's life


async def test_a_dead_token_is_answered_as_a_wrong_password(client: Client) -> None:
    wrong = await client.get("", basic("web.reader", WRONG))
    client.world.token(enabled=False)
    dead = await client.get()
    refused(dead, 401, "UNAUTHORIZED")
    assert (dead.body, dead.status) == (wrong.body, wrong.status)
    assert {*dead.headers} == {*wrong.headers}
    assert client.server.checks.count == 2
    client.world.token()
    assert (await client.get()).status == 200


async def test_a_revoked_password_is_answered_as_a_wrong_one(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    """The token server needs no operator for it: the record is as it was."""
    wrong = await client.get("", basic("web.reader", WRONG))
    client.world.token(passwords={"revoked": ["aaaaaa"]})
    with caplog.at_level(logging.INFO, "pullpass.audit"):
        for answer in (await client.get(), await client.post()):
            refused(answer, 401, "UNAUTHORIZED")
    assert (await client.get()).body == wrong.body
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    assert {(line["decision"], line["password"], line["reason"]) for line in lines} == {
        ("refused", "aaaaaa", "password is revoked")
    }
    client.world.token(passwords={"revoked": []})
    assert (await client.get()).status == 200


async def test_the_other_password_of_a_token_works_on_while_one_is_revoked(client: Client) -> None:
    client.world.record(ids=("aaaaaa", "cccccc"))
    other = basic("web.reader", password(id_="cccccc").text)
    client.world.token(passwords={"revoked": ["aaaaaa"]})
    refused(await client.get(), 401, "UNAUTHORIZED")
    assert (await client.get("", other)).status == 200


async def test_a_scope_taken_from_the_map_is_gone_from_the_next_token(client: Client) -> None:
    query = "scope=repository:demo/nginx:pull"
    assert (await client.get(query)).access == PULL
    client.world.scope_map([{"repositories": ["other"], "actions": ["content/read"]}])
    answer = await client.get(query)
    assert (answer.status, answer.access) == (200, [])


@pytest.mark.parametrize(("left", "expires_in"), [(3600, 300), (120, 120), (7, 7)])
async def test_an_access_token_never_outlives_its_password(client: Client, left: int, expires_in: int) -> None:
    end = START + timedelta(seconds=left)
    client.world.record(expires_at=end, valid_until=end + timedelta(days=1))
    answer = await client.get()
    assert answer.json["expires_in"] == expires_in
    assert answer.claims["exp"] == int(START.timestamp()) + expires_in


async def test_an_access_token_never_outlives_its_registry_token(client: Client) -> None:
    client.world.token(expiresAt=text(START + timedelta(seconds=90)))
    assert (await client.get()).json["expires_in"] == 90


async def test_nothing_is_issued_with_a_signing_certificate_that_has_ended(client: Client) -> None:
    client.world.now = LEAF.not_after
    refused(await client.get(), 503, "UNAVAILABLE")


async def test_an_access_token_never_outlives_its_signing_certificate(client: Client) -> None:
    client.world.now = LEAF.not_after - timedelta(seconds=70)
    assert (await client.get()).json["expires_in"] == 70


# Repeated requests


async def test_the_same_request_in_the_same_second_gets_the_same_token_and_one_audit_line(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "pullpass.audit"):
        answers = [await client.get("scope=repository:demo/nginx:pull") for _ in range(3)]
    assert len({answer.body for answer in answers}) == 1
    assert sum(record.name == "pullpass.audit" for record in caplog.records) == 1


async def test_the_next_second_has_a_token_of_its_own(client: Client) -> None:
    first = await client.get()
    client.world.now += timedelta(seconds=1)
    second = await client.get()
    assert second.claims["exp"] == first.claims["exp"] + 1
    assert second.claims["jti"] != first.claims["jti"]


async def test_nothing_is_repeated_past_a_change_within_the_second(client: Client) -> None:
    assert (await client.get()).status == 200
    client.world.token(enabled=False)
    refused(await client.get(), 401, "UNAUTHORIZED")
    client.world.token()
    assert (await client.get()).status == 200
    client.world.token(passwords={"revoked": ["aaaaaa"]})
    refused(await client.get(), 401, "UNAUTHORIZED")
    client.world.token()
    assert (await client.get()).status == 200
    client.world.namespace(labels={})
    client.world.scope_map(allowed={"from": "Selector", "selector": {"matchLabels": {"team": "web"}}})
    refused(await client.get(), 401, "UNAUTHORIZED")


async def test_nothing_is_repeated_to_another_request(client: Client) -> None:
    assert (await client.get("scope=repository:demo/nginx:pull")).access == PULL
    assert (await client.get("scope=repository:demo/nginx:*")).access == READ
    refused(await client.get("scope=repository:demo/nginx:pull", basic("web.reader", WRONG)), 401, "UNAUTHORIZED")
    refused(await client.send("GET", "/token?scope=repository:demo/nginx:pull"), 401, "UNAUTHORIZED")
    assert "scope" in (await client.post(scope="repository:demo/nginx:pull")).json


# The server


async def test_pages(client: Client) -> None:
    assert (await client.send("GET", "/healthz")).status == 200
    assert (await client.send("GET", "/readyz")).status == 200
    refused(await client.send("GET", "/"), 404, "UNSUPPORTED")
    refused(await client.send("GET", "/token/"), 404, "UNSUPPORTED")
    refused(await client.send("POST", "/healthz"), 404, "UNSUPPORTED")
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS"):
        answer = await client.send(method, "/token")
        refused(answer, 405, "UNSUPPORTED")
        assert answer.headers["Allow"] == "GET, POST"
    assert (await client.send("HEAD", "/token")).status == 405


@pytest.mark.parametrize(("age", "ready"), [(0, True), (599, True), (601, False), (float("inf"), False)])
async def test_a_mirror_that_is_incomplete_or_too_old_answers_nothing(client: Client, age: float, ready: bool) -> None:
    client.age = age
    assert (await client.send("GET", "/readyz")).status == (200 if ready else 503)
    assert (await client.send("GET", "/healthz")).status == 200
    answer = await client.get()
    if ready:
        assert answer.status == 200
    else:
        refused(answer, 503, "UNAVAILABLE")
        assert int(answer.headers["Retry-After"]) > 0


async def test_without_a_signing_leaf_it_is_not_ready(client: Client) -> None:
    client.world.mirror.signer = None
    assert (await client.send("GET", "/readyz")).status == 503
    refused(await client.get(), 503, "UNAVAILABLE")
    client.world.mirror.on_secret("ADDED", SIGNING_SECRET)
    assert (await client.get()).status == 200


async def test_a_draining_server_is_unready_and_still_issues(client: Client) -> None:
    client.server.drain()
    assert (await client.send("GET", "/readyz")).status == 503
    answer = await client.get()
    assert answer.status == 200
    assert answer.headers["Connection"] == "close"


async def test_a_flood_is_told_when_to_come_back(client: Client) -> None:
    guesses = [client.get("", basic("web.reader", password(id_=f"{n:06x}").text)) for n in range(400)]
    answers = await asyncio.gather(*guesses, client.get())
    assert answers[-1].status == 200
    assert {answer.status for answer in answers[:-1]} <= {401, 503}
    for answer in answers:
        if answer.status == 503:
            refused(answer, 503, "UNAVAILABLE")
            assert answer.headers["Retry-After"]


async def test_metrics_count_what_was_decided(client: Client) -> None:
    await client.get("scope=repository:demo/nginx:pull")
    await client.get("scope=repository:demo/nginx:pull,push")
    await client.get("", basic("web.reader", WRONG))
    await client.post(scope="nonsense")
    client.age = 7.5
    answer = await client.send("GET", "/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain")
    shown = answer.body.decode()
    for line in (
        'requests_total{method="GET",outcome="granted"} 1.0',
        'requests_total{method="GET",outcome="reduced"} 1.0',
        'requests_total{method="GET",outcome="unauthorized"} 1.0',
        'requests_total{method="POST",outcome="invalid"} 1.0',
        "bcrypt_checks_total 2.0",
        "cache_hits_total 1.0",
        "mirror_age_seconds 7.5",
        'mirror_objects{kind="RegistryToken"} 1.0',
        "request_seconds_count 4.0",
        "build_info{version=",
    ):
        assert f"pullpass_token_server_{line}" in shown


async def test_each_decision_leaves_one_line_without_a_secret(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        await client.get("scope=repository:demo/nginx:pull,push")
        await client.post(password=WRONG)
        await client.get("", basic('x"\n', GOOD))
        await client.get("", basic(GOOD, "x"))
        await client.get("scope=nonsense")
    lines = [json.loads(record.getMessage()) for record in caplog.records if record.name == "pullpass.audit"]
    assert [line["decision"] for line in lines] == ["granted", *["refused"] * 4]
    first = lines[0]
    assert (first["user"], first["password"], first["granted"]) == (
        "web.reader",
        "aaaaaa",
        "repository:demo/nginx:pull",
    )
    assert first["asked"] == "repository:demo/nginx:pull,push"
    assert first["remote"] == "127.0.0.1"
    assert (lines[1]["reason"], lines[1]["password"]) == ("no such password", "bbbbbb")
    assert GOOD not in caplog.text
    assert WRONG not in caplog.text


async def test_a_defect_is_a_500_that_says_nothing(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError(GOOD)

    monkeypatch.setattr(client.world.mirror, "token", broken)
    answer = await client.get()
    refused(answer, 500, "UNKNOWN")
    assert GOOD not in answer.body.decode()


def test_the_clock_is_the_real_one_by_default() -> None:
    server = TokenServer(SETTINGS, World().mirror, age=lambda: 0)
    assert abs(server._clock() - datetime.now(UTC)) < timedelta(minutes=1)
    server.checks.close()
