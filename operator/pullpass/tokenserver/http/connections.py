"""The open connections: how much they may hold together, and how long one may keep the server waiting.

A connection costs memory and a file descriptor whether anything comes over it or not, and more memory for a request
that is not complete. When it is too much, connections that wait for their client are closed, first those of the sender
that holds the most; who waits for us keeps its connection.
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
"""Memory of a connection over which little comes. As many times MAX_CONNECTIONS is what all may hold."""
TLS_BYTES = 40 * 1024
"""What TLS adds to that: some 30 KiB, and a record of 16 KiB at most that is not complete."""
DESCRIPTORS_BESIDE = 128
"""File descriptors for everything else: the API server, logs, Python."""
FIRST_REQUEST_SECONDS = 10
"""From opening a connection to the end of its first request's headers, the handshake of TLS included."""
IDLE_SECONDS = 620
"""From one answer to the end of the next request's headers: longer than proxies keep connections to a server open, as
a request that meets the closing of its connection fails."""
EVICTION_COOLDOWN_SECONDS = 0.1
"""From a search that closed everything it could to the next one."""
STUCK_SECONDS = 30
"""For which a client may leave more answers than fit in the network untaken, before its connection is closed."""
LINGER_SECONDS = 2
"""From an answer that came before the end of a body to the end of the connection, so that the client reads it. And from
there, or whatever else ends a connection, for what was sent to go out: who does not take it is not waited for."""
LINE_BYTES = 16 * 1024
"""Longest request line: 32 scopes of ordinary length."""
FIELD_BYTES = 8 * 1024
FIELDS = 64
AHEAD_BYTES = 64 * 1024
"""What a client may send before its next request is complete: a body and headers, each as long as they may be."""


class Connections:
    """The connections of one server; with a certificate over TLS."""

    def __init__(self, most: int = MAX_CONNECTIONS, certificate: ServedCertificate | None = None) -> None:
        self.most = most
        """How many there may be at a time."""
        self.certificate = certificate
        """What is served with, None for plain HTTP."""
        self.each = IDLE_BYTES + (TLS_BYTES if certificate else 0)
        """Bytes that a connection holds over which little comes."""
        self.closed: Counter[str] = Counter(crowded=0, silent=0, oversized=0, stuck=0)
        """Connections that we closed since start: to make room, because no request came in time, because of the length
        of its headers, or because the client did not take the answers."""
        self.refused = 0
        """Connections that found no room since start."""
        self.unreadable = 0
        """Requests since start that are not HTTP."""
        self.failed_handshakes = 0
        """Handshakes of TLS since start in which client and server did not come together."""
        self.held = 0
        """Bytes that the open connections hold."""
        self._open: set[Connection] = set()
        self._eviction_failed_at = float("-inf")

    def __len__(self) -> int:
        return len(self._open)

    def fit_descriptors(self) -> None:
        """Asks for as many file descriptors as there may be connections, and allows no more connections than that."""
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = self.most + DESCRIPTORS_BESIDE
        if soft < wanted:
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.most = max(1, min(self.most, soft - DESCRIPTORS_BESIDE))

    def accept(self, server: web.Server) -> asyncio.Protocol:
        """What answers a new connection."""
        self.make_room(self.each)
        if self.held + self.each > self.most * self.each:
            self.refused += 1
            return _Refusal(told=self.certificate is None)
        connection = Connection(server, self)
        # Before it counts: what cannot be made is never closed.
        protocol = connection if self.certificate is None else TlsConnection(self.certificate.context, connection)
        self._open.add(connection)
        self.held += connection.holds
        return protocol

    def forget(self, connection: "Connection") -> None:
        """The connection is closed."""
        if connection in self._open:
            self._open.remove(connection)
            self.held -= connection.holds

    def count(self, connection: "Connection", bytes_: int) -> None:
        """The connection holds so many bytes from now on."""
        if connection in self._open:
            self.held += bytes_ - connection.holds
        connection.holds = bytes_

    def make_room(self, wanted: int = 0) -> None:
        """Closes connections until so many more bytes can be held: an eighth of all at a time, as it means looking at
        each of them."""
        limit = self.most * self.each
        if self.held + wanted <= limit:
            return
        now = asyncio.get_running_loop().time()
        if now - self._eviction_failed_at < EVICTION_COOLDOWN_SECONDS:
            return
        of_sender: Counter[str] = Counter()
        for connection in self._open:
            of_sender[connection.sender] += connection.holds
        waiting = [connection for connection in self._open if connection.waits_for_client()]
        waiting.sort(key=lambda connection: (-of_sender[connection.sender], connection.heard))
        for connection in waiting:
            connection.drop("crowded")
            if self.held + wanted <= limit - limit // 8:
                return
        self._eviction_failed_at = now


class Connection(web.RequestHandler, ApplicationProtocol):
    """One connection."""

    __slots__ = (
        "_ahead",
        "_below",
        "_connections",
        "_deadline",
        "_ending",
        "_network",
        "_unsent",
        "heard",
        "holds",
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
            # No client compresses a token request, and unpacking one costs more than sending it.
            auto_decompress=False,
        )
        self._connections = connections
        self._deadline: asyncio.TimerHandle | None = None
        self._network: asyncio.Transport | None = None
        self._ending = False
        self._ahead = 0
        self._below = 0
        self._unsent = 0
        self.holds = connections.each
        """Bytes that it holds, or may hold."""
        self.heard = self._loop.time()
        """When the last byte came, in the event loop's time."""
        self.sender = ""
        """The peer, as limits count it."""

    def accepted(self, transport: asyncio.Transport) -> None:
        """A client has connected."""
        self._network = transport
        peer: Any = transport.get_extra_info("peername")
        self.sender = network(str(peer[0])) if isinstance(peer, tuple) else ""
        due = self._loop.time() + FIRST_REQUEST_SECONDS
        self._set_deadline(FIRST_REQUEST_SECONDS, partial(self._expect_first_request, due))

    def may_hold(self, bytes_: int) -> None:
        """TLS may hold so much more of what is not complete."""
        self._below = bytes_
        self._count()
        self._connections.make_room()

    def handshake_failed(self, error: ssl.SSLError) -> bytes:
        """Counts it. The answer is for who speaks plain HTTP; others hear of it in TLS."""
        self._connections.failed_handshakes += 1
        log.debug("TLS with %s: %s", self.sender, error.reason)
        return written_refusal(InvalidRequestError("this port speaks HTTPS, and the request came without"))

    def ending(self) -> None:
        """The connection is closed once what was sent has gone out, and after a while in any case."""
        if self._network is not None:
            self._set_deadline(LINGER_SECONDS, self._network.abort)
            self._ending = True

    def _set_deadline(self, seconds: float, act: Callable[[], object]) -> None:
        """There is one at a time, and none that takes the place of the last one."""
        if self._ending:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self._loop.call_later(seconds, act)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection is open for HTTP."""
        if self._network is None:
            self.accepted(transport)  # type: ignore[arg-type]  # not an asyncio.Transport to Python, as uvloop makes it
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        """A connection is closed."""
        self._connections.forget(self)
        if self._deadline is not None:
            self._deadline.cancel()
        self._network = None
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Bytes came. They are held as long as they make no complete request, so there must not be many."""
        if self._force_close:
            return
        self.heard = self._loop.time()
        requests = self._request_count
        super().data_received(data)
        self._ahead = len(data) + (self._ahead if requests == self._request_count else 0)
        self._count()
        # While a request is under way, aiohttp reads no more than a little ahead.
        if self._ahead > AHEAD_BYTES and self._waits_for_request():
            if self.transport is not None:
                self.transport.write(
                    written_refusal(HeadersTooLargeError("the headers of a token request are never so long"))
                )
            self.drop("oversized")
        self._connections.make_room()

    def pause_writing(self) -> None:
        """The client does not take its answers; the one on the way is the last until it does."""
        super().pause_writing()
        assert self._network is not None
        self._unsent = self._network.get_write_buffer_size()
        self._count()
        self._set_deadline(STUCK_SECONDS, partial(self.drop, "stuck"))
        self._connections.make_room()

    def resume_writing(self) -> None:
        """It does."""
        super().resume_writing()
        self._unsent = 0
        self._count()
        if self._deadline is not None and not self._ending:
            self._deadline.cancel()

    async def start(self) -> None:
        """Answers one request after the other, until the connection is to be closed."""
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
        """The answer to what is not HTTP, in the form of every other refusal and without a line in the log; and to what
        failed beyond every handler of ours, with one."""
        error: TokenRequestError = InvalidRequestError("this is not a request of HTTP/1.1")
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
        """Sends an answer, and lets others have their turn before the next one that was asked for ahead: from
        Python 3.12 on, aiohttp answers all of these in one turn of the event loop.
        """
        sent = await super().finish_response(request, resp, start_time)
        if self._messages:
            await asyncio.sleep(0)
        return sent

    def waits_for_client(self) -> bool:
        """Whether the next thing to happen here is the client's: a request, the rest of one, or reading the answer."""
        request = self._current_request
        return (
            self._shakes_hands()
            or self._ending
            or self._paused
            or self._waits_for_request()
            or (request is not None and not request.content.is_eof())
        )

    def _count(self) -> None:
        beside = self._connections.each - IDLE_BYTES + self._below + self._unsent
        bytes_ = beside + max(IDLE_BYTES, min(self._ahead, AHEAD_BYTES))
        self._connections.count(self, bytes_)

    def _shakes_hands(self) -> bool:
        """Whether the handshake of TLS is not complete; then nothing of HTTP has begun."""
        return self._task_handler is None and self._network is not None

    def _waits_for_request(self) -> bool:
        return self._waiter is not None and not self._waiter.done()

    def drop(self, why: str) -> None:
        """Closes the connection, at once or when the client has read what was sent. It counts until then."""
        if not self._ending:
            self._connections.closed[why] += 1
        at_once = why in ("crowded", "stuck") or self._shakes_hands()
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
            # For as long as the event loop was late, the client has not been listened to: what it sent is read first.
            self._set_deadline(max(self._loop.time() - due, 0), self._expect_first_request)


class _Refusal(asyncio.Protocol):
    """Answers a connection for which there is no room. Over TLS that would cost a handshake: it is closed at once."""

    def __init__(self, *, told: bool) -> None:
        self._told = told

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if self._told:
            # Not an asyncio.Transport to Python, as uvloop makes it.
            transport.write(written_refusal(BusyError("too many connections at this moment, try again")))  # type: ignore[attr-defined]
        transport.close()
