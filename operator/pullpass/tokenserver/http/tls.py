"""TLS between the network and the HTTP of one connection (RFC 8446, RFC 5246).

Python's `ssl` does the cryptography, over buffers in memory; here is only what moves bytes between these and the two
sides. The event loop's own TLS is not used, as it holds 256 KiB for every connection, bounds neither half-open
handshakes nor what a client may have them hold, and waits for clients that do not answer a close.

What keeps it small: bytes go through the buffers a piece at a time, so neither grows beyond that; everything that
comes out is passed on at once, in both directions; and as long as a client does not take what it was sent, nothing
more is read from it. So this layer has no queue of its own, and the limits of `connections.py` hold over TLS as well.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others."""
PIECE_BYTES = 4 * 1024
"""What goes into a buffer at a time. OpenSSL's buffers in memory never shrink."""
MESSAGE_BYTES = 256 * 1024
"""What OpenSSL may hold of a handshake message that is not complete: it makes room for the length that the message's
first bytes claim, up to 128 KiB, and as it grows its buffers."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server of TLS 1.2 and 1.3 offers, with the certificate (and its chain) and the key of these PEM files.

    Raises ssl.SSLError where they do not belong together or cannot be read, OSError where they are missing.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    # A second handshake within a connection is what no client of ours needs, and a way to make us work.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A login is one handshake; to resume a session would mean to keep keys that open past ones.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.load_cert_chain(certificate, key)
    return context


class ApplicationProtocol(asyncio.Protocol):
    """What speaks HTTP over it. `connection_made` comes when the handshake is complete, `connection_lost` always."""

    __slots__ = ()

    def accepted(self, transport: asyncio.Transport) -> None:
        """The network's connection is there, and the handshake begins."""

    def may_hold(self, bytes_: int) -> None:
        """So much may be held here, beyond what an idle connection holds, until another word on it."""

    def ending(self) -> None:
        """Nothing is read or written any more, and what was written goes out; `abort` need not wait for that."""

    def handshake_failed(self, error: ssl.SSLError) -> bytes:
        """Client and server do not come together, and the connection ends; with this in clear, if there is anything."""
        return b""


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """One connection: a protocol to the network's transport, a transport to the HTTP above it."""

    def __init__(self, context: ssl.SSLContext, above: ApplicationProtocol) -> None:
        super().__init__()
        self._context = context
        self._above = above
        self._below: asyncio.Transport | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._open = False
        """The handshake is complete."""
        self._ended = False
        """The client has said that nothing more comes (close_notify)."""
        self._closing = False
        """Nothing is read or written any more; what was written still goes out."""
        self._choked = False
        """The client does not take what it was sent."""
        self._unwanted = False
        """The HTTP above wants no more data for now."""

    # What the network's transport calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; it speaks first."""
        self._below = transport  # type: ignore[assignment]  # not an asyncio.Transport to Python, as uvloop makes it
        self._above.accepted(self)

    def data_received(self, data: bytes) -> None:
        """Bytes came: of the handshake, or encrypted ones."""
        plain: list[bytes] = []
        try:
            for piece in _pieces(data):
                if self._closing:
                    return
                self._incoming.write(piece)
                if self._open or self._shake_hands():
                    self._decrypt(plain)
        except ssl.SSLError as error:
            self._fail(error)
            return
        if plain:
            self._above.data_received(b"".join(plain))
        if self._ended and not self._closing:
            self._above.eof_received()
            self.close()

    def eof_received(self) -> None:
        """The client's side of the network's connection is closed. The transport then closes the other one by itself,
        as it does where no TLS is."""
        if self._open and not self._closing:
            self._above.eof_received()

    def pause_writing(self) -> None:
        """The client does not take what it was sent."""
        self._choked = True
        self._read_or_not()
        if self._open:
            self._above.pause_writing()

    def resume_writing(self) -> None:
        """The client has taken it."""
        self._choked = False
        self._read_or_not()
        if self._open:
            self._above.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The network's connection is closed."""
        self._closing = True
        self._below = None
        self._above.connection_lost(exc)

    # What the HTTP above calls.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Sends, or drops it where the connection is closed already."""
        if self._closing:
            return
        try:
            for piece in _pieces(data):
                self._tls.write(piece)
                self._send()
        except ssl.SSLError as error:
            self._fail(error)

    def close(self) -> None:
        """Closes once what was written has gone out. The client is told (close_notify), and not waited for."""
        if self._closing:
            return
        self._closing = True
        if self._open:
            with contextlib.suppress(ssl.SSLError):  # that the client's own close_notify is not there yet
                self._tls.unwrap()
            self._send()
        if self._below is not None:
            self._below.close()
        self._above.ending()

    def abort(self) -> None:
        """Closes at once."""
        self._closing = True
        if self._below is not None:
            self._below.abort()

    def is_closing(self) -> bool:
        """Whether it is closed, or about to be."""
        return self._closing

    def pause_reading(self) -> None:
        """No more data for now; what came with the last of it is passed on still."""
        self._unwanted = True
        self._read_or_not()

    def resume_reading(self) -> None:
        """More data, please."""
        self._unwanted = False
        self._read_or_not()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`sslcontext`, `ssl_object`, and what the network's transport knows."""
        if name == "sslcontext":
            return self._context
        if name == "ssl_object":
            return self._tls
        return default if self._below is None else self._below.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Bytes that wait to be sent."""
        return 0 if self._below is None else self._below.get_write_buffer_size()

    # Between the two.

    def _shake_hands(self) -> bool:
        """Goes on with the handshake, as far as what came allows. Whether it is complete; raises ssl.SSLError."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            # An answer means that the client's message was complete, and so nothing of one is held.
            self._above.may_hold(0 if self._outgoing.pending else MESSAGE_BYTES)
            self._send()
            return False
        self._open = True
        self._send()
        self._above.may_hold(0)
        self._above.connection_made(self)
        if self._choked:
            self._above.pause_writing()
        return True

    def _decrypt(self, plain: list[bytes]) -> None:
        try:
            while data := self._tls.read(PIECE_BYTES):
                plain.append(data)
            self._ended = True
        except ssl.SSLWantReadError:
            # Now and then there is something to say to what came, an alert for example.
            self._send()
            if self._tls.version() is None:
                # OpenSSL refuses another handshake only once the message that begins it is complete.
                raise ssl.SSLError("a part of a handshake message after the handshake") from None

    def _send(self) -> None:
        if self._outgoing.pending and self._below is not None:
            self._below.write(self._outgoing.read())

    def _read_or_not(self) -> None:
        if self._closing or self._below is None:
            return
        if self._choked or self._unwanted:
            self._below.pause_reading()
        else:
            self._below.resume_reading()

    def _fail(self, error: ssl.SSLError) -> None:
        """Ends the connection; OpenSSL has written an alert that tells the client why."""
        self._closing = True
        in_clear = b"" if self._open else self._above.handshake_failed(error)
        self._send()
        if self._below is not None:
            if in_clear and error.reason == "HTTP_REQUEST":
                self._below.write(in_clear)
            self._below.close()
        self._above.ending()


def _pieces(data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    view = memoryview(data)
    for begin in range(0, len(view), PIECE_BYTES):
        yield view[begin : begin + PIECE_BYTES]
