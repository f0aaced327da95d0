"""Whole requests as bytes over a socket: the server answers or closes, logs no secret, and serves on.

What is sent is a good request with something changed: a header, a part of the body, any byte.
"""

import asyncio
import base64
import json
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.fuzz.wire import Lines, Server
from tests.unit.tokenserver.world import password

FUZZ = settings.get_profile("fuzz-wire")
GOOD = password().text
CREDENTIALS = base64.b64encode(f"web.reader:{GOOD}".encode()).decode()
SCOPE = b"repository:demo/nginx:pull"
FORM = (
    f"client_id=containerd-client&grant_type=password&password={GOOD}&service=registry&username=web.reader&scope="
).encode() + SCOPE


def get(target: bytes = b"/token?service=registry&scope=" + SCOPE) -> bytes:
    return (
        b"GET " + target + b" HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic " + CREDENTIALS.encode() + b"\r\n\r\n"
    )


def post(body: bytes, *headers: bytes) -> bytes:
    form = b"Content-Type: application/x-www-form-urlencoded"
    return b"\r\n".join((b"POST /token HTTP/1.1", b"Host: localhost", form, *headers, b"", body))


def sized(body: bytes = FORM) -> bytes:
    return post(body, b"Content-Length: %d" % len(body))


def chunked(body: bytes = FORM) -> bytes:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:20], body[20:]))
    return post(chunks + b"0\r\n\r\n", b"Transfer-Encoding: chunked")


REQUESTS = [get(), get(b"/token?account=web.reader&client_id=docker&offline_token=true"), sized(), chunked()]
ODD_HEADERS = st.sampled_from(
    [
        b"Content-Encoding: gzip",
        b"Content-Encoding: br",
        b"Content-Encoding: deflate",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Content-Length: 0",
        b"Content-Length: 5",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: -1",
        b"Expect: 100-continue",
        b"Expect: something",
        b"Connection: close",
        b"Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13",
        b"Connection: upgrade\r\nUpgrade: h2c",
        b"Authorization: Basic Og==",
        b"Authorization: Bearer x",
        b"Content-Type: text/plain",
        b"Host: [::1",
        b"Host: localhost:99999999",
        b"Cookie: \xff=;;=\x7f",
        b"X-Forwarded-For: 1.2.3.4",
        b"Range: bytes=0-1",
        b"If-None-Match: *",
        b"Accept: text/html",
        b"X: " + b"a" * 9000,
        b"X: a\0b",
        b" folded",
        b"no colon",
        b": no name",
        b"\r\n" * 3,
        b"X: y\r\n" * 200,
    ]
)
LINES = st.sampled_from(
    [
        b"HEAD /token HTTP/1.1",
        b"PUT /token HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"CONNECT localhost:443 HTTP/1.1",
        b"CONNECT localhost:99999999 HTTP/1.1",
        b"GET http://localhost/token HTTP/1.1",
        b"GET http://[::1/token HTTP/1.1",
        b"GET http://h:99999999/token HTTP/1.1",
        b"GET //h:99999999/token HTTP/1.1",
        b"GET /token?scope=\xff HTTP/1.1",
        b"GET /token?scope=%ff%00%zz HTTP/1.1",
        b"GET /token?scope=a b HTTP/1.1",
        b"GET /%00 HTTP/1.1",
        b"GET /../token HTTP/1.1",
        b"GET /token?" + b"a" * 20_000 + b" HTTP/1.1",
        b"GET /token HTTP/1.0",
        b"GET /token HTTP/9.9",
        b"GET /token",
        b"GET /metrics HTTP/1.1",
        b"get /token HTTP/1.1",
        b"PRI * HTTP/2.0",
        b"\x16\x03\x01\x02\x00\x01",
    ]
)
PIECES = st.binary(max_size=6) | st.sampled_from(
    [b"\r\n", b"\0", b"%", b"&", b"=", b" ", b":", b"\r\n\r\n", b"a" * 40_000]
)


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A request of which something was changed."""
    request = draw(st.sampled_from(REQUESTS))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(request)))
        match draw(st.sampled_from(["header", "header", "line", "insert", "remove", "replace", "cut", "twice"])):
            case "header":
                first, rest = request.split(b"\n", 1) if b"\n" in request else (request, b"")
                request = first + b"\n" + draw(ODD_HEADERS) + b"\r\n" + rest
            case "line":
                request = draw(LINES) + b"\r\n" + request.partition(b"\n")[2]
            case "insert":
                request = request[:place] + draw(PIECES) + request[place:]
            case "remove":
                request = request[:place] + request[place + draw(st.integers(1, 8)) :]
            case "replace":
                request = request[:place] + draw(PIECES) + request[place + 1 :]
            case "cut":
                request = request[:place]
            case "twice":
                request += draw(st.sampled_from(REQUESTS))
    return request


@st.composite
def sent(draw: st.DrawFn) -> list[bytes]:
    """What goes over one connection, and where it is cut into packets."""
    request = draw(changed() | st.binary(max_size=60))
    if draw(st.integers(0, 3)):
        return [request]
    place = draw(st.integers(0, len(request)))
    return [request[:place], request[place:]]


STATUS = re.compile(rb"HTTP/\d\.\d (\d{3}) [^\r\n]*\r\n")


def answers(received: bytes) -> list[tuple[int, dict[str, str], bytes]]:
    """Status, headers and body of each answer in what came back; the last one may be cut off by the closing."""
    found = []
    while received:
        status = STATUS.match(received)
        assert status is not None, received[:200]
        head, _, received = received.partition(b"\r\n\r\n")
        pairs = [line.split(": ", 1) for line in head.decode("latin-1").split("\r\n")[1:]]
        headers = {name.lower(): value for name, value in pairs}
        length = int(headers.get("content-length", "0"))
        body = b""
        if not received.startswith(b"HTTP/"):  # as after an answer to HEAD
            body, received = received[:length], received[length:]
        found.append((int(status[1]), headers, body))
    return found


def leaks(text: str) -> bool:
    """Whether a good part of the password stands there, as it is or as a header has it."""
    secret, encoded = GOOD[15:], CREDENTIALS[16:-4]
    return any(secret[n : n + 16] in text for n in range(len(secret) - 15)) or any(
        encoded[n : n + 24] in text for n in range(len(encoded) - 23)
    )


async def try_it(*pieces: bytes) -> tuple[list[tuple[int, dict[str, str], bytes]], Lines]:
    async with Server() as served:
        received = await served.exchange(*pieces)
        after = await served.ask(get())
    assert after.startswith(b"HTTP/1.1 200 OK\r\n")
    return answers(received), served.lines


@FUZZ
@given(sent())
@example([get().replace(b"\r\n\r\n", b"\0\r\n\r\n")])
@example([post(FORM, b"Transfer-Encoding: chunked")])
@example([post(FORM, b"Content-Encoding: gzip", b"Content-Length: %d" % len(FORM))])
@example([post(FORM, b"Content-Length: 5000")])
@example([get(b"/token?" + b"a" * 20_000)])
@example([get().replace(b"\r\n", b"\n")])
def test_any_bytes_are_answered_or_refused_and_leave_no_trace(pieces: list[bytes]) -> None:
    got, lines = asyncio.run(try_it(*pieces))
    for status, headers, body in got:
        assert status in (100, 200) or 400 <= status < 500 or status == 503
        if status >= 400 and body and headers["content-length"] == str(len(body)):
            assert headers["content-type"] == "application/json"
            [error] = json.loads(body)["errors"]
            assert error["message"].isprintable()
        if status != 200:
            assert not leaks(body.decode("latin-1"))
    assert lines.tracebacks == []
    assert not any(leaks(line) for line in lines.text)


@FUZZ
@given(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=6), st.integers(0, 2000), st.integers(0, 2000))
def test_good_requests_are_answered_however_they_are_cut_into_packets(
    requests: list[bytes], first: int, second: int
) -> None:
    """Sent one behind the other over one connection, too."""
    whole = b"".join(requests)
    one, other = sorted((min(first, len(whole)), min(second, len(whole))))

    async def ask() -> tuple[bytes, Lines]:
        async with Server() as served:
            received = await served.ask(whole[:one], whole[one:other], whole[other:], requests=len(requests))
        return received, served.lines

    received, lines = asyncio.run(ask())
    assert [status for status, _, _ in answers(received)] == [200] * len(requests)
    assert lines.tracebacks == []
