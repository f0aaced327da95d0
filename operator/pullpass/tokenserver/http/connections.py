"""Bounds the memory of all connections together, and the time that a client may keep one of them waiting.

A connection costs memory and a file descriptor even when idle, and more memory for an incomplete request. Over the
limit, connections that wait for their client are closed, first those of the sender that uses the most memory. A client
that waits for the server keeps its connection.
"""

import asyncio
import logging
import resource
import ssl
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong

from pullpass.tokenserver.errors import (
    BusyError,
    FailedError,
    HeadersTooLargeError,
    InvalidRequestError,
    TokenRequestError,
)
from pullpass.tokenserver.http.answers import refusal, written_refusal
from pullpass.tokenserver.http.certificate import ServedCertificate
from pullpass.tokenserver.http.proxies import network
from pullpass.tokenserver.http.tls import ApplicationProtocol, TlsConnection

log = logging.getLogger(__name__)

MAX_CONNECTIONS = 4096
IDLE_BYTES = 8 * 1024
"""Memory of an idle connection. MAX_CONNECTIONS times as much is the limit for all of them."""
TLS_BYTES = 40 * 1024
"""Added by TLS: about 30 KiB, and an incomplete record of up to 16 KiB."""
RESERVED_DESCRIPTORS = 128
"""File descriptors kept for everything else: the API server, logs, Python."""
FIRST_REQUEST_SECONDS = 10
"""From opening a connection to the end of the first request's headers, TLS handshake included."""
IDLE_SECONDS = 620
"""From one answer to the end of the next request's headers. Longer than proxies keep idle connections to a server open:
a request that is sent while the server closes its connection fails."""
EVICTION_COOLDOWN_SECONDS = 0.1
"""From an eviction that could not free enough to the next attempt."""
STUCK_SECONDS = 30
"""For how long the client may not read while answers wait to be sent, before its connection is closed."""
LINGER_SECONDS = 2
"""How long a connection stays open after an answer that was sent before the request's body ended, so that the client
can read it. Also how long a connection that is being closed may take to send what is in its buffers."""
LINE_BYTES = 16 * 1024
"""Longest request line: enough for 32 scopes of usual length."""
FIELD_BYTES = 8 * 1024
FIELDS = 64
MAX_UNPARSED_BYTES = 64 * 1024
"""How much a client may send before a request is complete: headers and a body of the longest allowed length."""


class Connections:
    """The open connections of one server: at most `limit`, over TLS where there is a certificate."""

    def __init__(self, limit: int = MAX_CONNECTIONS, certificate: ServedCertificate | None = None) -> None:
        self.limit = limit
        """Maximum of connections at a time."""
        self.certificate = certificate
        """The certificate of the server, None for plain HTTP."""
        self.each = IDLE_BYTES + (TLS_BYTES if certificate else 0)
        """Bytes that an idle connection uses."""
        self.closed: Counter[str] = Counter(crowded=0, silent=0, oversized=0, stuck=0)
        """Connections that the server closed since it started: to make room, because no request came in time, because
        of too long headers, or because the client did not read the answers."""
        self.refused = 0
        """Connections refused since the server started, because there were too many."""
        self.unreadable = 0
        """Requests since the server started that were not HTTP."""
        self.failed_handshakes = 0
        """TLS handshakes since the server started that failed."""
        self.held = 0
        """Bytes that the open connections use."""
        self._open: set[Connection] = set()
        self._eviction_failed_at = float("-inf")

    def __len__(self) -> int:
        return len(self._open)

    def fit_descriptors(self) -> None:
        """Raises the process's limit of file descriptors to what is needed, or lowers the maximum of connections."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.limit + RESERVED_DESCRIPTORS
        if soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.limit = max(1, min(self.limit, soft - RESERVED_DESCRIPTORS))

    def accept(self, server: web.Server) -> asyncio.Protocol:
        """Returns the protocol for a new connection: one that refuses it where there are too many."""
        self.make_room(self.each)
        if self.held + self.each > self.limit * self.each:
            self.refused += 1
            return _Refusal(in_clear=self.certificate is None)
        connection = Connection(server, self)
        # Created before it is counted: one whose creation fails would never be uncounted.
        protocol = connection if self.certificate is None else TlsConnection(self.certificate.context, connection)
        self._open.add(connection)
        self.held += connection.holds
        return protocol

    def forget(self, connection: "Connection") -> None:
        """Stops counting a connection that is closed."""
        if connection in self._open:
            self._open.remove(connection)
            self.held -= connection.holds

    def count(self, connection: "Connection", bytes_: int) -> None:
        """Sets how many bytes a connection uses."""
        if connection in self._open:
            self.held += bytes_ - connection.holds
        connection.holds = bytes_

    def make_room(self, wanted: int = 0) -> None:
        """Closes connections if there is no room for `wanted` more bytes.

        It then frees an eighth of the limit at a time, because it means looking at all connections.
        """
        limit = self.limit * self.each
        if self.held + wanted <= limit:
            return
        now = asyncio.get_running_loop().time()
        if now - self._eviction_failed_at < EVICTION_COOLDOWN_SECONDS:
            return
        of_sender: Counter[str] = Counter()
        for connection in self._open:
            of_sender[connection.sender] += connection.holds
        waiting = [connection for connection in self._open if connection.waits_for_client()]
        waiting.sort(key=lambda connection: (-of_sender[connection.sender], connection.last_received))
        for connection in waiting:
            connection.drop("crowded")
            if self.held + wanted <= limit - limit // 8:
                return
        self._eviction_failed_at = now


class Connection(web.RequestHandler, ApplicationProtocol):
    """One connection: aiohttp's handler of HTTP, with deadlines and a count of the bytes that it uses."""

    __slots__ = (
        "_connections",
        "_deadline",
        "_ending",
        "_network",
        "_tls_bytes",
        "_unparsed",
        "_unsent",
        "holds",
        "last_received",
        "sender",
    )

    def __init__(self, server: web.Server, connections: Connections) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # as AppRunner does it
            max_line_size=LINE_BYTES,
            max_field_size=FIELD_BYTES,
            max_headers=FIELDS,
            lingering_time=LINGER_SECONDS,
            read_bufsize=16 * 1024,
            # No client compresses a token request, and to decompress one costs more than to send it.
            auto_decompress=False,
        )
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._network: asyncio.Transport | None = None
        self._ending = False
        self._unparsed = 0
        self._tls_bytes = 0
        self._unsent = 0
        self.holds = connections.each
        """Bytes that it uses, or may use."""
        self.last_received = self._loop.time()
        """When bytes came last, in the event loop's time."""
        self.sender = ""
        """The network of the peer, as limits count it."""

    def accepted(self, transport: asyncio.Transport) -> None:
        """Called when a client has connected."""
        self._network = transport
        peer: Any = transport.get_extra_info("peername")
        self.sender = network(str(peer[0])) if isinstance(peer, tuple) else ""
        due = self._loop.time() + FIRST_REQUEST_SECONDS
        self._set_deadline(FIRST_REQUEST_SECONDS, partial(self._expect_first_request, due))

    def may_hold(self, bytes_: int) -> None:
        """Called when TLS may use so many bytes for an incomplete handshake message, beyond TLS_BYTES."""
        self._tls_bytes = bytes_
        self._count()
        self._connections.make_room()

    def handshake_failed(self, error: ssl.SSLError) -> bytes:
        """Counts a failed handshake. Returns the answer for a client that speaks plain HTTP; others get a TLS alert."""
        self._connections.failed_handshakes += 1
        log.debug("TLS with %s: %s", self.sender, error.reason)
        return written_refusal(InvalidRequestError("this port serves HTTPS, but the request was sent in plain HTTP"))

    def ending(self) -> None:
        """Called when the connection is being closed. Aborts it if its buffers are not sent in LINGER_SECONDS."""
        if self._network is not None:
            self._set_deadline(LINGER_SECONDS, self._network.abort)
            self._ending = True

    def _set_deadline(self, seconds: float, act: Callable[[], object]) -> None:
        """Replaces the deadline of the connection. The one that ends it, see `ending`, is not replaced any more."""
        if self._ending:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, act)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when the connection is open for HTTP, over TLS after the handshake."""
        if self._network is None:
            self.accepted(transport)  # type: ignore[arg-type]  # not an asyncio.Transport to Python, as uvloop makes it
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called when the connection is closed."""
        self._connections.forget(self)
        if self._deadline is not None:
            self._deadline.cancel()
        self._network = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Called with received bytes. Limits those that are not a complete request yet, as they are kept in memory."""
        if self._force_close:
            return
        self.last_received = self._loop.time()
        requests = self._request_count
        super().data_received(data)
        self._unparsed = len(data) + (self._unparsed if requests == self._request_count else 0)
        self._count()
        # While a request is under way, aiohttp itself stops reading soon.
        if self._unparsed > MAX_UNPARSED_BYTES and self._waits_for_request():
            if self.transport is not None:
                self.transport.write(
                    written_refusal(HeadersTooLargeError("the headers are too long for a token request"))
                )
            self.drop("oversized")
        self._connections.make_room()

    def pause_writing(self) -> None:
        """Called when the client does not read its answers. No further answer is written until it does."""
        super().pause_writing()
        assert self._network is not None
        self._unsent = self._network.get_write_buffer_size()
        self._count()
        self._set_deadline(STUCK_SECONDS, partial(self.drop, "stuck"))
        self._connections.make_room()

    def resume_writing(self) -> None:
        """Called when the client reads its answers again."""
        super().resume_writing()
        self._unsent = 0
        self._count()
        if self._deadline is not None and not self._ending:
            self._deadline.cancel()

    async def start(self) -> None:
        """Answers requests one after the other, until the connection is to be closed."""
        await super().start()
        self.ending()

    def force_close(self) -> None:
        """Closes the connection, whatever is under way."""
        super().force_close()
        self.ending()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Returns the answer to a request that is not HTTP, which is not logged, or that failed outside our handlers,
        which is. Both have the body of any other refusal."""
        error: TokenRequestError = InvalidRequestError("cannot parse the request as HTTP/1.1")
        if status == 400:
            self._connections.unreadable += 1
            if isinstance(exc, LineTooLong):
                error = HeadersTooLargeError("the request line or a header is too long")
        else:
            super().handle_error(request, status, exc, message)
            error = FailedError()
        response = refusal(error)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Sends an answer. Yields to the event loop before the answer to a pipelined request: from Python 3.12 on,
        aiohttp answers all of them in one turn of the loop."""
        sent = await super().finish_response(request, resp, start_time)
        if self._messages:
            await asyncio.sleep(0)
        return sent

    def waits_for_client(self) -> bool:
        """Tells whether the connection waits for its client: to send something, or to read an answer."""
        request = self._current_request
        return (
            self._in_handshake()
            or self._ending
            or self._paused
            or self._waits_for_request()
            or (request is not None and not request.content.is_eof())
        )

    def _count(self) -> None:
        received = max(IDLE_BYTES, min(self._unparsed, MAX_UNPARSED_BYTES))
        tls = self._connections.each - IDLE_BYTES + self._tls_bytes
        self._connections.count(self, received + tls + self._unsent)

    def _in_handshake(self) -> bool:
        """Tells whether the TLS handshake is not complete; aiohttp starts its task after it."""
        return self._task_handler is None and self._network is not None

    def _waits_for_request(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def drop(self, reason: str) -> None:
        """Closes the connection for a reason that is a key of `Connections.closed`.

        "crowded" and "stuck" close it at once, other reasons after what is in its buffers; until then it counts.
        """
        if not self._ending:
            self._connections.closed[reason] += 1
        at_once = reason in ("crowded", "stuck") or self._in_handshake()
        self.force_close()
        if self._network is not None and at_once:
            self._connections.forget(self)
            self._network.abort()

    def _expect_first_request(self, due: float | None = None) -> None:
        if self._request_count > 0:
            return
        if due is None:
            self.drop("silent")
        else:
            # The event loop may be late, and the request already there: read it before judging the client.
            self._set_deadline(max(self._loop.time() - due, 0), self._expect_first_request)


class _Refusal(asyncio.Protocol):
    """Refuses a connection when there are too many. Over TLS it only closes it: an answer would cost a handshake."""

    def __init__(self, *, in_clear: bool) -> None:
        self._in_clear = in_clear

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._in_clear:
            # Not an asyncio.Transport to Python, as uvloop makes it.
            transport.write(written_refusal(BusyError("too many connections at this moment, try again")))  # type: ignore[attr-defined]
        transport.close()
