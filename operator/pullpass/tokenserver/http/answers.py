"""How answers look on the wire.

Those with an access token are put together here, headers and all, once for each second that they are given in (see
reuse.py): to write the headers of one answer takes aiohttp a quarter of the time that such a request needs.
"""

from email.utils import formatdate
from functools import lru_cache

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter

from pullpass.tokenserver.errors import TokenRequestError

HEADERS = {
    "Content-Type": "application/json",
    "Cache-Control": "no-store",
    "Pragma": "no-cache",
    "Server": "pullpass",
}
"""Of each answer (RFC 6749, 5.1), but that pages are text. What the server is made of is nobody's business."""


class PrerenderedResponse(web.StreamResponse):
    """An answer that is rendered already; for a client whose connection stays open (see `takes_prerendered`)."""

    def __init__(self, written: bytes) -> None:
        super().__init__()
        self._written = written
        self._writer: AbstractStreamWriter | None = None

    @property
    def keep_alive(self) -> bool:
        """That it stays open."""
        return True

    def force_close(self) -> None:
        """Too late: what is written tells the client nothing of that. Raises RuntimeError."""
        raise RuntimeError("this answer says that its connection stays open")

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Nothing is left to do."""
        self._writer = request.writer
        return self._writer

    async def write_eof(self, data: bytes = b"") -> None:
        """Sends it; waits where the client does not take its answers."""
        assert self._writer is not None
        assert not data
        await self._writer.write_eof(self._written)


def takes_prerendered(request: web.BaseRequest) -> bool:
    """Tells whether nothing need be said of the connection, which stays open in HTTP/1.1 unless the client objects."""
    return bool(request.version == HttpVersion11 and request.keep_alive)


def page(text: bytes, content_type: str = "text/plain; charset=utf-8", status: int = 200) -> web.Response:
    """Answers a probe or a scraper."""
    return web.Response(body=text, status=status, headers=HEADERS | {"Content-Type": content_type})


def refusal(error: TokenRequestError, *, oauth: bool = False) -> web.Response:
    """Answers what is refused; `oauth` adds what RFC 6749 says."""
    return web.Response(body=error.body(oauth=oauth), status=error.status, headers=HEADERS | error.headers())


def written_refusal(error: TokenRequestError) -> bytes:
    """Renders a refusal where there is no request that it answers, as the last thing on its connection."""
    return written(error.status, error.code, error.headers() | {"Connection": "close"}, error.body(oauth=False))


def rendered(second: int, body: bytes) -> bytes:
    """Renders an answer of HTTP/1.1 with an access token, given in that second."""
    return b"%b%d\r\n\r\n%b" % (_head(second), len(body), body)


@lru_cache(2)
def _head(second: int) -> bytes:
    """Renders its status line and headers, up to the value of the last one: the same for all answers of a second."""
    return _lines(200, "OK", HEADERS | {"Date": formatdate(second, usegmt=True), "Content-Length": ""})


def written(status: int, reason: str, headers: dict[str, str], body: bytes) -> bytes:
    """Renders an answer of HTTP/1.1 of this moment, with our headers and these."""
    whole = HEADERS | {"Content-Length": str(len(body)), "Date": formatdate(usegmt=True)} | headers
    return b"%b\r\n\r\n%b" % (_lines(status, reason, whole), body)


def _lines(status: int, reason: str, headers: dict[str, str]) -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status} {reason}", *map(": ".join, headers.items())]).encode()
