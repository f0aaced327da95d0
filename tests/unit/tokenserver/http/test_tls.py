"""TLS between a network and an HTTP that are both in memory; real clients are in tests/contract/wearing."""

import contextlib
import ssl
from pathlib import Path

import pytest

from pullpass.tokenserver.http import tls
from tests.certificates import Mount
from tests.unit.tokenserver.http.tls_pair import Pair


@pytest.fixture
def mount(tmp_path: Path) -> Mount:
    return Mount(tmp_path)


@pytest.fixture
def shy(mount: Mount) -> Pair:
    """Before the handshake."""
    return Pair(mount)


@pytest.fixture
def pair(mount: Mount) -> Pair:
    """After the handshake."""
    made = Pair(mount)
    made.shake_hands()
    return made


def test_http_begins_once_the_handshake_is_complete(shy: Pair) -> None:
    assert shy.http.told == ["accepted"]
    with pytest.raises(ssl.SSLWantReadError):
        shy.client.do_handshake()
    shy.deliver()
    assert shy.http.told == ["accepted"]
    shy.client.do_handshake()
    shy.client.write(b"with the end of the handshake")
    shy.deliver()
    assert shy.http.told == ["accepted", "made"]
    assert shy.http.received == b"with the end of the handshake"


def test_a_byte_at_a_time(shy: Pair) -> None:
    """Each piece of a record is held until the record is whole."""
    for _ in range(2):
        with contextlib.suppress(ssl.SSLWantReadError):
            shy.client.do_handshake()
        for byte in shy.to_server():
            shy.server.data_received(bytes([byte]))
        shy.deliver()
    assert shy.http.held[-1] == 0
    shy.client.write(b"hello")
    for byte in shy.to_server():
        shy.server.data_received(bytes([byte]))
    assert shy.http.received == b"hello"


def test_half_a_message_may_hold_a_lot_and_a_whole_one_does_not(shy: Pair) -> None:
    with pytest.raises(ssl.SSLWantReadError):
        shy.client.do_handshake()
    hello = shy.to_server()
    shy.server.data_received(hello[:50])
    assert shy.http.held == [tls.MESSAGE_BYTES]
    shy.server.data_received(hello[50:])
    assert shy.http.held[-1] == 0


def test_much_data_in_both_directions(pair: Pair) -> None:
    data = bytes(range(256)) * 4000
    pair.client.write(data)
    pair.deliver()
    while len(pair.http.received) < len(data):
        pair.client.write(data[len(pair.http.received) :])
        pair.deliver()
    assert pair.http.received == data
    assert pair.http.transport is not None
    pair.http.transport.writelines([data, b"", memoryview(b"end"), bytearray(b".")])
    assert pair.network.largest < 2 * tls.CHUNK_BYTES
    assert pair.read() == data + b"end."


def test_who_does_not_take_what_it_was_sent_is_read_no_further(pair: Pair) -> None:
    pair.server.pause_writing()
    assert (pair.network.reads, pair.http.told[-1]) == (False, "pause")
    pair.server.pause_reading()
    pair.server.resume_reading()
    assert not pair.network.reads
    pair.server.resume_writing()
    assert (pair.network.reads, pair.http.told[-1]) == (True, "resume")


def test_http_hears_of_what_is_not_taken_once_it_has_begun(mount: Mount) -> None:
    taken, untaken = Pair(mount), Pair(mount)
    taken.server.pause_writing()
    taken.server.resume_writing()
    taken.shake_hands()
    untaken.server.pause_writing()
    untaken.shake_hands()
    untaken.server.resume_writing()
    assert taken.http.told == ["accepted", "made"]
    assert untaken.http.told == ["accepted", "made", "pause", "resume"]


def test_http_that_wants_no_more_is_not_overruled(pair: Pair) -> None:
    pair.server.pause_reading()
    assert not pair.network.reads
    pair.server.pause_writing()
    pair.server.resume_writing()
    assert not pair.network.reads
    pair.server.resume_reading()
    assert pair.network.reads


def test_closing_sends_what_was_written_and_says_the_end(pair: Pair) -> None:
    pair.server.write(b"last words")
    pair.server.close()
    assert (pair.network.ended, pair.server.is_closing()) == ("closed", True)
    assert pair.read() == b"last words"
    assert pair.ended()


def test_after_closing_nothing_is_read_or_written(pair: Pair) -> None:
    pair.server.close()
    pair.server.close()
    pair.network.sent = b""
    pair.server.write(b"too late")
    pair.client.write(b"too late")
    pair.server.data_received(pair.to_server())
    pair.server.pause_reading()
    assert (pair.network.sent, pair.http.received, pair.network.reads) == (b"", b"", True)


def test_closing_within_data_received_ends_it(pair: Pair) -> None:
    pair.http.on_data = pair.server.close
    pair.client.write(b"one")
    pair.deliver()
    pair.client.write(b"two")
    pair.deliver()
    assert (pair.http.received, pair.network.ended) == (b"one", "closed")
    assert "eof" not in pair.http.told


def test_every_end_of_ours_is_told(mount: Mount) -> None:
    """The HTTP above does not wait for ever for the client to take what was sent."""
    closed, failed = Pair(mount), Pair(mount)
    closed.shake_hands()
    closed.server.close()
    failed.server.data_received(b"SSH-2.0-client\r\n")
    assert (closed.http.told[-1], failed.http.told[-1]) == ("ending", "ending")


def test_closing_before_the_handshake_is_complete(shy: Pair) -> None:
    shy.server.close()
    assert (shy.network.sent, shy.network.ended) == (b"", "closed")


def test_aborting_sends_nothing(pair: Pair) -> None:
    pair.network.sent = b""
    pair.server.abort()
    assert (pair.network.sent, pair.network.ended, pair.server.is_closing()) == (b"", "aborted", True)


def test_the_clients_end_is_told_and_answered(pair: Pair) -> None:
    pair.client.write(b"last words")
    with pytest.raises(ssl.SSLWantReadError):
        pair.client.unwrap()
    pair.server.data_received(pair.to_server())
    assert "eof" in pair.http.told
    assert (pair.http.received, pair.http.told[-1], pair.network.ended) == (b"last words", "ending", "closed")
    with pytest.raises(ssl.SSLZeroReturnError):
        pair.read()


def test_the_networks_end_is_told(pair: Pair) -> None:
    pair.server.eof_received()
    assert pair.http.told[-1] == "eof"


def test_the_networks_end_within_the_handshake_is_no_news_to_http(shy: Pair) -> None:
    shy.server.eof_received()
    shy.server.connection_lost(None)
    assert shy.http.told == ["accepted", "lost"]


def test_a_lost_connection_takes_no_more(pair: Pair) -> None:
    pair.server.connection_lost(ConnectionResetError())
    pair.server.write(b"too late")
    pair.server.close()
    pair.server.abort()
    assert pair.http.told[-1] == "lost"
    assert pair.server.get_extra_info("peername", "nobody") == "nobody"
    assert pair.server.get_write_buffer_size() == 0


def test_a_forged_record_ends_it_with_an_alert(pair: Pair) -> None:
    pair.server.data_received(b"\x17\x03\x03\x00\x20" + b"a" * 32)
    assert (pair.network.ended, pair.http.received) == ("closed", b"")
    with pytest.raises(ssl.SSLError, match="BAD_RECORD_MAC"):
        pair.read()


def test_who_speaks_http_is_answered_in_clear(shy: Pair) -> None:
    shy.server.data_received(b"GET /token HTTP/1.1\r\n\r\n")
    assert (shy.network.sent[-8:], shy.network.ended) == (b"take TLS", "closed")
    assert shy.http.told == ["accepted", "failed: HTTP_REQUEST", "ending"]


def test_who_speaks_neither_is_not(shy: Pair) -> None:
    shy.server.data_received(b"SSH-2.0-client\r\n")
    assert (b"take TLS" in shy.network.sent, shy.network.ended) == (False, "closed")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_no_session_is_kept_to_be_resumed(mount: Mount, version: ssl.TLSVersion) -> None:
    """Its key would open what was recorded before."""
    pair = Pair(mount, version)
    pair.shake_hands()
    pair.read()
    assert pair.http.told[-1] == "made"
    session = pair.client.session
    assert session is None or not session.has_ticket


def test_http_finds_out_what_it_asks(pair: Pair) -> None:
    assert isinstance(pair.server.get_extra_info("sslcontext"), ssl.SSLContext)
    assert pair.server.get_extra_info("ssl_object").version() == "TLSv1.3"
    assert pair.server.get_extra_info("peername") == ("192.0.2.1", 4000)
    assert pair.server.get_extra_info("nothing", "of it") == "of it"
