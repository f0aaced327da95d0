"""How answers look on the wire. All have the same headers.

An access token that is given again (see reuse.py) is put together once a second, headers and all: aiohttp takes as long
to write the headers of one answer as everything else takes that such a request needs.
"""

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from pullpass.tokenserver.errors import TokenRequestError

HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "Server": "pullpass",
}
"""Of each answer (RFC 6749, 5.1). What the server is made of, and in which version, is nobody's business."""


class Ready(web.StreamResponse):
    """An answer that is written already; for a client whose connection stays open (see `takes_ready`)."""

    def __init__(self, written: bytes) -> None:
        super().__init__()
        self._written = written
        self._writer: AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool:
        """That it stays open."""
        return True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Nothing is left to do."""
        self._writer = request.writer
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Sends it; waits where the client does not take its answers."""
        assert self._writer is not None
        await self._writer.write_eof(self._written + data)


def takes_ready(request: web.BaseRequest) -> bool:
    """Whether nothing need be said of the connection: that of HTTP/1.1 stays open unless the client wants otherwise."""
    return bool(request.version == HttpVersion11 and request.keep_alive)


def page(text: bytes, content_type: str = "text/plain; charset=utf-8", status: int = 200) -> web.Response:
    """An answer to a probe or a scraper."""
    return web.Response(body=text, status=status, headers=HEADERS | {"Content-Type": content_type})


def refusal(error: TokenRequestError, *, oauth: bool = False) -> web.Response:
    """The answer to what is refused; `oauth` adds what RFC 6749 says."""
    return web.Response(body=error.body(oauth=oauth), status=error.status, headers=HEADERS | error.headers())


def written_refusal(error: TokenRequestError) -> bytes:
    """The same where there is no request that it answers, as the last thing on its connection."""
    return written(error.status, error.code, error.headers() | {"Connection": "close"}, error.body(oauth=False))


def written(status: int, reason: str, headers: dict[str, str], body: bytes) -> bytes:
    """An answer of HTTP/1.1 with our headers and these."""
    lines = [f"HTTP/1.1 {status} {reason}"]
    lines += [f"{name}: {value}" for name, value in (HEADERS | {"Content-Length": str(len(body))} | headers).items()]
    return "\r\n".join((*lines, "", "")).encode() + body
