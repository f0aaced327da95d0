"""A token server on a socket of its own, raw bytes sent to it, and what it did about them."""

import asyncio
import logging
from dataclasses import dataclass, field
from types import TracebackType

from pullpass.tokenserver.handler import TokenServer
from pullpass.tokenserver.settings import TokenServerSettings
from tests.registries import TWO
from tests.unit.tokenserver.world import COST, World

QUIET = 0.05
"""Seconds without an answer after which what was sent is taken for the beginning of a request, and is ended.
Nothing depends on it but how much is tried in a while."""
GENEROUS = 60.0
"""Seconds after which a server hangs that has all of a request, or is told that no more will come."""

SETTINGS = TokenServerSettings("credentials", TWO, bcrypt_cost=COST)


class Lines(logging.Handler):
    """Keeps all log lines as they would be written, tracebacks included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.text: list[str] = []
        self.tracebacks: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        self.text.append(line)
        if record.exc_info or record.levelno >= logging.ERROR:
            self.tracebacks.append(line)


@dataclass
class Served:
    """A running token server."""

    port: int
    lines: Lines = field(default_factory=Lines)

    async def exchange(self, *pieces: bytes) -> bytes:
        """Sends pieces over one connection and returns all that came back, until the server is quiet or closes."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received = b""
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                received += await _until_quiet(reader)
            writer.write_eof()
            received += await asyncio.wait_for(reader.read(), GENEROUS)
        except (ConnectionError, OSError):
            pass  # The server has closed, as it may.
        finally:
            writer.close()
        return received

    async def ask(self, *pieces: bytes, requests: int = 1) -> bytes:
        """Sends good requests, cut into packets, and returns all of their answers."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        received = b""
        try:
            async with asyncio.timeout(GENEROUS):
                for piece in pieces:
                    writer.write(piece)
                    await asyncio.sleep(0)  # lets the server, in the same event loop, take this one
                    await asyncio.sleep(0)
                while received.count(b"HTTP/1.1 ") < requests or not received.endswith(b"}"):
                    chunk = await reader.read(65536)
                    assert chunk, "closed with answers outstanding"
                    received += chunk
        finally:
            writer.close()
        return received


async def _until_quiet(reader: asyncio.StreamReader) -> bytes:
    received = b""
    while True:
        try:
            chunk = await asyncio.wait_for(reader.read(65536), QUIET)
        except TimeoutError:
            return received
        if not chunk:
            return received
        received += chunk
        if received.endswith(b"}") and b"\r\n\r\n" in received:
            return received


class Server:
    """Serves as the process does, from a world in which the one good password works."""

    def __init__(self) -> None:
        self.world = World()
        server = TokenServer(SETTINGS, self.world.cache, age=lambda: 0.0, clock=self.world.clock, monotonic=lambda: 0.0)
        self._serving = server.serve("127.0.0.1", 0)

    async def __aenter__(self) -> Served:
        served = Served(await self._serving.__aenter__())
        self._root = logging.getLogger()
        self._lines, self._level = served.lines, self._root.level
        self._root.addHandler(served.lines)
        self._root.setLevel(logging.INFO)
        return served

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._serving.__aexit__(kind, error, trace)
        self._root.removeHandler(self._lines)
        self._root.setLevel(self._level)
