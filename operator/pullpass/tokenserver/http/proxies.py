"""Who sent a request: the peer of its connection or, where that is a proxy named in the settings, whom it names.

Anybody can write an `X-Forwarded-For`, and each proxy appends the peer that it saw. So it is read from its end, as far
as the proxies are known ones.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

FORWARDED = "X-Forwarded-For"
HOPS = 32
"""Proxies in a row that are looked through; the beginning of a longer list is not read."""


class Proxies:
    """The proxies that are believed."""

    def __init__(self, trusted: Iterable[IPv4Network | IPv6Network]) -> None:
        self._trusted = tuple(trusted)
        self._remembered = lru_cache(1024)(self._read)

    def __bool__(self) -> bool:
        return bool(self._trusted)

    def sender(self, peer: str, forwarded: tuple[str, ...]) -> str:
        """The sender of a request, from its peer and all its X-Forwarded-For headers: the last address that is not a
        trusted proxy; the first one if all are; the peer where anything on the way there is no address."""
        return self._remembered(peer, forwarded) if self._trusted else peer

    def _read(self, peer: str, forwarded: tuple[str, ...]) -> str:
        hops = ",".join(forwarded).split(",")[-HOPS:] if forwarded else []
        sender = peer
        try:
            for hop in (peer, *reversed(hops)):
                address = _address(hop)
                sender = str(address)
                if not any(address in network for network in self._trusted):
                    break
        except ValueError:
            return peer
        return sender


@lru_cache(4096)
def network(sender: str) -> str:
    """What counts as one sender: an IPv4 address, or the network of 64 bits that a host with IPv6 may choose from."""
    try:
        address = _address(sender)
    except ValueError:
        return sender
    return str(address) if address.version == 4 else address.packed[:8].hex()


def _address(text: str) -> IPv4Address | IPv6Address:
    """An address as proxies write it, with or without a port. Raises ValueError."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    # A zone means something to one host only, and may be of any length (RFC 4007).
    address = ip_address(text.partition("%")[0])
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
