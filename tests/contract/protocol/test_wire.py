"""What is not quite HTTP, or HTTP that no client of a registry speaks: refused in the same form, and never logged.

An unreadable request may hold a password anywhere, so not a byte of it is written down.
"""

import asyncio
import gzip

import pytest

from tests.contract.protocol.client import FORM, GOOD, PULL, USER, Client, basic, has_error_list, refused

BODY = f"grant_type=password&username={USER}&password={GOOD}&scope=repository:demo/nginx:pull".encode()
CREDENTIALS = basic(USER, GOOD).encode()


def get(*headers: bytes, line: bytes = b"GET /token HTTP/1.1") -> bytes:
    return b"\r\n".join((line, b"Host: localhost", b"Authorization: " + CREDENTIALS, *headers, b"", b""))


def post(body: bytes, *headers: bytes) -> bytes:
    type_ = b"Content-Type: " + FORM.encode()
    return b"\r\n".join((b"POST /token HTTP/1.1", b"Host: localhost", type_, *headers, b"", body))


def silent(caplog: pytest.LogCaptureFixture) -> None:
    """Asserts that nothing was written that tells of the password, and no traceback."""
    assert GOOD not in caplog.text
    assert CREDENTIALS[6:].decode() not in caplog.text
    assert not any(record.exc_info for record in caplog.records)


UNREADABLE = [
    pytest.param(get(b"X: a\0b"), id="NUL in a header"),
    pytest.param(get().replace(CREDENTIALS, CREDENTIALS + b"\0"), id="NUL in the credentials"),
    pytest.param(get().replace(b": Basic", b":\r\n Basic"), id="a folded header"),
    pytest.param(get().replace(b"\r\n", b"\n"), id="bare line feeds"),
    pytest.param(get(b"no colon"), id="a header without a colon"),
    pytest.param(get(line=f"GET /token?password={GOOD}\x01 HTTP/1.1".encode()), id="a control character in the query"),
    pytest.param(get(line=b"GET /token?scope=a b HTTP/1.1"), id="a space in the query"),
    pytest.param(get(line=b"GET /token?scope=\xff HTTP/1.1"), id="bytes beyond ASCII in the query"),
    pytest.param(get(line=b"GET http://[::1/token HTTP/1.1"), id="half an IPv6 address"),
    pytest.param(get(line=b"GET http://h:99999999/token HTTP/1.1"), id="no port"),
    pytest.param(get(line=b"get /token HTTP/1.1"), id="a method in lower case"),
    pytest.param(get(line=b"GET /token HTTP/9.9"), id="another version"),
    pytest.param(get(line=b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), id="TLS"),
    pytest.param(post(BODY, b"Content-Length: -5"), id="a negative length"),
    pytest.param(post(BODY, b"Content-Length: 5", b"Content-Length: 6"), id="two lengths"),
    pytest.param(post(BODY, b"Content-Length: 5", b"Transfer-Encoding: chunked"), id="a length and chunks"),
    pytest.param(post(BODY, b"Transfer-Encoding: chunked"), id="chunks without a size"),
    pytest.param(post(BODY, b"Content-Type: text/plain", b"Content-Length: 5"), id="two types"),
]


@pytest.mark.parametrize("content", UNREADABLE)
async def test_what_is_not_http_is_refused_and_not_written_down(
    client: Client, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        answer = await client.raw(content)
    has_error_list(answer, 400, "UNSUPPORTED")
    assert GOOD.encode() not in answer.body
    silent(caplog)
    assert (await client.get()).status == 200


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(get(line=b"GET /token?" + b"a" * 20_000 + b" HTTP/1.1"), id="the line"),
        pytest.param(get(b"X: " + b"a" * 20_000), id="a header"),
    ],
)
async def test_headers_beyond_any_clients_are_refused(
    client: Client, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 6585, 5."""
    with caplog.at_level("INFO"):
        has_error_list(await client.raw(content), 431, "SIZE_INVALID")
    silent(caplog)


@pytest.mark.parametrize("encoding", [b"gzip", b"deflate", b"br", b"zstd", b"identity, gzip"])
async def test_a_compressed_body_is_not_unpacked(
    client: Client, encoding: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """No client sends one, and a few bytes could become very many."""
    for body in (gzip.compress(BODY), gzip.compress(b"a" * 50_000_000)[:30_000]):
        with caplog.at_level("INFO"):
            sized = b"Content-Length: %d" % len(body)
            refused(await client.raw(post(body, b"Content-Encoding: " + encoding, sized)), 400, "UNSUPPORTED")
        silent(caplog)


async def test_a_client_that_leaves_in_the_middle_of_its_body_leaves_no_trace(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        for _ in range(3):
            _, writer = await asyncio.open_connection("127.0.0.1", client.port)
            writer.write(post(BODY, b"Content-Length: 5000"))
            await writer.drain()
            # Another request on another connection: by then the server has read the first one.
            assert (await client.get()).status == 200
            writer.close()
        assert (await client.manage("/healthz")).status == 200
    silent(caplog)
    shown = (await client.manage("/metrics")).body.decode()
    assert 'requests_total{method="POST",outcome="error",registry="default"} 0.0' in shown


async def test_chunks_are_read(client: Client) -> None:
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (BODY[:7], BODY[7:]))
    answer = await client.raw(post(chunks + b"0\r\n\r\n", b"Transfer-Encoding: chunked"))
    assert answer.status == 200
    assert answer.access == PULL


async def test_http_1_0_and_absolute_addresses_are_read(client: Client) -> None:
    assert (await client.raw(get(line=b"GET /token HTTP/1.0"))).status == 200
    assert (await client.raw(get(line=b"GET http://localhost/token HTTP/1.1"))).status == 200


@pytest.mark.parametrize("line", [b"OPTIONS * HTTP/1.1", b"CONNECT localhost:443 HTTP/1.1"])
async def test_what_is_no_address_of_a_page_is_refused_in_the_same_form(client: Client, line: bytes) -> None:
    has_error_list(await client.raw(get(line=line)), 404, "UNSUPPORTED")


@pytest.mark.parametrize("value", [b"something", b"\x80", b"100-continue, \xff"])
async def test_an_expectation_that_nobody_meets_is_refused_in_the_same_form(
    client: Client, value: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """RFC 9110, 10.1.1."""
    has_error_list(await client.raw(get(b"Expect: " + value)), 417, "UNSUPPORTED")
    silent(caplog)


async def test_a_body_is_asked_for_where_the_client_waits_for_that(client: Client) -> None:
    """RFC 9110, 10.1.1; curl does so for longer bodies."""
    sized = b"Content-Length: %d" % len(BODY)
    answer = await client.raw(post(BODY, b"Expect: 100-continue", sized))
    assert (answer.status, answer.body) == (100, b"")
