"""The network between the nodes of a local cluster, and who has which address there.

The first node's `eth0` is a switch, and every further node's is a cable that is plugged into it. So each link lies
in the first node's network or ends there, and is gone when that is gone; this machine sees none of them. Addresses
are the same in every cluster, as nobody outside can see them either.
"""

import subprocess
from collections.abc import Sequence

from . import toolchain
from .namespace import Namespace

POD_RANGE = "10.244.0.0/16"
"""What the nodes' pod ranges are parts of."""


def address(number: int) -> str:
    """The address of a node; the first one has the number 1."""
    return f"172.30.0.{number + 1}"


def pod_range(number: int) -> str:
    """What the pods of a node have their addresses from."""
    return f"10.244.{number - 1}.0/24"


def connect(spaces: Sequence[Namespace]) -> None:
    """Link the nodes, and tell each the way to the others' pods."""
    nodes = dict(enumerate(spaces, 1))
    switch = ["link add eth0 type bridge"]
    for number, space in nodes.items():
        if number > 1:
            switch.append(f"link add node-{number} type veth peer name eth0 netns {space.init()}")
            switch.append(f"link set node-{number} master eth0 up")
    _ip(nodes[1], switch)
    for number, space in nodes.items():
        others = [f"route add {pod_range(other)} via {address(other)}" for other in nodes if other != number]
        own = [f"addr add {address(number)}/24 dev eth0", "link set eth0 up", "route add default dev eth0"]
        _ip(space, [*own, *others])


def _ip(space: Namespace, commands: Sequence[str]) -> None:
    """Run ip in a node's network, but among this machine's processes: by their numbers it finds networks."""
    command = [*space.enter("net"), toolchain.tool("ip"), "-batch", "-"]
    done = subprocess.run(command, input="\n".join(commands), capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the nodes' network: {done.stderr}")
