"""TLS between the network and the HTTP of one connection (RFC 8446, RFC 5246).

Python's `ssl` does the cryptography, over buffers in memory; this module moves bytes between these buffers and the two
sides. The event loop's own TLS is not used: it takes 256 KiB for each connection, limits neither half-open handshakes
nor their memory, and waits for clients that do not answer a close_notify.

Memory stays small because bytes go through the buffers in chunks, and whatever comes out is passed on at once, in both
directions; and while a client does not read, nothing more is read from it. So this layer has no queue of its own, and
the limits of `connections.py` hold over TLS as well.
"""

import asyncio
import contextlib
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2: forward secrecy and authenticated encryption only. TLS 1.3 has no others."""
CHUNK_BYTES = 4 * 1024
"""How much is written to a buffer at a time. OpenSSL's buffers in memory never shrink."""
MESSAGE_BYTES = 256 * 1024
"""How much OpenSSL may allocate for an incomplete handshake message: the length that its first bytes claim, up to 128
KiB, and as much again while its buffers grow."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Creates the context of a server with TLS 1.2 and 1.3, from PEM files of its certificate, with chain, and its key.

    Raises ssl.SSLError where they do not belong together or cannot be parsed, OSError where they cannot be read.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    # No client needs renegotiation, and it lets one make the server work.
    context.options |= ssl.OP_NO_RENEGOTIATION
    # A login needs one handshake, and the keys of resumable sessions could decrypt past ones.
    context.num_tickets = 0
    context.options |= ssl.OP_NO_TICKET
    context.load_cert_chain(certificate, key)
    return context


class ApplicationProtocol(asyncio.Protocol):
    """The protocol over TLS. `connection_made` is called when the handshake is complete, `connection_lost` always."""

    __slots__ = ()

    def accepted(self, transport: asyncio.Transport) -> None:
        """Called when a client has connected, before the handshake."""

    def may_hold(self, bytes_: int) -> None:
        """Called when TLS may use so many bytes beyond those of an idle connection, until the next call."""

    def ending(self) -> None:
        """Called when the connection is being closed: what was written is still sent, unless it is aborted."""

    def handshake_failed(self, error: ssl.SSLError) -> bytes:
        """Called when the handshake fails. Returns what to send to a client that speaks plain HTTP."""
        return b""


class TlsConnection(asyncio.Transport, asyncio.Protocol):
    """One connection: a protocol to the network's transport, a transport to the application protocol."""

    def __init__(self, context: ssl.SSLContext, application: ApplicationProtocol) -> None:
        super().__init__()
        self._context = context
        self._application = application
        self._network: asyncio.Transport | None = None
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._established = False
        """Whether the handshake is complete."""
        self._peer_closed = False
        """Whether the client has sent a close_notify."""
        self._closing = False
        """Whether nothing is read or written any more; what was written is still sent."""
        self._write_paused = False
        """Whether the network's transport is full, because the client does not read."""
        self._read_paused = False
        """Whether the application protocol wants no data for now."""

    # Called by the network's transport.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called when a client has connected. The handshake begins with what it sends."""
        self._network = transport  # type: ignore[assignment]  # not an asyncio.Transport to Python, as uvloop makes it
        self._application.accepted(self)

    def data_received(self, data: bytes) -> None:
        """Called with received bytes, of the handshake or encrypted."""
        plain: list[bytes] = []
        try:
            for chunk in _chunks(data):
                if self._closing:
                    return
                self._incoming.write(chunk)
                if self._established or self._handshake():
                    self._decrypt(plain)
        except ssl.SSLError as error:
            self._fail(error)
            return
        if plain:
            self._application.data_received(b"".join(plain))
        if self._peer_closed and not self._closing:
            self._application.eof_received()
            self.close()

    def eof_received(self) -> None:
        """Called when the client has closed its side of the connection. The transport then closes the other side, as it
        does without TLS."""
        if self._established and not self._closing:
            self._application.eof_received()

    def pause_writing(self) -> None:
        """Called when the client does not read. Until it does, nothing is read from it either."""
        self._write_paused = True
        self._update_reading()
        if self._established:
            self._application.pause_writing()

    def resume_writing(self) -> None:
        """Called when the client reads again."""
        self._write_paused = False
        self._update_reading()
        if self._established:
            self._application.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called when the network's connection is closed."""
        self._closing = True
        self._network = None
        self._application.connection_lost(exc)

    # Called by the application protocol.

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypts and sends data. Drops it where the connection is being closed."""
        if self._closing:
            return
        try:
            for chunk in _chunks(data):
                self._tls.write(chunk)
                self._send()
        except ssl.SSLError as error:
            self._fail(error)

    def close(self) -> None:
        """Closes after sending what was written and a close_notify, without waiting for the client's."""
        if self._closing:
            return
        self._closing = True
        if self._established:
            with contextlib.suppress(ssl.SSLError):  # raised while the client's close_notify has not come
                self._tls.unwrap()
            self._send()
        if self._network is not None:
            self._network.close()
        self._application.ending()

    def abort(self) -> None:
        """Closes at once, without sending what was written."""
        self._closing = True
        if self._network is not None:
            self._network.abort()

    def is_closing(self) -> bool:
        """Tells whether the connection is closed or being closed."""
        return self._closing

    def pause_reading(self) -> None:
        """Stops reading from the network. What was received already is still passed on."""
        self._read_paused = True
        self._update_reading()

    def resume_reading(self) -> None:
        """Reads from the network again."""
        self._read_paused = False
        self._update_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Returns `sslcontext`, `ssl_object`, or what the network's transport has under that name."""
        if name == "sslcontext":
            return self._context
        if name == "ssl_object":
            return self._tls
        return default if self._network is None else self._network.get_extra_info(name, default)

    def get_write_buffer_size(self) -> int:
        """Returns the bytes that wait to be sent."""
        return 0 if self._network is None else self._network.get_write_buffer_size()

    # Internal.

    def _handshake(self) -> bool:
        """Continues the handshake. Returns whether it is complete. Raises ssl.SSLError where it fails."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            # If there is an answer, the client's message was complete, and no part of one is in memory.
            self._application.may_hold(0 if self._outgoing.pending else MESSAGE_BYTES)
            self._send()
            return False
        self._established = True
        self._send()
        self._application.may_hold(0)
        self._application.connection_made(self)
        if self._write_paused:
            self._application.pause_writing()
        return True

    def _decrypt(self, plain: list[bytes]) -> None:
        try:
            while data := self._tls.read(CHUNK_BYTES):
                plain.append(data)
            self._peer_closed = True
        except ssl.SSLWantReadError:
            # OpenSSL may have written an answer, such as an alert.
            self._send()
            if self._tls.version() is None:
                # OpenSSL refuses a renegotiation only when the message that begins it is complete.
                raise ssl.SSLError("the client started a handshake message after the handshake") from None

    def _send(self) -> None:
        if self._outgoing.pending and self._network is not None:
            self._network.write(self._outgoing.read())

    def _update_reading(self) -> None:
        if self._closing or self._network is None:
            return
        if self._write_paused or self._read_paused:
            self._network.pause_reading()
        else:
            self._network.resume_reading()

    def _fail(self, error: ssl.SSLError) -> None:
        """Closes the connection after a TLS error. Sends the alert that OpenSSL has written for the client."""
        self._closing = True
        in_clear = b"" if self._established else self._application.handshake_failed(error)
        self._send()
        if self._network is not None:
            if in_clear and error.reason == "HTTP_REQUEST":
                self._network.write(in_clear)
            self._network.close()
        self._application.ending()


def _chunks(data: bytes | bytearray | memoryview) -> Iterator[memoryview]:
    view = memoryview(data)
    for begin in range(0, len(view), CHUNK_BYTES):
        yield view[begin : begin + CHUNK_BYTES]
