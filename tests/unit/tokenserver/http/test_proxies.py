"""Whom X-Forwarded-For is believed about."""

from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.tokenserver.http.proxies import HOPS, Proxies

PROXIES = Proxies([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])


@pytest.mark.parametrize(
    ("peer", "forwarded", "sender"),
    [
        ("10.1.1.1", (), "10.1.1.1"),
        ("10.1.1.1", ("192.0.2.1",), "192.0.2.1"),
        ("10.1.1.1", ("203.0.113.9, 192.0.2.1",), "192.0.2.1"),
        ("10.1.1.1", ("203.0.113.9", "192.0.2.1"), "192.0.2.1"),
        ("10.1.1.1", ("192.0.2.1,10.2.2.2",), "192.0.2.1"),
        ("10.1.1.1", ("10.3.3.3, 10.2.2.2",), "10.3.3.3"),
        ("10.1.1.1", ("nonsense, 192.0.2.1",), "192.0.2.1"),
        ("10.1.1.1", ("192.0.2.1, nonsense",), "10.1.1.1"),
        ("10.1.1.1", ("192.0.2.1, nonsense, 10.2.2.2",), "10.1.1.1"),
        ("10.1.1.1", ("",), "10.1.1.1"),
        ("10.1.1.1", (",,",), "10.1.1.1"),
        ("10.1.1.1", ("192.0.2.1:5000",), "192.0.2.1"),
        ("10.1.1.1", ("[2001:db8::1]:5000",), "2001:db8::1"),
        ("10.1.1.1", ("2001:DB8::0:1",), "2001:db8::1"),
        ("10.1.1.1", ("::ffff:192.0.2.1",), "192.0.2.1"),
        ("::ffff:10.1.1.1", ("192.0.2.1",), "192.0.2.1"),
        ("fd00::1", ("192.0.2.1",), "192.0.2.1"),
        ("192.0.2.7", ("203.0.113.9",), "192.0.2.7"),
        ("", ("192.0.2.1",), ""),
    ],
)
def test_the_last_address_that_is_no_proxy(peer: str, forwarded: tuple[str, ...], sender: str) -> None:
    assert PROXIES.sender(peer, forwarded) == sender


def test_without_proxies_nobody_is_believed() -> None:
    assert Proxies([]).sender("10.1.1.1", ("192.0.2.1",)) == "10.1.1.1"
    assert not Proxies([])


def test_of_a_long_list_the_end_is_read() -> None:
    assert PROXIES.sender("10.1.1.1", (",".join(["192.0.2.1"] + ["10.2.2.2"] * HOPS),)) == "10.2.2.2"


@given(st.lists(st.text(max_size=30) | st.ip_addresses().map(str), max_size=4))
def test_the_sender_is_always_an_address(forwarded: list[str]) -> None:
    from ipaddress import ip_address

    assert ip_address(PROXIES.sender("10.1.1.1", tuple(forwarded)))
