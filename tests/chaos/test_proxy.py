"""The proxy passes on what it should, fails as it is told, and keeps the record."""

import asyncio
import json
from collections.abc import AsyncIterator

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from tests.chaos.api import Api
from tests.chaos.proxy import Cut, Disturbance, Proxy
from tests.chaos.waiting import until

OBJECT = "/api/v1/namespaces/team/secrets/one"


class Upstream:
    """Stands in for the API server: counts, echoes, and streams what it is given."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.seen.append(f"{request.method} {request.path_qs}")
        if "watch" in request.query:
            response = web.StreamResponse()
            await response.prepare(request)
            while line := await self.lines.get():
                await response.write(line)
            return response
        return web.json_response({"said": (await request.read()).decode()}, headers={"X-Kept": "yes"})


@pytest_asyncio.fixture
async def upstream() -> AsyncIterator[tuple[Upstream, str]]:
    there = Upstream()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", there.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield there, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest_asyncio.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest_asyncio.fixture
async def proxy(upstream: tuple[Upstream, str], session: aiohttp.ClientSession) -> AsyncIterator[Proxy]:
    made = Proxy(Api(upstream[1], session), "operator-0", seed=7)
    await made.start()
    yield made
    await made.stop()


async def post(session: aiohttp.ClientSession, proxy: Proxy) -> int:
    """The status of a write, 0 where the connection breaks. Other methods would be sent twice then, by aiohttp."""
    try:
        async with session.post(f"{proxy.url}{OBJECT}", data=b"text") as answer:
            await answer.read()
            return answer.status
    except aiohttp.ClientError:
        return 0


async def test_passes_on_and_keeps_the_record(
    proxy: Proxy, session: aiohttp.ClientSession, upstream: tuple[Upstream, str]
) -> None:
    async with session.put(f"{proxy.url}{OBJECT}?fieldManager=me", data=b"text") as answer:
        assert await answer.json() == {"said": "text"}
        assert answer.headers["X-Kept"] == "yes"
    assert upstream[0].seen == [f"PUT {OBJECT}?fieldManager=me"]
    (request,) = proxy.requests
    assert (request.method, request.path, request.stored, request.told) == ("PUT", OBJECT, 200, 200)
    assert request.works
    assert request.ended is not None
    assert request.ended >= request.at


async def test_a_cut_that_refuses(proxy: Proxy, session: aiohttp.ClientSession, upstream: tuple[Upstream, str]) -> None:
    proxy.cut(Cut.REFUSE)
    assert await post(session, proxy) == 0
    assert upstream[0].seen == []
    assert proxy.requests[0].stored == proxy.requests[0].told == 0
    proxy.heal()
    assert await post(session, proxy) == 200


@pytest.mark.parametrize(("deliver", "status"), [(True, 200), (False, 0)])
async def test_a_cut_that_hangs(
    proxy: Proxy, session: aiohttp.ClientSession, upstream: tuple[Upstream, str], deliver: bool, status: int
) -> None:
    proxy.cut(Cut.HANG)
    sending = asyncio.create_task(post(session, proxy))
    await until(lambda: proxy.requests, "the request is there", every=0.01)
    assert upstream[0].seen == []
    proxy.heal(deliver=deliver)
    assert await sending == status
    assert len(upstream[0].seen) == deliver


async def test_watches_stream_and_can_be_cut(
    proxy: Proxy, session: aiohttp.ClientSession, upstream: tuple[Upstream, str]
) -> None:
    async with session.get(f"{proxy.url}{OBJECT}?watch=true") as answer:
        await upstream[0].lines.put(b"first\n")
        assert await answer.content.readline() == b"first\n"
        proxy.cut_watches()
        with pytest.raises(aiohttp.ClientError):
            await answer.read()
    assert proxy.requests[0].watch
    assert await post(session, proxy) == 200


async def test_an_error_inside_of_a_stream(
    proxy: Proxy, session: aiohttp.ClientSession, upstream: tuple[Upstream, str]
) -> None:
    proxy.disturbances = (Disturbance(1, 410, to=lambda request: request.watch, in_stream=True),)
    async with session.get(f"{proxy.url}{OBJECT}?watch=true") as answer:
        assert answer.status == 200
        event = json.loads(await answer.read())
    assert event["type"] == "ERROR"
    assert event["object"]["code"] == 410
    assert await post(session, proxy) == 200
    assert len(upstream[0].seen) == 1


@pytest.mark.parametrize(
    ("met", "told", "done"),
    [
        (Disturbance(1, 503, retry_after=3), 503, 0),
        (Disturbance(1, 0), 0, 0),
        (Disturbance(1, 500, forwarded=True), 500, 1),
        (Disturbance(1, 0, forwarded=True), 0, 1),
        (Disturbance(1, 503, to=lambda request: request.lease), 200, 1),
    ],
)
async def test_disturbances(
    proxy: Proxy, session: aiohttp.ClientSession, upstream: tuple[Upstream, str], met: Disturbance, told: int, done: int
) -> None:
    proxy.disturbances = (met,)
    assert await post(session, proxy) == told
    assert len(upstream[0].seen) == done
    assert proxy.requests[0].stored == (200 if done else 0)
    assert proxy.requests[0].told == told


@pytest.mark.parametrize("forwarded", [True, False])
async def test_an_answer_that_is_not_json(
    proxy: Proxy, session: aiohttp.ClientSession, upstream: tuple[Upstream, str], forwarded: bool
) -> None:
    proxy.disturbances = (Disturbance(1, 200, content=b"<html>", forwarded=forwarded),)
    async with session.post(f"{proxy.url}{OBJECT}", data=b"text") as answer:
        assert (answer.status, await answer.read()) == (200, b"<html>")
    assert len(upstream[0].seen) == forwarded


async def test_a_truncated_answer(proxy: Proxy, session: aiohttp.ClientSession) -> None:
    proxy.disturbances = (Disturbance(1, 200, forwarded=True, truncated=True),)
    async with session.post(f"{proxy.url}{OBJECT}", data=b"text") as answer:
        with pytest.raises(json.JSONDecodeError):
            json.loads(await answer.read())


async def test_what_hangs_breaks_when_the_disturbance_ends(
    proxy: Proxy, session: aiohttp.ClientSession, upstream: tuple[Upstream, str]
) -> None:
    hanging = Disturbance(1, hangs=True)
    proxy.disturbances = (hanging,)
    sending = asyncio.create_task(post(session, proxy))
    await until(lambda: proxy.requests, "the request is there", every=0.01)
    done, _ = await asyncio.wait({sending}, timeout=0.3)
    assert done == set()
    proxy.disturbances = ()
    assert await sending == 0
    assert upstream[0].seen == []


async def test_what_an_admission_webhook_says(proxy: Proxy, session: aiohttp.ClientSession) -> None:
    proxy.disturbances = (Disturbance(1, 403, message="a webhook denied the request"),)
    async with session.get(f"{proxy.url}{OBJECT}") as answer:
        said = await answer.json()
    assert (said["code"], said["reason"], said["message"]) == (403, "Forbidden", "a webhook denied the request")


async def test_retry_after_is_said(proxy: Proxy, session: aiohttp.ClientSession) -> None:
    proxy.disturbances = (Disturbance(1, 429, retry_after=3),)
    async with session.get(f"{proxy.url}{OBJECT}") as answer:
        assert answer.headers["Retry-After"] == "3"


async def test_a_share_meets_a_disturbance(proxy: Proxy, session: aiohttp.ClientSession) -> None:
    proxy.disturbances = (Disturbance(0.5, 500),)
    statuses = [await post(session, proxy) for _ in range(60)]
    assert set(statuses) == {200, 500}


async def test_smaller_pages(proxy: Proxy, session: aiohttp.ClientSession, upstream: tuple[Upstream, str]) -> None:
    proxy.page = 5
    async with session.get(f"{proxy.url}/api/v1/secrets?limit=500&labelSelector=a%3Db") as answer:
        await answer.read()
    assert upstream[0].seen == ["GET /api/v1/secrets?limit=5&labelSelector=a%3Db"]
