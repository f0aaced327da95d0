"""A TLS connection of the server and a client, with a network and an HTTP that are both in memory."""

import asyncio
import contextlib
import ssl
from typing import Any

from pullpass.tokenserver.http.tls import ApplicationProtocol, TlsConnection, server_context
from tests.certificates import Mount


class Network(asyncio.Transport):
    """The network's transport, as a list of what was done with it."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 4000)})
        self.sent = b""
        self.largest = 0
        self.reads = True
        self.ended = ""

    def write(self, data: Any) -> None:
        assert not self.ended
        self.sent += data
        self.largest = max(self.largest, len(data))

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def close(self) -> None:
        self.ended = self.ended or "closed"

    def abort(self) -> None:
        self.ended = "aborted"


class Http(ApplicationProtocol):
    """What is above, as a list of what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.received = b""
        self.held: list[int] = []
        self.transport: asyncio.Transport | None = None
        self.on_data: Any = None

    def accepted(self, transport: asyncio.Transport) -> None:
        self.told.append("accepted")

    def may_hold(self, bytes_: int) -> None:
        self.held.append(bytes_)

    def ending(self) -> None:
        self.told.append("ending")

    def handshake_failed(self, error: ssl.SSLError) -> bytes:
        self.told.append(f"failed: {error.reason}")
        return b"take TLS"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.told.append("made")
        self.transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.on_data is not None:
            self.on_data()

    def eof_received(self) -> None:
        self.told.append("eof")

    def pause_writing(self) -> None:
        self.told.append("pause")

    def resume_writing(self) -> None:
        self.told.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.told.append("lost")


class Pair:
    """A server's connection, and a client in memory."""

    def __init__(self, mount: Mount, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> None:
        self.network, self.http = Network(), Http()
        context = server_context(mount.directory / "tls.crt", mount.directory / "tls.key")
        self.server = TlsConnection(context, self.http)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        trusting = mount.client_context()
        trusting.maximum_version = version
        self.client = trusting.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.server.connection_made(self.network)

    def to_server(self) -> bytes:
        return self._outgoing.read()

    def deliver(self) -> None:
        """What the client has written goes to the server, and what that has sent to the client."""
        if data := self.to_server():
            self.server.data_received(data)
        self._incoming.write(self.network.sent)
        self.network.sent = b""

    def shake_hands(self) -> None:
        for _ in range(2):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.client.do_handshake()
            self.deliver()

    def read(self) -> bytes:
        """All that the client has got; without the end of it where that was said."""
        self._incoming.write(self.network.sent)
        self.network.sent = b""
        data = b""
        try:
            while piece := self.client.read():
                data += piece
        except ssl.SSLWantReadError:
            pass
        return data

    def ended(self) -> bool:
        """Whether the client was told that nothing more comes."""
        try:
            return self.client.read() == b""
        except ssl.SSLWantReadError:
            return False
