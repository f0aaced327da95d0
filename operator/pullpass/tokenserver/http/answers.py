"""How answers look on the wire.

Those with an access token are put together here, headers and all, once for each second that they are given in (see
reuse.py): to write the headers of one answer takes aiohttp a quarter of the time that such a request needs.
"""

from email.utils import formatdate

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
    """An answer that is written already; for a client whose connection stays open (see `takes_prerendered`)."""

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
    """An answer of HTTP/1.1 with our headers and these; of this moment unless they have another `Date`."""
    whole = HEADERS | {"Content-Length": str(len(body)), "Date": formatdate(usegmt=True)} | headers
    lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in whole.items())]
    return "\r\n".join((*lines, "", "")).encode() + body
