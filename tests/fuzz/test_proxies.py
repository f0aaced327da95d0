"""X-Forwarded-For: whatever stands in it, the sender is an address that a trusted proxy vouches for."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pullpass.tokenserver.http.proxies import Proxies, network
from tests.fuzz.inputs import ENDLESS, WILD

FUZZ = settings.get_profile("fuzz")
NETWORKS = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
PROXIES = Proxies(NETWORKS)
PROXY = st.ip_addresses(network="10.0.0.0/8").map(str) | st.ip_addresses(network="fd00::/8").map(str)
STRANGER = (
    (st.ip_addresses(v=4) | st.ip_addresses(v=6))
    .filter(lambda address: not any(address in known for known in NETWORKS))
    .filter(lambda address: address.version == 4 or address.ipv4_mapped is None)
    .map(str)
)
ODD = (
    WILD
    | ENDLESS
    | st.sampled_from(
        ["unknown", "_hidden", "1.2.3", "[::1", "::ffff:10.0.0.1", "1.2.3.4:x", ":", "[]:80", "localhost"]
    )
)
HEADERS = st.lists(st.lists(PROXY | STRANGER | ODD, max_size=4).map(", ".join), max_size=3).map(tuple)


@FUZZ
@given(PROXY | STRANGER | ODD, HEADERS)
def test_the_sender_is_the_peer_or_an_address(peer: str, headers: tuple[str, ...]) -> None:
    sender = PROXIES.sender(peer, headers)
    if sender != peer:
        assert str(ip_address(sender)) == sender
    assert network(network(sender)) is not None


@FUZZ
@given(STRANGER, HEADERS)
def test_of_a_stranger_nothing_is_believed(peer: str, headers: tuple[str, ...]) -> None:
    assert PROXIES.sender(peer, headers) == peer
    assert Proxies(()).sender(peer, headers) == peer


@FUZZ
@given(PROXY, HEADERS, STRANGER, st.lists(PROXY, max_size=5))
@example("10.0.0.1", ("1.1.1.1",) * 40, "192.0.2.1", [])
def test_what_a_stranger_writes_in_front_changes_nothing(
    peer: str, written: tuple[str, ...], stranger: str, between: list[str]
) -> None:
    """Each proxy appends the peer it saw: the last stranger is the sender, by whatever way it came."""
    assert PROXIES.sender(peer, (*written, ", ".join([stranger, *between]))) == stranger
    assert PROXIES.sender(peer, (", ".join([*written, stranger, *between]),)) == stranger


@FUZZ
@given(st.ip_addresses(v=4).map(str), st.integers(1, 65535))
def test_a_port_belongs_to_no_address(address: str, port: int) -> None:
    assert network(f"{address}:{port}") == network(address) == address


@FUZZ
@given(
    st.binary(min_size=8, max_size=8).filter(any), st.binary(min_size=8, max_size=8), st.binary(min_size=8, max_size=8)
)
def test_a_host_with_ipv6_counts_as_one_whatever_address_it_takes(prefix: bytes, one: bytes, other: bytes) -> None:
    first, second = ip_address(prefix + one), ip_address(prefix + other)
    assert network(str(first)) == network(str(second)) == network(f"[{second}]:443")


@pytest.mark.parametrize("zone", ["eth0", "x" * 5000])
def test_an_address_has_no_zone(zone: str) -> None:
    """It is text of any form and length, and means something to one host only (RFC 4007)."""
    assert PROXIES.sender("10.0.0.1", (f"fe80::1%{zone}",)) in ("10.0.0.1", "fe80::1")
