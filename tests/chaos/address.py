"""An address of this machine that may stand in an EndpointSlice: the API server refuses loopback there.

What is sent to it never leaves the machine: the kernel delivers it to itself.
"""

import ipaddress
import re
from pathlib import Path

_LOCAL = re.compile(r"\|-- (\S+)\n\s+/32 host LOCAL")


def own_address() -> str:
    """The first IPv4 address of this machine that will do. Raises RuntimeError where there is none."""
    for address in local_addresses(Path("/proc/net/fib_trie").read_text()):
        return address
    raise RuntimeError("no interface of this machine has an IPv4 address, apart from loopback: add one to any")


def local_addresses(trie: str) -> list[str]:
    """The machine's own addresses in the kernel's routing table, without those that EndpointSlices may not hold."""
    found = (ipaddress.IPv4Address(text) for text in dict.fromkeys(_LOCAL.findall(trie)))
    return [str(one) for one in found if not (one.is_loopback or one.is_link_local or one.is_unspecified)]
