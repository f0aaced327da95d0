"""Which of the machine's addresses may stand in an EndpointSlice."""

import ipaddress

from tests.chaos.address import local_addresses, own_address

TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 198.51.100.0/24 2 0 2
        |-- 198.51.100.0
           /24 link UNICAST
        |-- 198.51.100.7
           /32 host LOCAL
        |-- 198.51.100.255
           /32 link BROADCAST
     +-- 127.0.0.0/8 2 0 2
        |-- 127.0.0.1
           /32 host LOCAL
     |-- 169.254.3.4
        /32 host LOCAL
Local:
        |-- 198.51.100.7
           /32 host LOCAL
"""


def test_loopback_and_link_local_addresses_are_left_out() -> None:
    assert local_addresses(TRIE) == ["198.51.100.7"]


def test_this_machine_has_one() -> None:
    assert not ipaddress.ip_address(own_address()).is_loopback
