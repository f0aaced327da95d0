"""Pick ports so that several clusters run side by side on one machine."""

import errno
import random
import socket
from contextlib import closing
from dataclasses import dataclass

FIRST_PAIR = 30500
LAST_PAIR = 30598
"""NodePorts of registry and token server are pairs from this range, which Kubernetes allows by default."""


@dataclass
class Claim:
    """Two neighbouring ports of 127.0.0.1 that are ours from the moment they were found free."""

    registry: socket.socket
    token: socket.socket

    @property
    def registry_port(self) -> int:
        return int(self.registry.getsockname()[1])

    @property
    def token_port(self) -> int:
        return int(self.token.getsockname()[1])

    def close(self) -> None:
        self.registry.close()
        self.token.close()


def listen(port: int) -> socket.socket:
    """Listen on a port of 127.0.0.1; `OSError` when somebody else does."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def claim_pair() -> Claim:
    """The first free pair. Listening at once keeps another cluster, starting now, from taking it too."""
    for port in range(FIRST_PAIR, LAST_PAIR + 1, 2):
        try:
            registry = listen(port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            continue
        try:
            return Claim(registry, listen(port + 1))
        except OSError as error:
            registry.close()
            if error.errno != errno.EADDRINUSE:
                raise
    raise RuntimeError(f"no free pair of ports between {FIRST_PAIR} and {LAST_PAIR + 1}")


def listen_anywhere() -> socket.socket:
    """Listen on some free port below the ephemeral range.

    A port out of the ephemeral range could be taken by anybody's outgoing connection while its server is
    stopped, and tests do stop the API server and start it again.
    """
    for _ in range(200):
        try:
            return listen(random.randrange(20000, 30000))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    raise RuntimeError("no free port between 20000 and 29999")


def free() -> int:
    """A port that nobody listens on now, for a program that insists on binding it itself."""
    with closing(listen_anywhere()) as listener:
        return int(listener.getsockname()[1])
