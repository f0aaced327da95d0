"""What only TLS can be worn down by, and a certificate that is renewed under load."""

import asyncio
import hmac
import logging
import ssl
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pullpass.tokenserver.http import connections, tls
from tests.certificates import Mount
from tests.contract.wearing.served import GOOD, USER, Served, Wire, get
from tests.contract.wearing.test_connections import settle

GOOD_LOGIN = get(USER, GOOD)


@pytest_asyncio.fixture
async def served(mount: Mount) -> AsyncIterator[Served]:
    async with Served.serving(mount=mount) as made:
        yield made


def client_hello(context: ssl.SSLContext) -> bytes:
    """The first message of a handshake."""
    outgoing = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost").do_handshake()
    return outgoing.read()


def hello_that_claims(length: int) -> bytes:
    """The first record of a ClientHello that is to be so long."""
    body = b"\x01" + length.to_bytes(3, "big") + b"\x03\x03" + b"a" * 1000
    return b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body


class Renegotiating:
    """A client of TLS 1.2 that sends a record of our making, as Python's `ssl` begins no second handshake."""

    def __init__(self, mount: Mount) -> None:
        self._keys = mount.directory / "client-keys"
        context = mount.client_context()
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
        context.keylog_filename = str(self._keys)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    def message(self, server_random: bytes, content: bytes) -> bytes:
        """A handshake message or a part of one, as the first record after the handshake (RFC 5246, 6.2.3.3 and
        RFC 5288)."""
        client_random, master = map(bytes.fromhex, self._keys.read_text().split()[-2:])
        keys = prf(master, b"key expansion" + server_random + client_random, 40)
        # The end of the handshake was encrypted, too.
        number, type_ = (1).to_bytes(8, "big"), b"\x16\x03\x03"
        sealed = number + AESGCM(keys[:16]).encrypt(
            keys[32:36] + number, content, number + type_ + len(content).to_bytes(2, "big")
        )
        return type_ + len(sealed).to_bytes(2, "big") + sealed


def prf(secret: bytes, seed: bytes, length: int) -> bytes:
    """The pseudorandom function of TLS 1.2 (RFC 5246, 5)."""
    made, a = b"", seed
    while len(made) < length:
        a = hmac.digest(secret, a, "sha256")
        made += hmac.digest(secret, a + seed, "sha256")
    return made[:length]


async def peer_certificate(served: Served) -> bytes:
    """What a new connection is served with."""
    _, writer = await asyncio.open_connection("127.0.0.1", served.port, ssl=served.tls)
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return bytes(certificate)


# Half-open handshakes


@pytest.mark.parametrize("sent", ["nothing", "a part", "hello", "a part of a huge hello"])
async def test_a_handshake_that_does_not_go_on_is_not_waited_for(
    served: Served, monkeypatch: pytest.MonkeyPatch, sent: str
) -> None:
    assert served.tls is not None
    hello = client_hello(served.tls)
    what = {"nothing": b"", "a part": hello[:40], "hello": hello, "a part of a huge hello": hello_that_claims(131_000)}
    monkeypatch.setattr(connections, "FIRST_REQUEST_SECONDS", 0.05)
    wire = await served.connect_bare()
    await wire.send(what[sent])
    await wire.closed()
    assert served.connections.closed["silent"] == 1
    await settle(served, 0)
    assert served.connections.held == 0


async def test_handshakes_that_do_not_go_on_make_room_for_others(served: Served) -> None:
    assert served.tls is not None
    served.connections.limit = 32
    hello = client_hello(served.tls)
    for number in range(200):
        wire = await served.connect_bare("127.0.0.2")
        await wire.send(hello)
        if number % 10 == 0:
            assert await served.login() == 200
        assert len(served.connections) <= 32
    assert served.connections.closed["crowded"] >= 200 - 32
    assert served.connections.refused == 0


async def test_what_messages_without_an_end_may_hold_is_counted(served: Served) -> None:
    """OpenSSL makes room for the length that the first bytes of a message claim."""
    served.connections.limit = 64
    limit = 64 * served.connections.each
    for _ in range(64):
        wire = await served.connect_bare("127.0.0.2")
        await wire.send(hello_that_claims(131_000))
        assert await served.login() == 200
        assert served.connections.held <= limit
        assert len(served.connections) <= limit / tls.MESSAGE_BYTES + 1


async def test_a_hello_in_two_parts_is_a_hello(served: Served) -> None:
    assert served.tls is not None
    hello = client_hello(served.tls)
    wire = await served.connect_bare()
    await wire.send(hello[:100])
    while served.connections.held < tls.MESSAGE_BYTES:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    await wire.send(hello[100:])
    while served.connections.held > served.connections.each:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    assert len(served.connections) == 1


# A second handshake


@pytest.mark.parametrize("share", [1, 0.5])
async def test_a_second_handshake_is_refused_and_a_part_of_one_not_waited_for(
    served: Served, mount: Mount, share: float
) -> None:
    """What OpenSSL holds for the rest of it, nobody would count."""
    client, server_random = Renegotiating(mount), b""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    async with asyncio.timeout(60):
        while True:
            try:
                client.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                writer.write(client.outgoing.read())
                said = await reader.read(65536)
                # A record's header, a message's header and the version are before it.
                server_random = server_random or said[11:43]
                client.incoming.write(said)
        hello = client_hello(mount.client_context())[5:]
        writer.write(client.message(server_random, hello[: int(len(hello) * share)]))
        if share == 1:
            client.incoming.write(await reader.read(65536))
            with pytest.raises(ssl.SSLError, match="NO_RENEGOTIATION"):
                client.tls.read()
        else:
            assert await reader.read() == b""
    writer.close()
    await settle(served, 0)


# Those who speak something else


async def test_plain_http_is_told_to_take_https(served: Served) -> None:
    wire = await served.connect_bare()
    await wire.send(GOOD_LOGIN)
    answer = await wire.answer()
    assert (answer.status, answer.code) == (400, "UNSUPPORTED")
    assert "HTTPS" in answer.json["errors"][0]["message"]
    await wire.closed()
    assert served.connections.failed_handshakes == 1


@pytest.mark.parametrize("sent", [b"\x00" * 100, b"\x16\x03\x01\x00\x05hello", b"SSH-2.0-client\r\n", b"\xff" * 70_000])
async def test_garbage_ends_the_connection_and_leaves_no_line_in_the_log(
    served: Served, caplog: pytest.LogCaptureFixture, sent: bytes
) -> None:
    wire = await served.connect_bare()
    await wire.send(sent)
    await wire.closed()
    await settle(served, 0)
    assert served.connections.failed_handshakes == 1
    assert [record for record in caplog.records if record.levelno >= logging.INFO] == []
    assert await served.login() == 200


async def test_garbage_after_the_handshake_ends_the_connection(
    served: Served, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    assert served.tls is not None
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = served.tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    writer.write(outgoing.read())
    while True:
        incoming.write(await reader.read(65536))
        try:
            client.do_handshake()
        except ssl.SSLWantReadError:
            continue
        break
    writer.write(outgoing.read() + b"\x17\x03\x03\x00\x20" + b"a" * 32)
    incoming.write(await reader.read(65536))
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        client.read()
    assert await reader.read(65536) == b""
    writer.close()
    await settle(served, 0)
    assert caplog.records == []


@pytest.mark.parametrize(
    ("least", "most", "accepted"),
    [
        (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, None),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_versions(
    served: Served, mount: Mount, least: ssl.TLSVersion, most: ssl.TLSVersion, accepted: str | None
) -> None:
    context = mount.client_context()
    # Security level 0, or the client itself would not offer the old ones.
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = least, most
    context.set_alpn_protocols(["h2", "http/1.1"])
    opening = asyncio.open_connection("127.0.0.1", served.port, ssl=context)
    if accepted is None:
        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await opening
        return
    _, writer = await opening
    connection = writer.get_extra_info("ssl_object")
    assert (connection.version(), connection.selected_alpn_protocol()) == (accepted, "http/1.1")
    writer.transport.abort()


@pytest.mark.parametrize(
    ("cipher", "accepted"),
    [
        ("ECDHE-ECDSA-AES128-GCM-SHA256", True),
        ("ECDHE-ECDSA-AES256-GCM-SHA384", True),
        ("ECDHE-ECDSA-CHACHA20-POLY1305", True),
        ("ECDHE-ECDSA-AES128-SHA256", False),
        ("ECDHE-ECDSA-AES256-SHA", False),
        ("ECDHE-ECDSA-AES128-CCM8", False),
    ],
)
async def test_ciphers_of_tls_1_2(served: Served, mount: Mount, cipher: str, accepted: bool) -> None:
    context = mount.client_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{cipher}:@SECLEVEL=0")
    opening = asyncio.open_connection("127.0.0.1", served.port, ssl=context)
    if not accepted:
        with pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"):
            await opening
        return
    _, writer = await opening
    assert writer.get_extra_info("ssl_object").cipher()[0] == cipher
    writer.transport.abort()


# Ends


async def test_the_end_is_said_before_the_connection_is_closed(served: Served) -> None:
    """Without close_notify a client cannot tell the end of an answer from one that was cut off."""
    assert served.tls is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = served.tls.wrap_bio(incoming, outgoing, server_hostname="localhost")
    asked, said = False, b""
    while True:
        try:
            if not asked:
                client.do_handshake()
                client.write(GOOD_LOGIN.replace(b"Host: tokens", b"Host: tokens\r\nConnection: close"))
                asked = True
            while data := client.read():
                said += data
            break
        except ssl.SSLWantReadError:
            writer.write(outgoing.read())
            incoming.write(await reader.read(65536))
    assert said.startswith(b"HTTP/1.1 200 OK\r\n")
    assert await reader.read() == b""
    writer.close()
    await settle(served, 0)


async def test_a_client_that_says_its_end_is_gone(served: Served) -> None:
    wire = await served.connect()
    await wire.send(GOOD_LOGIN)
    assert (await wire.answer()).status == 200
    await wire.say_end()
    await settle(served, 0)


# Renewal


async def test_a_renewed_certificate_drops_no_request(served: Served, mount: Mount) -> None:
    certificate = served.connections.certificate
    assert certificate is not None
    first = await peer_certificate(served)
    kept = [await served.connect() for _ in range(8)]
    over = asyncio.Event()
    statuses: list[int] = []

    async def keep_asking(wire: Wire) -> None:
        while not over.is_set():
            await wire.send(GOOD_LOGIN)
            statuses.append((await wire.answer()).status)

    async def connect_anew() -> None:
        while not over.is_set():
            statuses.append(await served.login())

    asking = [*(keep_asking(wire) for wire in kept), *(connect_anew() for _ in range(4))]
    tasks = [asyncio.create_task(one) for one in asking]
    seen = {first}
    for _ in range(10):
        mount.renew()
        certificate.reload()
        seen.add(await peer_certificate(served))
        await asyncio.sleep(0.05)
    over.set()
    await asyncio.gather(*tasks)
    assert len(seen) == 11
    assert set(statuses) == {200}
    assert len(statuses) > 100
    assert served.connections.failed_handshakes == 0


async def test_metrics_tell_of_the_certificate(served: Served) -> None:
    certificate = served.connections.certificate
    assert certificate is not None
    shown = dict(line.rsplit(" ", 1) for line in (await served.metrics()).splitlines())
    assert float(shown["pullpass_token_server_tls_certificate_not_after_seconds"]) == certificate.not_after.timestamp()
    assert shown["pullpass_token_server_tls_handshake_failures_total"] == "0.0"
