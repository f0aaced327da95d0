"""Pick ports so that several clusters run side by side on one machine."""

import errno
import random
import socket
from contextlib import closing

FIRST_PAIR = 30500
LAST_PAIR = 30598
"""NodePorts of registry and token server are pairs from this range, which Kubernetes allows by default."""


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


def free_pair() -> tuple[int, int]:
    """The first pair that nobody listens on now: of the registry and of the token server."""
    for port in range(FIRST_PAIR, LAST_PAIR + 1, 2):
        try:
            with closing(listen(port)), closing(listen(port + 1)):
                return port, port + 1
        except OSError as error:
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
