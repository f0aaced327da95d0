"""Finds the sender of a request: the peer of its connection or, behind trusted proxies, the client that they name.

Anybody can write an `X-Forwarded-For`, and each proxy appends the peer that it saw. So the header is read from its end,
as long as the addresses are those of trusted proxies.
"""

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

FORWARDED = "X-Forwarded-For"
HOPS = 32
"""Addresses read of X-Forwarded-For, from its end; those before them are ignored."""


class Proxies:
    """The networks of trusted proxies."""

    def __init__(self, trusted: Iterable[IPv4Network | IPv6Network]) -> None:
        self._trusted = tuple(trusted)
        self._remembered = lru_cache(1024)(self._read)

    def __bool__(self) -> bool:
        return bool(self._trusted)

    def sender(self, peer: str, forwarded: tuple[str, ...]) -> str:
        """Returns the sender of a request, given its peer and its X-Forwarded-For headers.

        That is the last address that is not a trusted proxy, or the first address if all of them are; the peer, if
        anything that was read is not an address.
        """
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
    """Returns what counts as one sender: an IPv4 address, or the /64 network of an IPv6 address."""
    try:
        address = _address(sender)
    except ValueError:
        return sender
    return str(address) if address.version == 4 else address.packed[:8].hex()


def _address(text: str) -> IPv4Address | IPv6Address:
    """Parses an address as proxies write it, with or without a port. Raises ValueError."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    # The zone id is dropped: it has a meaning on one host only, and may be of any length (RFC 4007).
    address = ip_address(text.partition("%")[0])
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
