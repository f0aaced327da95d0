"""An address of this machine that may stand in an EndpointSlice: the API server refuses loopback there.

What is sent to it never leaves the machine: the kernel delivers it to itself.
"""

import ipaddress
import re
import socket
from contextlib import suppress
from pathlib import Path

_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def own_address() -> str:
    """The IPv4 address of this machine that leads out, else the first that will do: a bridge and its address may go.

    Raises RuntimeError where there is none.
    """
    with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        # It sends nothing, but chooses an address to send from. The one that it would send to is for documents.
        asking.connect(("203.0.113.1", 9))
        chosen = ipaddress.IPv4Address(asking.getsockname()[0])
        if _usable(chosen):
            return str(chosen)
    for address in local_addresses(Path("/proc/net/fib_trie").read_text()):
        return address
    raise RuntimeError("no interface of this machine has an IPv4 address, apart from loopback: add one to any")


def local_addresses(trie: str) -> list[str]:
    """The machine's own addresses in the kernel's routing table, without those that EndpointSlices may not hold."""
    found = (ipaddress.IPv4Address(text) for text in dict.fromkeys(_LOCAL.findall(trie)))
    return [str(one) for one in found if _usable(one)]


def _usable(address: ipaddress.IPv4Address) -> bool:
    return not (address.is_loopback or address.is_link_local or address.is_unspecified)
