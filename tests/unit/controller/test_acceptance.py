"""Which token servers have to accept a new password, asked over HTTP."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from pullpass.controller.acceptance import NotAcceptedError, TokenServers
from pullpass.credentials.password import Password, derive
from pullpass.kube.client import Unavailable
from pullpass.kube.resources import ENDPOINT_SLICES
from tests.unit.controller.fake_api import FakeApi
from tests.unit.controller.world import SEED, SETTINGS

PASSWORD = derive(SEED, "uid-1", "nonce", "4f9c1e")
LOGIN = "Basic " + base64.b64encode(f"web.reader:{PASSWORD.text}".encode()).decode()


class Replica:
    """A token server that answers with a status, and counts."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.logins = 0
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.logins += 1
        assert request.headers["Authorization"] == LOGIN
        assert dict(request.query) == {"service": "other-registry"}
        return web.Response(status=self.status)


class Fleet:
    """Replicas on ports of this machine, and what the EndpointSlices say of them."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.servers: list[TestServer] = []

    async def replica(self, status: int, *, ready: bool | None = True) -> Replica:
        made = Replica(status)
        app = web.Application()
        app.router.add_get("/token", made.answer)
        server = TestServer(app)
        await server.start_server()
        assert server.port is not None
        made.port = server.port
        self.servers.append(server)
        self.announce(made.port, ready)
        return made

    def announce(self, port: int, ready: bool | None) -> None:
        """An EndpointSlice for one port."""
        conditions = {} if ready is None else {"ready": ready}
        labels = {"kubernetes.io/service-name": "tokens"}
        self.api.put(
            ENDPOINT_SLICES,
            {
                "metadata": {"namespace": "release", "name": f"tokens-{port}", "labels": labels},
                "ports": [{"name": "metrics", "port": 1}, {"name": "http", "port": port}],
                "endpoints": [{"addresses": ["127.0.0.1"], "conditions": conditions}],
            },
        )

    async def accept(self) -> None:
        async with TokenServers.connect(self.api, SETTINGS) as token_servers:
            await token_servers.accept("web.reader", PASSWORD, "other-registry")


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    made = Fleet()
    yield made
    for server in made.servers:
        await server.close()


async def test_every_ready_replica_is_asked_once(fleet: Fleet) -> None:
    replicas = [await fleet.replica(200) for _ in range(3)]
    await fleet.accept()
    assert [replica.logins for replica in replicas] == [1, 1, 1]


async def test_without_any_replica_nobody_has_to_accept(fleet: Fleet) -> None:
    await fleet.accept()


@pytest.mark.parametrize("status", [401, 400, 500, 302])
@pytest.mark.parametrize("ready", [True, False, None])
async def test_whoever_answers_logins_must_accept(fleet: Fleet, status: int, ready: bool | None) -> None:
    """Also one that is not ready: it may become so at any moment, and then would not know the password."""
    await fleet.replica(200)
    refusing = await fleet.replica(status, ready=ready)
    with pytest.raises(NotAcceptedError, match=f":{refusing.port} does not accept the new password yet .HTTP {status}"):
        await fleet.accept()


async def test_one_that_is_not_ready_and_not_complete_does_not_count(fleet: Fleet) -> None:
    await fleet.replica(200)
    starting = await fleet.replica(503, ready=False)
    await fleet.accept()
    assert starting.logins == 1


async def test_one_that_is_not_ready_and_cannot_be_reached_does_not_count(fleet: Fleet) -> None:
    await fleet.replica(200)
    fleet.announce(unused_port(), False)
    await fleet.accept()


@pytest.mark.parametrize("ready", [True, None])
async def test_a_ready_one_that_cannot_be_asked_counts(fleet: Fleet, ready: bool | None) -> None:
    port = unused_port()
    fleet.announce(port, ready)
    with pytest.raises(NotAcceptedError, match=f"127.0.0.1:{port} cannot be asked"):
        await fleet.accept()


async def test_a_busy_ready_one_is_asked_again_later(fleet: Fleet) -> None:
    await fleet.replica(503)
    with pytest.raises(Unavailable, match="is busy"):
        await fleet.accept()


async def test_replicas_that_come_or_become_ready_meanwhile_are_asked_too(fleet: Fleet) -> None:
    starting = await fleet.replica(503, ready=False)
    late = await fleet.replica(200)
    fleet.api.remove(ENDPOINT_SLICES, "release", f"tokens-{late.port}")
    early = await fleet.replica(200)

    async def list_page(*arguments: Any, **more: Any) -> Any:
        if early.logins and starting.status == 503:
            starting.status = 401
            fleet.announce(starting.port, True)
            fleet.announce(late.port, True)
        return await FakeApi.list_page(fleet.api, *arguments, **more)

    fleet.api.list_page = list_page  # type: ignore[method-assign]
    with pytest.raises(NotAcceptedError, match=f":{starting.port} does not accept"):
        await fleet.accept()
    assert [early.logins, late.logins, starting.logins] == [1, 1, 2]


async def test_the_refusal_does_not_tell_the_password(fleet: Fleet) -> None:
    await fleet.replica(401)
    with pytest.raises(NotAcceptedError) as caught:
        await fleet.accept()
    assert not leaks(PASSWORD, str(caught.value))


def leaks(password: Password, text: str) -> bool:
    """Whether the secret part of a password stands in a text."""
    return password.text[15:47] in text or LOGIN[6:] in text
