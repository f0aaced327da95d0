"""A token server on a real port, and clients that are slow, greedy or wrong."""

import asyncio
import base64
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any
from urllib.parse import urlencode

from pullpass.tokenserver.handler import TokenServer
from pullpass.tokenserver.http.certificate import ServedCertificate
from pullpass.tokenserver.management import Management
from pullpass.tokenserver.settings import TokenServerSettings
from tests.certificates import Mount
from tests.registries import TWO
from tests.unit.tokenserver.world import COST, World, password

USER = "web.reader"
GOOD = password().text
PATIENCE = 120
"""Seconds after which a test gives up; nothing is expected to take a noticeable part of it."""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the one error."""
        [error] = self.json["errors"]
        assert error["message"]
        return str(error["code"])


def guess(number: int, user_id: str = "aaaaaa") -> str:
    """A well-formed password that nobody has; with that public id."""
    return password(f"guess-{number}", user_id).text


def stray(number: int) -> str:
    """A well-formed password with an id that nobody has."""
    return password("stray", f"{number:06x}").text


def get(user: str, secret: str, query: str = "", **headers: str) -> bytes:
    """A GET as it goes over the wire."""
    login = base64.b64encode(f"{user}:{secret}".encode()).decode()
    lines = [f"GET /token?{query} HTTP/1.1", "Host: tokens", f"Authorization: Basic {login}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join((*lines, "", "")).encode()


def post(user: str, secret: str, **more: str) -> bytes:
    """containerd's POST as it goes over the wire."""
    form = {"grant_type": "password", "service": "registry", "username": user, "password": secret} | more
    body = urlencode(form).encode()
    head = f"POST /token HTTP/1.1\r\nHost: tokens\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"Content-Type: application/x-www-form-urlencoded\r\n\r\n" + body


GOOD_LOGIN = get(USER, GOOD)


class Wire:
    """One TCP connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def answer(self) -> Answer:
        """The next answer."""
        async with asyncio.timeout(PATIENCE):
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
            return Answer(
                int(head[0].split()[1]), headers, await self._reader.readexactly(int(headers["content-length"]))
            )

    async def closed(self) -> None:
        """Returns once the other side has closed the connection."""
        async with asyncio.timeout(PATIENCE):
            try:
                while await self._reader.read(65536):
                    pass
            except ConnectionError:
                return

    async def say_end(self) -> None:
        """Closes as an orderly client does."""
        self._writer.close()
        await self._writer.wait_closed()

    def close(self) -> None:
        self._writer.transport.abort()


class Served:
    """One token server over a world, with a clock for its limits that tests turn; over TLS where a certificate is
    mounted."""

    def __init__(self, *trusted: str, world: World | None = None, mount: Mount | None = None) -> None:
        self.world = world or World()
        self.time = 1000.0
        proxies = tuple(map(ip_network, trusted))
        self.server = TokenServer(
            TokenServerSettings("credentials", TWO, bcrypt_cost=COST, trusted_proxies=proxies),
            self.world.cache,
            age=lambda: 0.0,
            clock=self.world.clock,
            monotonic=lambda: self.time,
            certificate=ServedCertificate(mount.directory) if mount else None,
        )
        self.tls = mount.client_context() if mount else None
        """What clients connect with; None for plain HTTP."""
        self.connections = self.server.connections
        self.management = Management(self.server, self.world.cache, clock=self.world.clock)
        self.port = 0
        self.management_port = 0
        self._wires: list[Wire] = []

    @classmethod
    @asynccontextmanager
    async def serving(
        cls, *trusted: str, world: World | None = None, mount: Mount | None = None
    ) -> AsyncIterator["Served"]:
        """Serves while the context lasts."""
        made = cls(*trusted, world=world, mount=mount)
        made.connections.fit_descriptors()
        async with made.management.serve("127.0.0.1", 0) as management_port, made.server.serve("127.0.0.1", 0) as port:
            made.port, made.management_port = port, management_port
            try:
                yield made
            finally:
                for wire in made._wires:
                    wire.close()

    async def connect(self, source: str = "127.0.0.1") -> Wire:
        """A new connection, from that address of the loopback network, and ready for HTTP."""
        opening = asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0), ssl=self.tls)
        return self._keep(Wire(*await opening))

    async def connect_bare(self, source: str = "127.0.0.1") -> Wire:
        """A new connection over which nothing has gone yet, not even TLS."""
        return self._keep(Wire(*await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))))

    async def connect_management(self, source: str = "127.0.0.1") -> Wire:
        """A new connection to the management port."""
        opening = asyncio.open_connection("127.0.0.1", self.management_port, local_addr=(source, 0))
        return self._keep(Wire(*await opening))

    def connect_deaf(self) -> socket.socket:
        """A client over which little fits that it does not read."""
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", self.port))
        client.setblocking(False)
        return client

    async def clog(
        self, client: socket.socket, bytes_: int = 16 * 1024, request: bytes = GOOD_LOGIN
    ) -> asyncio.Transport:
        """Has answers sent to a client that reads none, until that much of them waits in the server; over
        what it waits."""
        loop = asyncio.get_running_loop()
        while not len(self.connections):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        [connection] = self.connections._open
        transport = connection._network
        assert transport is not None
        while transport.get_write_buffer_size() < bytes_:
            await loop.sock_sendall(client, request)
            await asyncio.sleep(0.002)
        return transport

    def _keep(self, wire: Wire) -> Wire:
        self._wires.append(wire)
        return wire

    async def ask(self, request: bytes, source: str = "127.0.0.1") -> Answer:
        """One request over a connection of its own."""
        wire = await self.connect(source)
        try:
            await wire.send(request)
            return await wire.answer()
        finally:
            wire.close()

    async def login(self, secret: str = GOOD, user: str = USER, source: str = "127.0.0.1", **headers: str) -> int:
        """The status that a login gets."""
        return (await self.ask(get(user, secret, **headers), source)).status

    async def metrics(self) -> str:
        """All metrics as they are scraped."""
        wire = await self.connect_management()
        try:
            await wire.send(b"GET /metrics HTTP/1.1\r\nHost: tokens\r\n\r\n")
            return (await wire.answer()).body.decode()
        finally:
            wire.close()
