"""The client over HTTP: what it sends, what it makes of the answers, and what it never repeats."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from pullpass.kube.client import (
    FIRST_PAGE,
    MAX_ANSWER_BYTES,
    MAX_PAGE,
    MAX_PAGE_BYTES,
    MAX_RETRY_AFTER,
    PAGE_BYTES,
    Conflict,
    Gone,
    Kube,
    KubeError,
    NotFound,
    Refused,
    Unavailable,
)
from pullpass.kube.resources import REGISTRY_TOKENS, SCOPE_MAPS, SECRETS, SERVICE_ACCOUNTS

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    """A server that answers as told and keeps what it was asked."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.answers: list[Answer] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        text = await request.text()
        self.requests.append(
            {
                "method": request.method,
                "path": request.path,
                "query": dict(request.query),
                "type": request.headers.get("Content-Type"),
                "body": json.loads(text) if text else None,
            }
        )
        answer = self.answers.pop(0) if self.answers else None
        return (
            await answer(request) if answer is not None else web.json_response({"metadata": {"resourceVersion": "1"}})
        )

    def says(self, status: int, body: Any, **headers: str) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            text = body if isinstance(body, str) else json.dumps(body)
            return web.Response(status=status, text=text, headers=headers, content_type="application/json")

        self.answers.append(answer)

    def sends(self, status: int, body: str) -> None:
        async def answer(_: web.Request) -> web.StreamResponse:
            return web.Response(status=status, body=body.encode(errors="surrogateescape"))

        self.answers.append(answer)

    def streams(self, *chunks: bytes, then: Callable[[web.Request], Awaitable[None]] | None = None) -> None:
        async def answer(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse()
            await response.prepare(request)
            for chunk in chunks:
                await response.write(chunk)
                await asyncio.sleep(0)
            if then is not None:
                await then(request)
            return response

        self.answers.append(answer)


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
async def kube(api: Api) -> AsyncIterator[Kube]:
    application = web.Application()
    application.router.add_route("*", "/{tail:.*}", api.handle)
    async with TestServer(application) as server:
        settings = client.Configuration(host=str(server.make_url("")).rstrip("/"))
        async with client.ApiClient(configuration=settings) as connection:
            yield Kube(connection)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (SECRETS.path("web", "a"), "/api/v1/namespaces/web/secrets/a"),
        (SECRETS.path("web"), "/api/v1/namespaces/web/secrets"),
        (SECRETS.path(), "/api/v1/secrets"),
        (SCOPE_MAPS.path(None, "a"), "/apis/pullpass.dev/v1alpha1/scopemaps/a"),
        (REGISTRY_TOKENS.path("web", "a"), "/apis/pullpass.dev/v1alpha1/namespaces/web/registrytokens/a"),
    ],
)
def test_paths(path: str, expected: str) -> None:
    assert path == expected


BODY = {"metadata": {"name": "a"}}
OPERATIONS = [{"op": "test", "path": "/metadata/resourceVersion", "value": "1"}]
REQUESTS: list[tuple[Callable[[Kube], Awaitable[Any]], dict[str, Any]]] = [
    (lambda k: k.get(SECRETS, "web", "a"), {"method": "GET", "query": {}, "body": None}),
    (
        lambda k: k.create(SECRETS, "web", BODY),
        {
            "method": "POST",
            "path": "/api/v1/namespaces/web/secrets",
            "query": {"fieldManager": "pullpass-operator"},
            "type": "application/json",
            "body": BODY,
        },
    ),
    (
        lambda k: k.replace(SECRETS, "web", "a", BODY),
        {"method": "PUT", "query": {"fieldManager": "pullpass-operator"}, "body": BODY},
    ),
    (
        lambda k: k.apply(SECRETS, "web", "a", BODY),
        {
            "method": "PATCH",
            "query": {"fieldManager": "pullpass-operator", "force": "true"},
            "type": "application/apply-patch+yaml",
            "body": BODY,
        },
    ),
    (
        lambda k: k.apply(SECRETS, "web", "a", BODY, force=False),
        {"query": {"fieldManager": "pullpass-operator", "force": "false"}},
    ),
    (
        lambda k: k.apply(SECRETS, "web", "a", BODY, subresource="status"),
        {"path": "/api/v1/namespaces/web/secrets/a/status"},
    ),
    (
        lambda k: k.json_patch(SECRETS, "web", "a", OPERATIONS),
        {"method": "PATCH", "type": "application/json-patch+json", "body": OPERATIONS},
    ),
    (
        lambda k: k.delete(SECRETS, "web", "a", uid="uid-1"),
        {"method": "DELETE", "body": {"preconditions": {"uid": "uid-1"}}},
    ),
    (
        lambda k: k.list_page(SECRETS, label_selector="a=b", limit=1, continue_="next"),
        {"path": "/api/v1/secrets", "query": {"limit": "1", "labelSelector": "a=b", "continue": "next"}},
    ),
]


@pytest.mark.parametrize("number", range(len(REQUESTS)))
async def test_requests(kube: Kube, api: Api, number: int) -> None:
    call, expected = REQUESTS[number]
    await call(kube)
    (request,) = api.requests
    expected = {"path": "/api/v1/namespaces/web/secrets/a"} | expected
    assert {key: request[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, Refused),
        (401, Refused),
        (403, Refused),
        (404, NotFound),
        (409, Conflict),
        (410, Gone),
        (415, Refused),
        (422, Refused),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
@pytest.mark.parametrize("body", [{"message": "in words"}, "no JSON", "[]", "", {"other": 1}])
async def test_errors_say_what_to_do(kube: Kube, api: Api, status: int, error: type[KubeError], body: Any) -> None:
    api.says(status, body)
    with pytest.raises(KubeError) as caught:
        await kube.get(SERVICE_ACCOUNTS, "web", "default")
    assert type(caught.value) is error
    assert caught.value.status == status
    said = "in words" if isinstance(body, dict) and "message" in body else f"HTTP {status}"
    assert str(caught.value) == f"GET /api/v1/namespaces/web/serviceaccounts/default: {said}"


LABELS_DENIED = 'admission webhook "labels.example.com" denied it'


@pytest.mark.parametrize(
    ("status", "message", "said"),
    [
        (404, 'secrets "a" not found', 'secrets "a" not found'),
        (409, "the object has been modified", "the object has been modified"),
        (403, 'secrets "a" is forbidden: User "u" cannot create', 'secrets "a" is forbidden: User "u" cannot create'),
        (403, 'admission webhook "x" denied the request: {shibboleth}', 'admission webhook "x" denied it'),
        (
            403,
            "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p' denied request: shibboleth",
            "ValidatingAdmissionPolicy 'p' denied it",
        ),
        (
            422,
            "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'p.x' with binding 'b' denied request: shibboleth",
            "ValidatingAdmissionPolicy 'p.x' denied it",
        ),
        (400, 'admission webhook "labels.example.com" denied the request: shibboleth', LABELS_DENIED),
        (400, 'admission webhook "labels.example.com" denied the request without explanation', LABELS_DENIED),
        (
            500,
            'Internal error occurred: failed calling webhook "labels.example.com": failed to call webhook: shibboleth',
            'admission webhook "labels.example.com" could not be called',
        ),
        (500, 'failed calling webhook "a-b.c": shibboleth', 'admission webhook "a-b.c" could not be called'),
        (
            403,
            'secrets "a" is forbidden: exceeded quota: few, requested: count/secrets=1, used: count/secrets=1',
            "exceeded quota: few",
        ),
        # No name that anybody could have given to a webhook, or not where it stands: nothing is repeated.
        (403, 'admission webhook "shibboleth!" denied the request', "HTTP 403"),
        (403, 'admission webhook "Shibboleth" denied the request', "HTTP 403"),
        (403, f'admission webhook "{"shibboleth" * 26}" denied the request', "HTTP 403"),
        (500, f'failed calling webhook "{"shibboleth" * 26}"', "HTTP 500"),
        (422, 'Invalid value: "admission webhook "shibboleth" denied the request"', "HTTP 422"),
        (500, 'shibboleth: failed calling webhook "shibboleth"', "HTTP 500"),
        (403, "secrets \"a\" is forbidden: ValidatingAdmissionPolicy 'shib boleth' denied request: x", "HTTP 403"),
        (422, 'secrets "a" is forbidden: exceeded quota: shibboleth and more', "HTTP 422"),
        (400, "shibboleth", "HTTP 400"),
        (422, "Invalid value: shibboleth", "HTTP 422"),
        (500, "failed calling webhook: shibboleth", "HTTP 500"),
    ],
)
async def test_what_is_said_of_a_secret_quotes_nothing(
    kube: Kube, api: Api, status: int, message: str, said: str
) -> None:
    api.says(status, {"message": message})
    with pytest.raises(KubeError) as caught:
        await kube.apply(SECRETS, "web", "a", {"data": {"key": "shibboleth"}})
    assert str(caught.value).endswith(f": {said}")
    assert "shibboleth" not in str(caught.value)


async def test_what_admission_says_of_other_kinds_is_repeated_within_bounds(kube: Kube, api: Api) -> None:
    api.says(400, {"message": 'admission webhook "x" denied the request: no label' + "!" * 10_000})
    with pytest.raises(Refused, match="no label") as caught:
        await kube.get(SERVICE_ACCOUNTS, "web", "default")
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ({"Retry-After": "7"}, 7),
        ({"Retry-After": "0"}, 0),
        ({}, 0),
        ({"Retry-After": ""}, 0),
        ({"Retry-After": "soon"}, 0),
        ({"Retry-After": "-5"}, 0),
        ({"Retry-After": "1.5"}, 0),
        ({"Retry-After": "3600"}, MAX_RETRY_AFTER),
        ({"Retry-After": "9" * 400}, MAX_RETRY_AFTER),
        ({"Retry-After": "Sun, 06 Nov 1994 08:49:37 GMT"}, 0),
        ({"Retry-After": "Fri, 31 Dec 2999 23:59:59 GMT"}, MAX_RETRY_AFTER),
        ({"Retry-After": "Fri, 31 Dec 2999 23:59:59 -0000"}, MAX_RETRY_AFTER),
        ({"Retry-After": "Fri, 99 Dec 2999 23:59:59 GMT"}, 0),
    ],
)
async def test_a_server_may_ask_for_time(kube: Kube, api: Api, header: dict[str, str], seconds: float) -> None:
    api.says(429, {}, **header)
    with pytest.raises(Unavailable) as caught:
        await kube.get(SECRETS, "web", "a")
    assert caught.value.retry_after == seconds


async def test_a_date_is_counted_from_now(kube: Kube, api: Api) -> None:
    api.says(503, {}, **{"Retry-After": format_datetime(datetime.now(UTC) + timedelta(seconds=40), usegmt=True)})
    with pytest.raises(Unavailable) as caught:
        await kube.get(SECRETS, "web", "a")
    assert 0 < caught.value.retry_after <= 40


@pytest.mark.parametrize("status", [404, 409])
async def test_what_is_gone_or_another_by_now_is_not_deleted(kube: Kube, api: Api, status: int) -> None:
    api.says(status, {"message": "precondition failed"})
    await kube.delete(SECRETS, "web", "a", uid="uid-1")


async def test_a_deletion_that_is_refused_is_told(kube: Kube, api: Api) -> None:
    api.says(403, {"message": "no"})
    with pytest.raises(Refused):
        await kube.delete(SECRETS, "web", "a", uid="uid-1")


NO_OBJECTS = ["<html>", "", "[]", "7", "null", '"metadata"', '{"metadata":', "[" * 100_000, "\udc80"]


@pytest.mark.parametrize("body", NO_OBJECTS, ids=lambda body: body[:10])
async def test_an_answer_that_is_no_json_object(kube: Kube, api: Api, body: str) -> None:
    api.sends(200, body)
    with pytest.raises(Unavailable, match="not a JSON object"):
        await kube.get(SECRETS, "web", "a")


@pytest.mark.parametrize(
    "body",
    [
        *NO_OBJECTS,
        "{}",
        '{"metadata": {}}',
        '{"metadata": 7}',
        '{"metadata": {"resourceVersion": 7}}',
        '{"metadata": {"resourceVersion": "7"}, "items": {"a": 1}}',
        '{"metadata": {"resourceVersion": "7", "continue": 7}}',
    ],
    ids=lambda body: body[:60],
)
async def test_an_answer_that_is_no_list(kube: Kube, api: Api, body: str) -> None:
    api.sends(200, body)
    with pytest.raises(Unavailable, match="not a list"):
        await kube.list_page(SECRETS)


@pytest.mark.parametrize("body", NO_OBJECTS, ids=lambda body: body[:10])
async def test_an_error_that_is_no_json_object(kube: Kube, api: Api, body: str) -> None:
    api.sends(503, body)
    with pytest.raises(Unavailable, match="HTTP 503"):
        await kube.get(SECRETS, "web", "a")


async def test_an_answer_that_is_too_long(kube: Kube, api: Api) -> None:
    api.sends(200, " " * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(Unavailable, match="more than 16 MiB"):
        await kube.get(SECRETS, "web", "a")


async def test_an_error_that_is_too_long(kube: Kube, api: Api) -> None:
    api.sends(500, " " * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(Unavailable, match="HTTP 500"):
        await kube.get(SECRETS, "web", "a")


async def test_an_error_that_breaks_off(kube: Kube, api: Api) -> None:
    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(status=503)
        response.content_length = 100
        await response.prepare(request)
        await _hang_up(request)
        return response

    for call in (lambda: kube.get(SECRETS, "web", "a"), lambda: watched(kube)):
        api.answers.append(answer)
        with pytest.raises(Unavailable, match="HTTP 503"):
            await call()


async def test_an_answer_that_breaks_off(kube: Kube, api: Api) -> None:
    api.streams(b'{"metadata":', then=_hang_up)
    with pytest.raises(Unavailable, match="broke before the end"):
        await kube.get(SECRETS, "web", "a")


async def _hang_up(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


async def test_nobody_listens(unused_tcp_port: int) -> None:
    settings = client.Configuration(host=f"http://127.0.0.1:{unused_tcp_port}")
    async with client.ApiClient(configuration=settings) as connection:
        with pytest.raises(Unavailable, match="no answer from the API server") as caught:
            await Kube(connection).get(SECRETS, "web", "a")
    assert caught.value.status == 0


async def test_neither_pod_nor_kubeconfig(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(KubeError, match="not running in a cluster"):
        async with Kube.connect(str(tmp_path / "missing")):
            pass


def listed(*items: Any, more: str = "", version: str = "1") -> dict[str, Any]:
    return {"metadata": {"continue": more, "resourceVersion": version}, "items": list(items) or None}


async def test_a_list_goes_page_by_page(kube: Kube, api: Api) -> None:
    api.says(200, listed({"n": 1}, {"n": 2}, more="two"))
    api.says(200, listed(more="three"))
    api.says(200, listed({"n": 3}))
    assert [item["n"] async for item in kube.list(SECRETS, label_selector="a=b")] == [1, 2, 3]
    assert [request["query"].get("continue") for request in api.requests] == [None, "two", "three"]
    assert {request["query"]["labelSelector"] for request in api.requests} == {"a=b"}


async def test_a_page_tells_its_version(kube: Kube, api: Api) -> None:
    api.says(200, listed({"n": 1}, more="two", version="7"))
    api.says(200, listed({"n": 2}, version="7"))
    assert [page.resource_version async for page in kube.pages(SECRETS, "web")] == ["7", "7"]


async def test_pages_are_as_long_as_their_objects_allow(kube: Kube, api: Api) -> None:
    small, large = {"n": "x" * 1000}, {"n": "x" * 100_000}
    for items in ([small] * 20, [small] * 3, [large] * 10, []):
        api.says(200, listed(*items, more="more"))
    api.says(200, listed())
    assert len([page async for page in kube.pages(SECRETS)]) == 5
    first, *others = [int(request["query"]["limit"]) for request in api.requests]
    assert first == FIRST_PAGE
    assert others == [MAX_PAGE, MAX_PAGE, PAGE_BYTES // 100_020, 1]


async def test_a_page_that_is_too_long_is_not_read_but_asked_for_in_parts(kube: Kube, api: Api) -> None:
    for _ in range(2):
        api.sends(200, " " * (MAX_PAGE_BYTES + 1))
    api.says(200, listed({"n": 1}))
    page = await kube.list_page(SECRETS, limit=100, continue_="here")
    assert page.items == [{"n": 1}]
    assert [request["query"] for request in api.requests] == [
        {"limit": limit, "continue": "here"} for limit in ("100", "12", "1")
    ]


async def test_an_object_longer_than_any_object(kube: Kube, api: Api) -> None:
    api.sends(200, " " * (MAX_ANSWER_BYTES + 1))
    with pytest.raises(Unavailable, match="one object has more than 16 MiB"):
        await kube.list_page(SECRETS, limit=1)


async def test_a_list_may_lose_its_position(kube: Kube, api: Api) -> None:
    api.says(200, listed({"n": 1}, more="two"))
    api.says(410, {"message": "too old"})
    items = kube.list(SECRETS)
    assert await anext(items) == {"n": 1}
    with pytest.raises(Gone):
        await anext(items)


async def watched(kube: Kube, **more: Any) -> list[Any]:
    return [event async for event in kube.watch(SECRETS, "web", "7", **more)]


async def test_a_watch_cuts_lines_wherever_chunks_end(kube: Kube, api: Api) -> None:
    events = [{"type": "ADDED", "object": {"n": "ü" * number}} for number in range(3)]
    text = "\n".join(json.dumps(event, ensure_ascii=False) for event in events).encode() + b"\n\n"
    api.streams(*(text[at : at + 5] for at in range(0, len(text), 5)))
    assert await watched(kube, label_selector="a=b") == events
    (request,) = api.requests
    assert request["path"] == "/api/v1/namespaces/web/secrets"
    assert request["query"] == {
        "watch": "true",
        "resourceVersion": "7",
        "allowWatchBookmarks": "true",
        "timeoutSeconds": "290",
        "labelSelector": "a=b",
    }


async def test_a_watch_of_nothing_ends(kube: Kube, api: Api) -> None:
    api.streams()
    assert await watched(kube) == []


@pytest.mark.parametrize(
    ("code", "error"), [(410, Gone), (500, Unavailable), (403, Refused), (None, Unavailable), ("x", Unavailable)]
)
async def test_a_watch_that_tells_an_error(kube: Kube, api: Api, code: Any, error: type[KubeError]) -> None:
    status = {"code": code} if code is not None else None
    api.streams(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
    with pytest.raises(error):
        await watched(kube)


async def test_a_watch_too_old_at_once(kube: Kube, api: Api) -> None:
    api.says(410, {"message": "too old"})
    with pytest.raises(Gone):
        await watched(kube)


@pytest.mark.parametrize("chunks", [(b'{"type": "AD',), (b'{"type": "ADDED"}\n',)])
async def test_a_watch_that_breaks(kube: Kube, api: Api, chunks: tuple[bytes, ...]) -> None:
    api.streams(*chunks, then=_hang_up)
    with pytest.raises(Unavailable, match="the connection broke"):
        await watched(kube)


@pytest.mark.parametrize("line", [b"shibboleth", b"[]", b"7", b"[" * 100_000, b'{"type": "ERROR", "object": [1]}'])
async def test_a_watch_of_garbage(kube: Kube, api: Api, line: bytes) -> None:
    api.streams(line + b"\n")
    with pytest.raises(Unavailable) as caught:
        await watched(kube)
    assert "shibboleth" not in str(caught.value)


async def test_a_watch_event_that_is_too_long(kube: Kube, api: Api) -> None:
    api.streams(*[b" " * (1024 * 1024)] * 18)
    with pytest.raises(Unavailable, match="more than 16 MiB"):
        await watched(kube)


async def test_a_watch_that_falls_silent_counts_as_broken(kube: Kube, api: Api) -> None:
    over = asyncio.Event()

    async def silence(_: web.Request) -> None:
        await over.wait()

    api.streams(b'{"type": "BOOKMARK"}\n', then=silence)
    events = kube.watch(SECRETS, "web", "7", silence_seconds=0.01)
    assert await anext(events) == {"type": "BOOKMARK"}
    with pytest.raises(Unavailable, match="the connection broke"):
        await anext(events)
    over.set()


async def test_a_watch_that_is_left_closes_its_connection(kube: Kube, api: Api) -> None:
    over = asyncio.Event()

    async def silence(_: web.Request) -> None:
        await over.wait()

    api.streams(b'{"type": "BOOKMARK"}\n', then=silence)
    events = kube.watch(SECRETS, "web", "7")
    assert await anext(events) == {"type": "BOOKMARK"}
    assert isinstance(events, AsyncIterator)
    await events.aclose()  # type: ignore[attr-defined]
    over.set()
