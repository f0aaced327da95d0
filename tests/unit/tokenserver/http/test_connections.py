"""As many connections as there are file descriptors for; all else is in tests/contract/wearing."""

import asyncio
import inspect
import re
import resource
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import pytest
import uvloop
from aiohttp import web

from pullpass.tokenserver.http import connections as module
from pullpass.tokenserver.http.certificate import ServedCertificate
from pullpass.tokenserver.http.connections import RESERVED_DESCRIPTORS, Connections
from pullpass.tokenserver.http.listener import listen
from tests.certificates import Mount

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "asked_for", "most"),
    [
        (20_000, 20_000, None, 1000),
        (1024, 500_000, 1000 + RESERVED_DESCRIPTORS, 1000),
        (1024, UNLIMITED, 1000 + RESERVED_DESCRIPTORS, 1000),
        (256, 512, 512, 512 - RESERVED_DESCRIPTORS),
        (64, 64, 64, 1),
    ],
)
def test_file_descriptors(
    monkeypatch: pytest.MonkeyPatch, soft: int, hard: int, asked_for: int | None, most: int
) -> None:
    asked: list[tuple[int, int]] = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    connections = Connections(1000)
    connections.fit_descriptors()
    assert asked == ([] if asked_for is None else [(asked_for, hard)])
    assert connections.limit == most


async def test_what_cannot_be_made_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    def out_of_memory(*_: object, **__: object) -> ssl.SSLObject:
        raise MemoryError

    connections = Connections(certificate=ServedCertificate(Mount(tmp_path).directory))
    monkeypatch.setattr(ssl.SSLContext, "wrap_bio", out_of_memory)
    with pytest.raises(MemoryError):
        connections.accept(web.Server(nothing))
    assert (len(connections), connections.held) == (0, 0)


@pytest.mark.parametrize("tls", [False, True], ids=["HTTP", "HTTPS"])
@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_a_client_is_not_closed_for_time_in_which_the_loop_stood_still(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_loop: Callable[[], asyncio.AbstractEventLoop], tls: bool
) -> None:
    """Without processor time the deadline is over when the loop comes to what the client sent in time; and a handshake
    takes several turns.
    """
    monkeypatch.setattr(module, "FIRST_REQUEST_SECONDS", 0.05)
    begin = threading.Event()
    mount = Mount(tmp_path)

    async def ok(_: web.BaseRequest) -> web.StreamResponse:
        return web.Response(text="ok")

    def request(port: int) -> bytes:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as plain:
            begin.wait()
            with mount.client_context().wrap_socket(plain, server_hostname="localhost") if tls else plain as client:
                client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                return client.recv(100)

    async def test() -> None:
        connections = Connections(certificate=served if tls else None)
        async with listen(ok, connections, "127.0.0.1", 0, body_bytes=0) as port:
            answer = asyncio.create_task(asyncio.to_thread(request, port))
            while not any(connection.sender for connection in connections._open):  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0)
            (connection,) = connections._open
            assert connection._network is not None
            begin.set()
            # The loop stands still until the client's bytes are there and the deadline has passed.
            select.select([connection._network.get_extra_info("socket")], [], [])
            time.sleep(2 * module.FIRST_REQUEST_SECONDS)  # noqa: ASYNC251
            assert (await answer).startswith(b"HTTP/1.1 200 ")
            assert connections.closed["silent"] == 0

    served = ServedCertificate(mount.directory)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(test())


PRIVATE = (
    "_current_request",
    "_force_close",
    "_loop",
    "_messages",
    "_paused",
    "_request_count",
    "_task_handler",
    "_waiter",
)
"""What `Connection` uses of aiohttp's request handler without its being promised."""


def test_aiohttp_has_the_private_names_that_connections_use() -> None:
    """pyproject.toml keeps aiohttp below the next minor version for them. If this fails after an upgrade, read
    connections.py beside aiohttp's web_protocol.py before anything else."""
    there = {name for class_ in web.RequestHandler.__mro__ for name in getattr(class_, "__slots__", ())}
    assert set(PRIVATE) <= there, f"aiohttp {aiohttp.__version__} lacks {sorted(set(PRIVATE) - there)}"


def test_no_further_private_name_of_aiohttp_is_used() -> None:
    """A new one has to be added to the list above."""
    used = set(re.findall(r"self\.(_[a-z][a-z_]*)", inspect.getsource(module.Connection)))
    own = {name for name in vars(module.Connection) if name.startswith("_")}
    assert used - own == set(PRIVATE)
