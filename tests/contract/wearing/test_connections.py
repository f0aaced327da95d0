"""Connections that are slow, half open, idle, crowded or too wide cost others nothing."""

import asyncio
import gzip
import logging
from typing import Any

import pytest

from pullpass.tokenserver import handler as server
from pullpass.tokenserver.http import connections
from tests.contract.wearing.served import GOOD, GOOD_LOGIN, USER, Served, Wire, get, post

HALF_HEAD = GOOD_LOGIN[:-10]
HALF_BODY = post(USER, GOOD)[:-10]
PAUSED_BYTES = 64 * 1024 + 1
"""From here on asyncio asks to pause: no more answers are written."""


async def settle(served: Served, most: int) -> None:
    """Waits until the server has noticed which connections are gone."""
    async with asyncio.timeout(60):
        while len(served.connections) > most:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


# Slow ones


@pytest.mark.parametrize("sent", [b"", b"G", b"GET /token HTTP/1.1\r\n", HALF_HEAD])
async def test_a_request_whose_head_does_not_come_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    monkeypatch.setattr(connections, "FIRST_REQUEST_SECONDS", 0.5)
    wire = await served.connect()
    await wire.send(sent)
    await wire.closed()
    assert served.connections.closed["silent"] == 1
    await settle(served, 0)


async def test_a_head_that_trickles_in_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "FIRST_REQUEST_SECONDS", 0.5)
    wire = await served.connect()

    async def trickle() -> None:
        while True:
            await wire.send(b"X-Very-Slow: 1\r\n")
            await asyncio.sleep(0.01)

    await wire.send(b"GET /token HTTP/1.1\r\n")
    slow = asyncio.create_task(trickle())
    await wire.closed()
    slow.cancel()
    await asyncio.gather(slow, return_exceptions=True)
    assert served.connections.closed["silent"] == 1


async def test_a_second_request_that_does_not_come_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "IDLE_SECONDS", 0.05)
    wire = await served.connect()
    await wire.send(GOOD_LOGIN)
    assert (await wire.answer()).status == 200
    await wire.send(HALF_HEAD)
    await wire.closed()


async def test_a_body_that_does_not_come_is_not_waited_for(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BODY_SECONDS", 0.05)
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.05)
    wire = await served.connect()
    await wire.send(HALF_BODY)
    answer = await wire.answer()
    assert (answer.status, answer.code) == (400, "UNSUPPORTED")
    await wire.closed()


async def test_a_client_that_leaves_within_its_body_is_no_defect(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        wire = await served.connect()
        await wire.send(HALF_BODY)
        wire.close()
    await settle(served, 0)
    assert await served.login() == 200
    shown = await served.metrics()
    assert 'requests_total{method="POST",outcome="error",registry="default"} 0.0' in shown
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


# Many


async def test_a_good_login_beside_thousands_of_idle_connections(served: Served) -> None:
    idle: list[Wire] = []
    for _ in range(30):
        idle += await asyncio.gather(*(served.connect() for _ in range(100)))
        assert await served.login() == 200
    assert served.connections.refused == 0
    assert len(served.connections) <= served.connections.limit
    for wire in idle:
        wire.close()
    await settle(served, 0)
    assert served.connections.held == 0


@pytest.mark.parametrize("sent", [b"", HALF_HEAD, HALF_BODY, GOOD_LOGIN])
async def test_when_there_are_too_many_connections_those_that_wait_for_their_client_go(
    served: Served, sent: bytes
) -> None:
    served.connections.limit = 32
    for number in range(200):
        wire = await served.connect("127.0.0.2")
        await wire.send(sent)
        if number % 10 == 0:
            assert await served.login() == 200
        assert len(served.connections) <= 32
    assert served.connections.closed["crowded"] >= 200 - 32
    assert served.connections.refused == 0


async def test_who_has_the_most_connections_loses_them_first(served: Served) -> None:
    served.connections.limit = 32
    calm = await served.connect()
    await calm.send(GOOD_LOGIN)
    assert (await calm.answer()).status == 200
    crowd = [await served.connect("127.0.0.2") for _ in range(200)]
    await calm.send(GOOD_LOGIN)
    assert (await calm.answer()).status == 200
    for wire in (calm, *crowd):
        wire.close()


async def test_requests_under_way_keep_their_connections_and_a_new_one_finds_no_room(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.connections.limit = 4
    going_on = asyncio.Event()
    authenticate = served.server.authenticator.authenticate

    async def slow(*login: str) -> object:
        await going_on.wait()
        return await authenticate(*login)

    monkeypatch.setattr(served.server.authenticator, "authenticate", slow)
    wires = [await served.connect() for _ in range(4)]
    for wire in wires:
        await wire.send(GOOD_LOGIN)
    await asyncio.sleep(0.1)
    late = await served.connect_bare()
    if not served.tls:
        refusal = await late.answer()
        assert (refusal.status, refusal.code) == (503, "UNAVAILABLE")
        assert int(refusal.headers["retry-after"]) > 0
    # Over TLS it is not told: that would cost a handshake.
    await late.closed()
    assert served.connections.refused == 1
    going_on.set()
    assert [(await wire.answer()).status for wire in wires] == [200] * 4


async def test_what_incomplete_requests_hold_together_is_bounded(served: Served) -> None:
    served.connections.limit = 64
    limit = 64 * served.connections.each
    head = b"GET /token?scope=" + b"a" * 15_000 + b" HTTP/1.1\r\nX: " + b"b" * 8_000
    for _ in range(100):
        wire = await served.connect("127.0.0.2")
        await wire.send(head)
        assert served.connections.held <= limit + len(head)
    assert await served.login() == 200
    assert served.connections.closed["crowded"] > 0


# Wide ones


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /token?scope=" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (get(USER, GOOD, X="a" * 20_000), 431),
        (get(USER, GOOD, **{f"X{n}": "a" for n in range(200)}), 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 100, 400),
        (b"no HTTP at all\r\n\r\n", 400),
        (b"GET /token HTTP/1.1\r\nHost: a\r\nBroken header\r\n\r\n", 400),
        (b"POST /token HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n" + b"a" * 100_000, 413),
        (b"POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\na\r\n" * 40_000, 413),
        (b"POST /token HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n", 400),
        (get(USER, GOOD, "&".join(f"scope=repository:demo/a{n}:pull" for n in range(33))), 400),
        (get(USER, GOOD, "scope=" + "+".join(f"repository:demo/a{n}:pull" for n in range(33))), 400),
        (post(USER, GOOD, scope=" ".join(f"repository:demo/a{n}:pull" for n in range(1000))), 400),
        (post(USER, GOOD, scope="repository:demo/a:" + "pull," * 2000), 400),
        (get(USER, GOOD, "scope=repository:demo/nginx:" + ",".join("a" * n for n in range(1, 18))), 400),
    ],
)
async def test_what_is_too_much_is_refused_in_the_one_form(
    served: Served, caplog: pytest.LogCaptureFixture, request_: bytes, status: int
) -> None:
    with caplog.at_level(logging.WARNING):
        answer = await served.ask(request_)
    assert (answer.status, answer.headers["content-type"].split(";")[0]) == (status, "application/json")
    assert answer.code in ("UNSUPPORTED", "SIZE_INVALID")
    assert caplog.records == []
    assert await served.login() == 200


async def test_headers_without_an_end_are_cut_off(served: Served) -> None:
    wire = await served.connect()
    await wire.send(b"GET /token HTTP/1.1\r\n" + b"".join(b"X%d: %s\r\n" % (n, b"a" * 4000) for n in range(40)))
    answer = await wire.answer()
    assert (answer.status, answer.code) in [(431, "SIZE_INVALID"), (400, "UNSUPPORTED")]
    await wire.closed()


BROAD_HEAD = b"GET /token HTTP/1.1\r\n" + b"".join(b"X%d: %s\r\n" % (n, b"a" * 4000) for n in range(20))
LAST_REQUEST = get(USER, GOOD, Connection="close")


async def test_answers_that_are_not_taken_count_and_are_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STUCK_SECONDS", 0.2)
    async with Served.serving() as served, asyncio.timeout(60):
        with served.connect_deaf() as client:
            await served.clog(client, PAUSED_BYTES)
            assert served.connections.held > 64 * 1024
            await settle(served, 0)
            assert served.connections.closed["stuck"] == 1
            assert served.connections.held == 0


async def test_who_takes_no_access_tokens_gets_no_more_of_them() -> None:
    """Also where the same one is given again."""
    async with Served.serving() as served, asyncio.timeout(60):
        with served.connect_deaf() as client:
            transport = await served.clog(client, 60 * 1024)
            [connection] = served.connections._open
            read = connection._request_count
            await asyncio.get_running_loop().sock_sendall(client, GOOD_LOGIN * 20)
            while connection._request_count == read:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            for _ in range(5):
                assert await served.login() == 200
            assert transport.get_write_buffer_size() < 68 * 1024


async def test_who_takes_its_answers_late_keeps_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STUCK_SECONDS", 0.5)
    async with Served.serving() as served, asyncio.timeout(60):
        with served.connect_deaf() as client:
            transport = await served.clog(client, PAUSED_BYTES)
            while transport.get_write_buffer_size():
                await asyncio.get_running_loop().sock_recv(client, 65536)
            assert served.connections.held == served.connections.each
            await asyncio.sleep(0.6)
            assert len(served.connections) == 1


async def test_when_there_are_too_many_connections_who_takes_no_answers_goes() -> None:
    async with Served.serving() as served, asyncio.timeout(60):
        with served.connect_deaf() as client:
            await served.clog(client, PAUSED_BYTES)
            served.connections.limit = 4
            assert await served.login() == 200
            assert served.connections.closed["crowded"] == 1


@pytest.mark.parametrize("last", [BROAD_HEAD, LAST_REQUEST, b"no HTTP at all\r\n\r\n"])
async def test_who_does_not_take_its_answers_does_not_keep_a_connection_that_is_to_end(
    monkeypatch: pytest.MonkeyPatch, last: bytes
) -> None:
    """It counts as long as it is open, and that is not long."""
    monkeypatch.setattr(connections, "LINGER_SECONDS", 0.2)
    async with Served.serving() as served, asyncio.timeout(60):
        with served.connect_deaf() as client:
            transport = await served.clog(client)
            await asyncio.get_running_loop().sock_sendall(client, last)
            while not transport.is_closing():  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            assert len(served.connections) == 1
            await settle(served, 0)
            assert served.connections.held == 0


async def test_a_compressed_body_is_not_unpacked(served: Served) -> None:
    body = gzip.compress(b"a" * 10_000_000)
    head = f"POST /token HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\nContent-Length: {len(body)}\r\n\r\n"
    assert (await served.ask(head.encode() + body)).status == 400


# Pipelined ones


async def test_pipelined_requests_are_answered_in_their_order(served: Served) -> None:
    wire = await served.connect()
    await wire.send(b"".join(get(USER, GOOD, f"scope=repository:samples/a{n}:pull") for n in range(100)))
    for number in range(100):
        answer = await wire.answer()
        assert answer.status == 200
        access = json_of(answer.json["access_token"])["access"]
        assert access == [{"type": "repository", "name": f"samples/a{number}", "actions": ["pull"]}]


async def test_others_have_their_turn_between_pipelined_requests(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing that a request needs is waited for."""
    finish, loop = connections.Connection.finish_response, asyncio.get_running_loop()
    turns, ahead, without_a_turn = 0, 0, 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    async def finish_and_compare(connection: connections.Connection, *answer: Any) -> Any:
        nonlocal ahead, without_a_turn
        asked, before = len(connection._messages), turns
        done = await finish(connection, *answer)
        ahead += asked > 0
        without_a_turn += asked > 0 and turns == before
        return done

    monkeypatch.setattr(connections.Connection, "finish_response", finish_and_compare)
    turn()
    wire = await served.connect()
    await wire.send(b"GET /nothing HTTP/1.1\r\nHost: tokens\r\n\r\n" * 400)
    assert await served.login() == 200
    for _ in range(400):
        assert (await wire.answer()).status == 404
    assert ahead > 100
    assert without_a_turn == 0


async def test_who_sends_ever_more_requests_and_takes_no_answer_is_not_read_for_ever(served: Served) -> None:
    wire = await served.connect()
    sending = asyncio.create_task(wire.send(GOOD_LOGIN * 100_000))
    for _ in range(20):
        assert await served.login() == 200
    assert served.connections.held < 64 * served.connections.each
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    wire.close()


def json_of(token: str) -> dict[str, object]:
    """The claims of an access token."""
    import jwt

    claims: dict[str, object] = jwt.decode(token, options={"verify_signature": False})
    return claims
