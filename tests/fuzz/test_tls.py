"""Bytes of a TLS client, cut and changed anywhere: what HTTP gets is what the client sent, or the beginning of it."""

import contextlib
import ssl
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.certificates import Mount
from tests.unit.tokenserver.http.tls_pair import Pair

FUZZ = settings.get_profile("fuzz")
VERSIONS = st.sampled_from([ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
SAID = b"".join(b"GET /token?%d HTTP/1.1\r\n\r\n" % number for number in range(60))
ROUNDS = 3
"""Times that the client speaks: hello, the end of the handshake, data."""


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Mount:
    return Mount(tmp_path_factory.mktemp("mount"))


def spoken(pair: Pair) -> Iterator[bytes]:
    """What the client says in each round, given what it has heard by then."""
    said = False
    for _ in range(ROUNDS):
        with contextlib.suppress(ssl.SSLError):
            pair.client.do_handshake()
            if not said:
                pair.client.write(SAID)
                said = True
        yield pair.to_server()


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """The bytes in pieces of these sizes, over and over."""
    while data:
        for size in sizes:
            if data:
                yield data[:size]
                data = data[size:]


SIZES = st.lists(st.integers(1, 9000), min_size=1, max_size=8)


@FUZZ
@given(version=VERSIONS, sizes=SIZES)
def test_wherever_it_is_cut(mount: Mount, version: ssl.TLSVersion, sizes: list[int]) -> None:
    pair = Pair(mount, version)
    for said in spoken(pair):
        for piece in cut(said, sizes):
            pair.server.data_received(piece)
        pair.deliver()
    assert pair.http.received == SAID
    assert pair.http.told == ["accepted", "made"]
    assert not pair.network.ended


@FUZZ
@given(
    version=VERSIONS,
    sizes=SIZES,
    round_=st.integers(0, ROUNDS - 1),
    place=st.integers(0, 4000),
    by=st.binary(max_size=40),
)
def test_wherever_it_is_changed(
    mount: Mount, version: ssl.TLSVersion, sizes: list[int], round_: int, place: int, by: bytes
) -> None:
    pair = Pair(mount, version)
    for number, right in enumerate(spoken(pair)):
        said = right
        if number == round_:
            place %= len(said) + 1
            said = said[:place] + by + said[place + len(by) :]
        for piece in cut(said, sizes):
            # The network delivers nothing any more once it is closed.
            if not pair.network.ended:
                pair.server.data_received(piece)
        pair.deliver()
    assert SAID.startswith(pair.http.received)
    assert pair.http.told[0] == "accepted"
    assert pair.http.told.count("made") <= 1
