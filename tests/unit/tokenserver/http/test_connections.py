"""As many connections as there are file descriptors for; all else is in tests/contract/wearing."""

import resource
import ssl
from pathlib import Path

import pytest
from aiohttp import web

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
