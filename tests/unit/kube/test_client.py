"""The client over HTTP: what it sends, and how it reads lists and watches."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from aiohttp import ClientResponse, web

from pullpass.kube.client import (
    FIRST_PAGE,
    KEEPALIVE,
    MAX_ANSWER_BYTES,
    MAX_PAGE,
    MAX_PAGE_BYTES,
    PAGE_BYTES,
    Gone,
    Kube,
    KubeError,
    Refused,
    Unavailable,
)
from pullpass.kube.resources import REGISTRY_TOKENS, SCOPE_MAPS, SECRETS
from tests.unit.kube.served import Api, hang_up, watched


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
    api.streams(*chunks, then=hang_up)
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


async def test_the_kernel_looks_after_the_connection_of_a_watch(
    kube: Kube, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node that the network cuts off keeps its connections, and nobody tells it that they are dead."""
    over, responses, send = asyncio.Event(), list[ClientResponse](), kube._send

    async def sent(*arguments: Any, **more: Any) -> ClientResponse:
        responses.append(await send(*arguments, **more))
        return responses[-1]

    async def silence(_: web.Request) -> None:
        await over.wait()

    monkeypatch.setattr(kube, "_send", sent)
    api.streams(b'{"type": "BOOKMARK"}\n', then=silence)
    events = kube.watch(SECRETS, "web", "7")
    await anext(events)
    (response,) = responses
    assert response.connection is not None
    assert response.connection.transport is not None
    connection = response.connection.transport.get_extra_info("socket")
    assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    seconds = [connection.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in KEEPALIVE]
    assert seconds == list(KEEPALIVE.values())
    assert seconds[0] + seconds[1] * seconds[2] < 40, "before the node controller takes the node for dead"
    await events.aclose()  # type: ignore[attr-defined]
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
