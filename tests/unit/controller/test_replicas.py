"""Which token servers have to confirm a new password, asked over HTTP on their management ports."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

from pullpass.api.times import format_time
from pullpass.controller import replicas as module
from pullpass.controller.replicas import NotConfirmedError, NotReadyError, Replicas
from pullpass.kube.client import Kube, Unavailable
from pullpass.kube.resources import ENDPOINT_SLICES
from pullpass.tokenserver.handler import TokenServer
from pullpass.tokenserver.management import Management
from pullpass.tokenserver.settings import TokenServerSettings
from tests.registries import TWO
from tests.unit.controller.fake_api import FakeApi
from tests.unit.controller.world import SETTINGS
from tests.unit.tokenserver import world as tokenworld

UID, ID, VERSION = "uid-1", "4f9c1e", "812"
NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
READY = [True, None]
"""By the API's own rule, no word on it means ready."""


def answer(**more: Any) -> dict[str, Any]:
    """What a replica answers that confirms, or something else."""
    confirmed = {"complete": True, "ready": True, "version": VERSION, "accepted": True, "reason": None}
    return confirmed | {"time": format_time(NOW)} | more


OLD = answer(version="811", accepted=False, reason="no such password")
STARTING = answer(complete=False, ready=False, accepted=False, version=None, reason="not everything was heard")
NO_LEAF = answer(ready=False, accepted=False, reason="there is no signing leaf of that registry yet")
REFUSING = answer(accepted=False, reason="token is disabled")


class Replica:
    """A management port that answers anything, and counts."""

    def __init__(self, said: Any, status: int) -> None:
        self.said = said
        self.status = status
        self.headers: dict[str, str] = {}
        self.questions = 0
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.questions += 1
        asked = (request.path, dict(request.query))
        assert asked in ((f"/tokens/{UID}", {"password": ID, "registry": "other"}), ("/registries", {}))
        assert request.headers["Host"] == "tokens.release.svc"
        assert "Authorization" not in request.headers
        body = self.said if isinstance(self.said, bytes) else json.dumps(self.said).encode()
        return web.Response(status=self.status, body=body, headers=self.headers)


class Fleet:
    """Replicas on ports of this machine, and what the EndpointSlices say of them."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.kube: Kube = self.api
        self.servers: list[TestServer] = []
        self.port_name = "http-management"

    async def replica(self, said: Any = None, *, status: int = 200, ready: bool | None = True) -> Replica:
        made = Replica(answer() if said is None else said, status)
        app = web.Application()
        app.router.add_get("/{path:.*}", made.answer)
        made.port = await self.serve(app, ready=ready)
        return made

    async def serve(self, app: web.Application, *, ready: bool | None = True) -> int:
        server = TestServer(app)
        await server.start_server()
        assert server.port is not None
        self.servers.append(server)
        self.announce(server.port, ready)
        return server.port

    def announce(self, port: int, ready: bool | None, **more: Any) -> None:
        """An EndpointSlice for one port."""
        conditions = {} if ready is None else {"ready": ready}
        endpoint = {"addresses": ["127.0.0.1"], "conditions": conditions, "targetRef": {"name": f"pod-{port}"}}
        self.slice(f"tokens-{port}", [{"name": self.port_name, "port": port}], [endpoint | more])

    def slice(self, name: str, ports: Any, endpoints: Any) -> None:
        labels = {"kubernetes.io/service-name": "tokens"}
        self.api.put(
            ENDPOINT_SLICES,
            {
                "metadata": {"namespace": "release", "name": name, "labels": labels},
                "ports": ports,
                "endpoints": endpoints,
            },
        )

    async def confirm(self, *, uid: str = UID, id_: str = ID, version: str = VERSION, registry: str = "other") -> None:
        async with Replicas.connect(self.kube, SETTINGS) as replicas:
            replicas._now = lambda: NOW
            await replicas.confirm(uid, id_, version, registry)

    async def issuing(self) -> Any:
        async with Replicas.connect(self.kube, SETTINGS) as replicas:
            return await replicas.issuing()


@pytest.fixture
async def fleet() -> AsyncIterator[Fleet]:
    made = Fleet()
    yield made
    for server in made.servers:
        await server.close()


async def test_every_ready_replica_is_asked_once(fleet: Fleet) -> None:
    replicas = [await fleet.replica() for _ in range(3)]
    await fleet.confirm()
    assert [replica.questions for replica in replicas] == [1, 1, 1]


# Nobody to ask is no consent


@pytest.mark.parametrize("slices", [False, True])
async def test_without_any_endpoint_nothing_is_confirmed(fleet: Fleet, slices: bool) -> None:
    """Kubernetes keeps an empty slice, without ports, for a Service that selects no pod."""
    if slices:
        fleet.slice("tokens-empty", None, None)
    with pytest.raises(NotReadyError, match="Service release/tokens has no endpoints; look at the token servers' pods"):
        await fleet.confirm()


@pytest.mark.parametrize("ready", READY)
async def test_a_slice_without_the_management_port_is_no_consent(fleet: Fleet, ready: bool | None) -> None:
    await fleet.replica()
    fleet.port_name = "http"
    other = await fleet.replica(ready=ready)
    with pytest.raises(NotReadyError, match="names no port http-management for it; --token-server-service must name"):
        await fleet.confirm()
    assert other.questions == 0


async def test_one_that_is_not_ready_and_has_no_such_port_does_not_count(fleet: Fleet) -> None:
    """A pod of an older version that does not start must not hold up every rotation."""
    await fleet.replica()
    fleet.port_name = "http"
    await fleet.replica(ready=False)
    await fleet.confirm()


@pytest.mark.parametrize("said", [STARTING, NO_LEAF])
async def test_replicas_that_do_not_count_are_no_consent(fleet: Fleet, said: Any) -> None:
    fleet.announce(unused_port(), False)
    await fleet.replica(said, ready=False)
    with pytest.raises(NotReadyError, match="has 2 endpoints, none of which confirms the new password"):
        await fleet.confirm()


async def test_one_that_is_not_ready_can_confirm(fleet: Fleet) -> None:
    """As one does that is about to end and still issues tokens."""
    await fleet.replica(ready=False)
    await fleet.confirm()


# What a replica answers


@pytest.mark.parametrize("ready", [*READY, False])
@pytest.mark.parametrize(
    ("said", "status", "text"),
    [
        (OLD, 200, "holds version 811 of the credential record and not 812 .no such password."),
        (answer(version="813"), 200, "holds version 813 of the credential record and not 812; it is asked again"),
        (
            answer(version=None, accepted=False, reason="no RegistryToken has that UID"),
            404,
            "holds no version of the credential record and not 812 .no RegistryToken has that UID.",
        ),
        (NO_LEAF | {"version": "811"}, 200, "holds version 811 of the credential record"),
        (REFUSING, 200, "would refuse the new password .token is disabled.; it is asked again"),
    ],
)
async def test_whoever_is_complete_must_hold_the_record_and_accept(
    fleet: Fleet, said: Any, status: int, text: str, ready: bool | None
) -> None:
    """Also one that is not ready: it may become so at any moment, and then would not know the password."""
    await fleet.replica()
    refusing = await fleet.replica(said, status=status, ready=ready)
    with pytest.raises(NotConfirmedError, match=text) as caught:
        await fleet.confirm()
    assert not isinstance(caught.value, NotReadyError)
    assert f"token server 127.0.0.1:{refusing.port} (pod pod-{refusing.port})" in str(caught.value)


@pytest.mark.parametrize(
    ("said", "text"),
    [
        (STARTING, "is still reading what the API server has .not everything was heard.; its log"),
        (NO_LEAF, "can issue no access tokens for registry other .there is no signing leaf of that registry yet."),
    ],
)
async def test_one_that_can_serve_nothing_is_told_apart(fleet: Fleet, said: Any, text: str) -> None:
    await fleet.replica()
    unable = await fleet.replica(said)
    with pytest.raises(NotReadyError, match=f":{unable.port} .pod pod-{unable.port}. {text}"):
        await fleet.confirm()


@pytest.mark.parametrize("said", [STARTING, NO_LEAF])
async def test_that_does_not_count_where_it_is_not_ready(fleet: Fleet, said: Any) -> None:
    await fleet.replica()
    starting = await fleet.replica(said, ready=False)
    await fleet.confirm()
    assert starting.questions == 1


@pytest.mark.parametrize("ready", [*READY, False])
@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"ok\n",
        b"\xff\xfe",
        b"[" * 4000,
        b'"accepted"',
        b"null",
        {},
        {"accepted": True},
        answer(accepted="true"),
        answer(version=812),
        answer(version=["812"]),
        answer(time="yesterday"),
        answer(time="2027-03-01T12:00:00"),
        answer(reason="two\nlines"),
        answer(reason="a" * 201),
        answer(more="a" * 5000),
        gzip.compress(json.dumps(answer()).encode()),
    ],
)
async def test_what_is_no_answer_of_ours_is_no_consent(fleet: Fleet, said: Any, ready: bool | None) -> None:
    await fleet.replica()
    other = await fleet.replica(said, ready=ready)
    with pytest.raises(NotConfirmedError, match=f":{other.port} .* does not answer as a token server does .HTTP 200"):
        await fleet.confirm()


@pytest.mark.parametrize("status", [201, 204, 302, 401, 403, 418, 500])
async def test_nor_is_another_status(fleet: Fleet, status: int) -> None:
    other = await fleet.replica(status=status)
    other.headers = {"Location": f"http://127.0.0.1:{(await fleet.replica()).port}/tokens/{UID}"}
    with pytest.raises(NotConfirmedError, match=f"does not answer as a token server does .HTTP {status}"):
        await fleet.confirm()


async def test_nothing_is_unpacked(fleet: Fleet) -> None:
    """A small answer could be a large one."""
    other = await fleet.replica(gzip.compress(json.dumps(answer()).encode()))
    other.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(NotConfirmedError, match="does not answer as a token server does"):
        await fleet.confirm()


async def test_what_garbage_says_is_not_repeated(fleet: Fleet) -> None:
    await fleet.replica({"reason": "hello", "accepted": True})
    with pytest.raises(NotConfirmedError) as caught:
        await fleet.confirm()
    assert "hello" not in str(caught.value)


# For which registries they can issue


def issuing(*registries: str, complete: bool = True) -> dict[str, Any]:
    """What a replica answers that has leaves of these."""
    return {"complete": complete, "registries": registries}


HAS_BOTH, HAS_ONE = issuing("default", "other"), issuing("default")


@pytest.mark.parametrize(
    ("replicas", "expected"),
    [
        ([(HAS_BOTH, True), (HAS_BOTH, None)], {"default", "other"}),
        # Who is ready takes logins.
        ([(HAS_BOTH, True), (HAS_ONE, True)], {"default"}),
        ([(HAS_BOTH, True), (HAS_ONE, False)], {"default", "other"}),
        ([(issuing(), True)], set()),
        # Without a leaf of any registry none is ready.
        ([(issuing(), False), (issuing(), False)], set()),
        ([(issuing(complete=False), True)], None),
        ([(issuing(complete=False), False), (HAS_ONE, True)], {"default"}),
        ([(b"404 page not found", True), (HAS_ONE, True)], {"default"}),
        ([({"complete": True, "registries": ["a"] * 65}, True)], None),
        ([({"complete": True, "registries": "default"}, True)], None),
        ([], None),
    ],
)
async def test_what_they_can_issue_access_tokens_for(
    fleet: Fleet, replicas: list[tuple[Any, bool | None]], expected: set[str] | None
) -> None:
    for said, ready in replicas:
        await fleet.replica(said, ready=ready)
    assert await fleet.issuing() == expected


async def test_those_that_cannot_be_asked_say_nothing_of_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.5)
    fleet.announce(unused_port(), True)
    assert await fleet.issuing() is None
    async with await hanging() as server:
        fleet.announce(server.sockets[0].getsockname()[1], True)
        await fleet.replica(HAS_ONE)
        assert await fleet.issuing() == {"default"}


async def hanging() -> asyncio.Server:
    """A server that takes connections and never answers."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    return await asyncio.start_server(wait, "127.0.0.1", 0)


# Who cannot be asked


@pytest.mark.parametrize("ready", READY)
async def test_a_ready_one_that_cannot_be_asked_counts(fleet: Fleet, ready: bool | None) -> None:
    await fleet.replica()
    port = unused_port()
    fleet.announce(port, ready)
    with pytest.raises(NotReadyError, match=f"127.0.0.1:{port} .* cannot be asked .ClientConnectorError.; look at"):
        await fleet.confirm()


async def test_one_that_is_not_ready_and_cannot_be_asked_does_not_count(fleet: Fleet) -> None:
    await fleet.replica()
    fleet.announce(unused_port(), False)
    await fleet.confirm()


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_a_proxy_in_front_of_one_that_does_not_run_says_so(fleet: Fleet, status: int) -> None:
    """A service mesh answers in the place of a pod, and a token server has room for so many connections only."""
    await fleet.replica()
    busy = await fleet.replica(b"no healthy upstream", status=status, ready=False)
    await fleet.confirm()
    fleet.announce(busy.port, True)
    with pytest.raises(NotReadyError, match=f"cannot be asked .HTTP {status}"):
        await fleet.confirm()


async def test_one_that_never_answers_is_given_up(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(module, "MIN_ANSWER_SECONDS", 0.05)
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await gone.wait()
        return response

    app = web.Application()
    app.router.add_get("/{path:.*}", endless)
    await fleet.serve(app)
    with pytest.raises(NotReadyError, match=r"cannot be asked .TimeoutError"):
        await fleet.confirm()
    gone.set()


async def test_one_that_hangs_costs_one_wait_and_is_asked_once_it_answers_again(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More of this, in fake time, is in `test_replicas_that_hang.py`."""
    monkeypatch.setattr(module, "ANSWER_SECONDS", 2)
    monkeypatch.setattr(module, "MIN_ANSWER_SECONDS", 0.05)
    await fleet.replica()
    woken = asyncio.Event()
    hung = Replica(OLD, 200)

    async def late(request: web.Request) -> web.Response:
        await woken.wait()
        return await hung.answer(request)

    app = web.Application()
    app.router.add_get("/{path:.*}", late)
    await fleet.serve(app, ready=False)
    async with Replicas.connect(fleet.kube, SETTINGS) as replicas:
        replicas._now = lambda: NOW
        begun = time.monotonic()
        await asyncio.gather(*(replicas.confirm(UID, ID, VERSION, "other") for _ in range(20)))
        for _ in range(20):
            await replicas.confirm(UID, ID, VERSION, "other")
        assert 2 < time.monotonic() - begun < 20, "each of the later ones waited as long"
        woken.set()
        with pytest.raises(NotConfirmedError, match="holds version 811"):
            await replicas.confirm(UID, ID, VERSION, "other")
        assert hung.questions >= 2, "the probe was answered as well"


async def test_trouble_with_the_api_server_is_no_consent(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    await fleet.replica()

    async def list_page(*_: Any, **__: Any) -> Any:
        raise Unavailable("HTTP 500", 500)

    monkeypatch.setattr(fleet.api, "list_page", list_page)
    with pytest.raises(Unavailable):
        await fleet.confirm()


# Who comes meanwhile


async def test_replicas_that_come_or_become_ready_meanwhile_are_asked_too(fleet: Fleet) -> None:
    starting = await fleet.replica(STARTING, ready=False)
    late = await fleet.replica()
    fleet.api.remove(ENDPOINT_SLICES, "release", f"tokens-{late.port}")
    early = await fleet.replica()

    async def list_page(*arguments: Any, **more: Any) -> Any:
        if early.questions and starting.said == STARTING:
            starting.said = OLD
            fleet.announce(starting.port, True)
            fleet.announce(late.port, True)
        return await FakeApi.list_page(fleet.api, *arguments, **more)

    fleet.api.list_page = list_page  # type: ignore[method-assign]
    with pytest.raises(NotConfirmedError, match=f":{starting.port} .* holds version 811"):
        await fleet.confirm()
    assert [early.questions, late.questions, starting.questions] == [1, 1, 2]


# Clocks


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (61, ". Its clock is 61 s ahead of the operator's: set the clocks of the nodes"),
        (-3600, ". Its clock is 3600 s behind the operator's: set the clocks of the nodes"),
        (60, ""),
        (-60, ""),
    ],
)
async def test_a_refusal_tells_of_a_clock_that_is_wrong(fleet: Fleet, seconds: int, said: str) -> None:
    await fleet.replica(
        REFUSING | {"reason": "password has ended", "time": format_time(NOW + timedelta(seconds=seconds))}
    )
    with pytest.raises(NotConfirmedError) as caught:
        await fleet.confirm()
    assert str(caught.value).endswith(f"its ScopeMap{said}")


async def test_a_clock_that_is_wrong_is_no_refusal(fleet: Fleet) -> None:
    await fleet.replica(answer(time=format_time(NOW + timedelta(hours=1))))
    await fleet.confirm()


# A real one


async def test_a_real_token_server_is_understood(fleet: Fleet) -> None:
    known = tokenworld.World()
    server = TokenServer(TokenServerSettings("credentials", TWO, bcrypt_cost=4), known.cache, age=lambda: 0.0)
    management = Management(server, known.cache, clock=known.clock)
    async with management.serve("127.0.0.1", 0) as port:
        fleet.announce(port, ready=True)
        await _real_answers(fleet, known)


async def _real_answers(fleet: Fleet, known: tokenworld.World) -> None:
    credential = known.cache.credential("uid-1")
    assert credential is not None
    sound = {"id_": "aaaaaa", "version": credential.version, "registry": "default"}
    await fleet.confirm(**sound)
    with pytest.raises(NotConfirmedError, match="holds version 1 of the credential record and not 2"):
        await fleet.confirm(**sound | {"version": "2"})
    with pytest.raises(NotConfirmedError, match=r"would refuse the new password .no such password."):
        await fleet.confirm(**sound | {"id_": "bbbbbb"})
    with pytest.raises(NotReadyError, match="no signing leaf of that registry"):
        await fleet.confirm(**sound | {"registry": "other"})
    with pytest.raises(NotConfirmedError, match=r"holds no version .* .no RegistryToken has that UID."):
        await fleet.confirm(**sound, uid="uid-2")
