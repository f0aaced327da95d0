"""The forwarder passes everything on, both ways, until both ends are done."""

import contextlib
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import forwarder, ports, processes


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[int, socket.socket]]:
    """The forwarder's port and the listening socket behind it."""
    front, behind = ports.listen_anywhere(), ports.listen_anywhere()
    front.set_inheritable(True)
    port = front.getsockname()[1]
    pid_file = tmp_path / "forwarder.pid"
    argv = [sys.executable, forwarder.__file__, f"{front.fileno()}:{behind.getsockname()[1]}"]
    processes.start(argv, pid_file=pid_file, log=tmp_path / "log")
    front.close()
    yield port, behind
    behind.close()
    processes.stop(pid_file)


def test_answers_after_the_end_of_the_question_arrive(pair: tuple[int, socket.socket]) -> None:
    port, behind = pair
    sent = bytes(range(256)) * 8192

    def echo() -> None:
        connection, _ = behind.accept()
        with connection:
            received = b""
            while data := connection.recv(65536):
                received += data
            connection.sendall(received)

    echoing = threading.Thread(target=echo)
    echoing.start()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(sent)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while data := client.recv(65536):
            received += data
    echoing.join()
    assert received == sent


def test_nobody_there_ends_the_connection(pair: tuple[int, socket.socket]) -> None:
    port, behind = pair
    behind.close()
    client = socket.create_connection(("127.0.0.1", port), timeout=10)
    with client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
