"""The way of one process to the API server: keeps a record, and fails as it is told.

The process speaks plain HTTP to the proxy on the loopback interface; the proxy goes on with the ServiceAccount of the
process, so that it has the rights which the chart grants.
"""

import asyncio
import json
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto

import aiohttp
from aiohttp import web

from tests.chaos.api import Api
from tests.chaos.traffic import Request
from tests.chaos.waiting import until

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date"}
_REASONS = {
    403: "Forbidden",
    409: "Conflict",
    410: "Expired",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class Cut(Enum):
    """How a way that is cut looks to the process."""

    REFUSE = auto()
    """Connections break at once."""
    HANG = auto()
    """Nothing comes through and nobody says so, as when packets are lost."""


@dataclass(frozen=True)
class Disturbance:
    """What a share of the requests meets instead of the API server's answer."""

    share: float
    status: int = 0
    """What is answered; 0: nothing, the connection breaks."""
    to: Callable[[Request], bool] = lambda _: True
    """Which requests it may meet."""
    forwarded: bool = False
    """Whether the API server gets the request all the same, so that a write is done of which its sender is not told."""
    in_stream: bool = False
    """Whether the error stands inside of a stream that began well: so the API server says that a watch is too old."""
    retry_after: int = 0
    """Seconds that the answer asks to wait; 0: it does not say."""
    message: str = "the test wants it so"
    """What the answer says."""
    content: bytes | None = None
    """The whole answer, where it is not the API's."""
    truncated: bool = False
    """Whether half of the API server's answer is missing. Goes with `forwarded`."""
    hangs: bool = False
    """Whether there is no answer for as long as the disturbance lasts; then the connection breaks."""


class _BrokenError(Exception):
    """The connection is to break without an answer."""


class Proxy:
    """The proxy of one process. `requests` is what it has seen so far."""

    def __init__(self, api: Api, name: str, seed: int) -> None:
        self.name = name
        self.requests: list[Request] = []
        self.disturbances: tuple[Disturbance, ...] = ()
        """What requests meet from now on; the first that hits a request counts."""
        self.delay = 0.0
        """Seconds that a request takes longer, at most."""
        self.page: int | None = None
        """Objects in a page of a list, where the process asks for more: so that lists have pages to go on with."""
        self._api = api
        self._random = random.Random(seed)
        self._cut: Cut | None = None
        self._healed: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._streams: set[asyncio.Task[None]] = set()
        self._runner: web.AppRunner | None = None
        self.url = ""
        """Where the process finds the API server."""

    async def start(self) -> None:
        """Listens from now on."""
        app = web.Application(client_max_size=64 << 20)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Breaks every connection and listens no more."""
        self.cut(Cut.REFUSE)
        if self._runner is not None:
            await self._runner.cleanup()

    def cut(self, how: Cut) -> None:
        """Cuts the process off."""
        self._cut = how
        if how is Cut.REFUSE:
            self.cut_watches()
            self._release(deliver=False)

    def heal(self, *, deliver: bool = False) -> None:
        """Lets everything through again. What hangs is let go, or is delivered now, as a network does at times."""
        if self._cut is None:
            return
        self._cut = None
        if not deliver:
            self.cut_watches()
        self._release(deliver=deliver)

    def cut_watches(self) -> None:
        """Breaks the watches that are running; new ones come through."""
        for stream in self._streams:
            stream.cancel()

    def calm(self) -> None:
        """Ends every disturbance."""
        self.disturbances, self.delay, self.page = (), 0.0, None
        self.heal()

    def _release(self, *, deliver: bool) -> None:
        self._healed.set_result(deliver)
        self._healed = asyncio.get_running_loop().create_future()

    async def _passage(self) -> None:
        """Returns when there is a way through. Raises _BrokenError where the connection breaks instead."""
        while self._cut is not None:
            if self._cut is Cut.REFUSE or not await asyncio.shield(self._healed):
                raise _BrokenError

    async def _handle(self, http: web.Request) -> web.StreamResponse:
        clock = asyncio.get_running_loop().time
        request = Request(
            self.name,
            clock(),
            http.method,
            http.path,
            watch=http.query.get("watch") in ("true", "1"),
            page="continue" in http.query,
        )
        self.requests.append(request)
        try:
            response = await self._answer(http, request)
            request.told = response.status
            return response
        except (_BrokenError, aiohttp.ClientError, ConnectionError, TimeoutError):
            if http.transport is not None:
                http.transport.abort()
            return web.Response()
        finally:
            request.ended = clock()

    async def _answer(self, http: web.Request, request: Request) -> web.StreamResponse:
        body = await http.read()
        await self._passage()
        if self.delay:
            await asyncio.sleep(self._random.uniform(0, self.delay))
            await self._passage()
        met = next((d for d in self.disturbances if d.to(request) and self._random.random() < d.share), None)
        if met is not None and not met.forwarded:
            return await self._disturb(http, request, met)
        headers = {name: value for name, value in http.headers.items() if name.lower() not in _HOP_BY_HOP}
        query = list(http.query.items())
        if self.page is not None:
            query = [(name, str(self.page) if name == "limit" else value) for name, value in query]
        async with self._api.session.request(
            http.method,
            f"{self._api.server}{http.rel_url.raw_path}",
            params=query,
            data=body or None,
            headers=headers,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as answer:
            request.stored = answer.status
            if request.watch and answer.status == 200:
                return await self._stream(http, answer)
            content = await answer.read()
        await self._passage()
        if met is not None and not met.truncated:
            return await self._disturb(http, request, met)
        if met is not None:
            content = content[: len(content) // 2]
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP}
        return web.Response(status=answer.status, body=content, headers=kept)

    async def _stream(self, http: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": answer.content_type})
        await response.prepare(http)

        async def pump() -> None:
            async for chunk in answer.content.iter_any():
                await self._passage()
                await response.write(chunk)

        stream = asyncio.create_task(pump())
        self._streams.add(stream)
        try:
            await asyncio.wait({stream})
            if stream.cancelled():
                raise _BrokenError
            stream.result()
        finally:
            self._streams.discard(stream)
            stream.cancel()
        return response

    async def _disturb(self, http: web.Request, request: Request, met: Disturbance) -> web.StreamResponse:
        if met.hangs:
            await until(lambda: met not in self.disturbances, "the API server answers", seconds=math.inf)
        if not met.status:
            raise _BrokenError
        if met.content is not None:
            return web.Response(status=met.status, body=met.content, content_type="text/html")
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": met.message,
            "reason": _REASONS[met.status],
            "code": met.status,
        }
        if met.in_stream and request.watch:
            response = web.StreamResponse(headers={"Content-Type": "application/json"})
            await response.prepare(http)
            await response.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return response
        headers = {"Retry-After": str(met.retry_after)} if met.retry_after else {}
        return web.json_response(status, status=met.status, headers=headers)
