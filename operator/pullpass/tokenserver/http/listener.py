"""A port on which requests are answered, by aiohttp's low-level server: one handler for every request, no routes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

from aiohttp import HttpVersion11, web

from pullpass.tokenserver.errors import ExpectationFailed
from pullpass.tokenserver.http.answers import refusal
from pullpass.tokenserver.http.connections import Connections

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

CLOSING_SECONDS = 5
"""Time for requests under way once the port is closed."""


@asynccontextmanager
async def listen(
    handler: Handler,
    connections: Connections,
    host: str | None,
    port: int,
    *,
    body_bytes: int,
) -> AsyncIterator[int]:
    """Answers requests while the context lasts, and yields the port: the system chooses one for 0.

    Without a host it listens on all addresses, of IPv4 and IPv6. Reading a body that is longer than `body_bytes` raises
    aiohttp's HTTPRequestEntityTooLarge in the handler. Raises OSError where the port is taken.
    """
    request = partial(web.BaseRequest, loop=asyncio.get_running_loop(), client_max_size=body_bytes)
    server = web.Server(partial(_answer, handler), request_factory=request)
    runner = web.ServerRunner(server, shutdown_timeout=CLOSING_SECONDS)
    await runner.setup()
    try:
        site = _Site(runner, connections, host, port)
        await site.start()
        yield site.port
    finally:
        await runner.cleanup()


async def _answer(handler: Handler, http: web.BaseRequest) -> web.StreamResponse:
    if "Expect" in http.headers:
        if http.headers["Expect"].lower() != "100-continue":  # RFC 9110, 10.1.1
            return refusal(ExpectationFailed())
        if http.version == HttpVersion11:
            await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            http.writer.output_size = 0
    return await handler(http)


class _Site(web.BaseSite):
    """The port that connections come in by."""

    def __init__(self, runner: web.BaseRunner, connections: Connections, host: str | None, port: int) -> None:
        super().__init__(runner, backlog=1024)
        self._connections = connections
        self._host = host
        self._port = port

    @property
    def name(self) -> str:
        """Where it listens."""
        scheme = "http" if self._connections.certificate is None else "https"
        return f"{scheme}://{self._host or '*'}:{self._port}"

    @property
    def port(self) -> int:
        """The port, also where the system was to choose it."""
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]
        return port

    async def start(self) -> None:
        """Listens. Raises OSError where the port is taken."""
        await super().start()
        server = self._runner.server
        assert server is not None
        self._server = await asyncio.get_running_loop().create_server(
            partial(self._connections.accept, server), self._host, self._port, backlog=self._backlog
        )
