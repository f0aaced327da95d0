"""As many connections as there are file descriptors for; all else is in tests/contract/wearing."""

import inspect
import re
import resource
import ssl
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from pullpass.tokenserver.http import connections as module
from pullpass.tokenserver.http.certificate import ServedCertificate
from pullpass.tokenserver.http.connections import DESCRIPTORS_BESIDE, Connections
from tests.certificates import Mount

UNLIMITED = resource.RLIM_INFINITY


@pytest.mark.parametrize(
    ("soft", "hard", "asked_for", "most"),
    [
        (20_000, 20_000, None, 1000),
        (1024, 500_000, 1000 + DESCRIPTORS_BESIDE, 1000),
        (1024, UNLIMITED, 1000 + DESCRIPTORS_BESIDE, 1000),
        (256, 512, 512, 512 - DESCRIPTORS_BESIDE),
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
    assert connections.most == most


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
