"""An API server for tests of the client, which answers as told."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from pullpass.kube.client import Kube
from pullpass.kube.resources import SECRETS

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


async def hang_up(request: web.Request) -> None:
    """Breaks the connection off."""
    assert request.transport is not None
    request.transport.abort()


async def watched(kube: Kube, **more: Any) -> list[Any]:
    """Returns all events of a watch from version 7 on."""
    return [event async for event in kube.watch(SECRETS, "web", "7", **more)]
