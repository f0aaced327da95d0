"""A token server as a process of its own, and load from wrk."""

import base64
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.token_server import REPOSITORY, SERVICE, USER
from tests.cluster import toolchain

CONNECTIONS = 32
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Served:
    """A server under load."""

    pid: int
    port: int
    management_port: int
    empty_port: int
    """Where the empty handler is."""
    password: str

    @property
    def login(self) -> str:
        """The value of the good Authorization header."""
        return "Basic " + base64.b64encode(f"{USER}:{self.password}".encode()).decode()

    @property
    def token(self) -> str:
        """Asks for an access token."""
        return f"http://127.0.0.1:{self.port}/token?service={SERVICE}&scope=repository:{REPOSITORY}:pull"

    @property
    def empty(self) -> str:
        """Asks the empty handler, with as long a path."""
        return self.token.replace(f":{self.port}/", f":{self.empty_port}/")

    def rate(self, url: str, seconds: float, *, differing: bool = False) -> float:
        """Requests that the server answers in a second of its processor's time. That does not depend on who else works
        on the machine, as requests in a second of the clock do."""
        script = ["-s", str(Path(__file__).with_name("differing.lua"))] if differing else []
        before = processor_seconds(self.pid)
        said = wrk(url, seconds, "-c", str(CONNECTIONS), "-H", f"Authorization: {self.login}", *script)
        if "Non-2xx" in said:
            raise RuntimeError(f"the server refused: {said}")
        return requests(said) / (processor_seconds(self.pid) - before)

    def metrics(self) -> dict[str, float]:
        """All its metrics, by name and labels."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.management_port}/metrics", timeout=60) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}


@contextmanager
def serving(*arguments: str, cores: Sequence[int] = (0,)) -> Iterator[Served]:
    """A token server on these cores, for as long as the context lasts."""
    command = [*on(cores), sys.executable, "-m", "tests.bench.token_server", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield Served(server.pid, **json.loads(server.stdout.readline()))
        finally:
            server.send_signal(signal.SIGINT)


def on(cores: Sequence[int]) -> list[str]:
    """Keeps a command on some cores."""
    return ["taskset", "-c", ",".join(map(str, cores))]


def wrk(url: str, seconds: float, *arguments: str) -> str:
    """Loads one URL from one thread, on another core than the first one if there is one; what wrk says then."""
    others = sorted(os.sched_getaffinity(0) - {0}) or [0]
    command = [*on(others), str(toolchain.tool("wrk")), "-t1", f"-d{seconds:g}s", *arguments, url]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def requests(said: str) -> int:
    """How many requests wrk says that it had answered."""
    found = re.search(r"(\d+) requests in", said)
    if found is None:
        raise RuntimeError(f"wrk counted no requests: {said}")
    return int(found[1])


def processor_seconds(pid: int) -> float:
    """What a process and its children have used of processors so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return (int(fields[11]) + int(fields[12])) / _TICKS + sum(processor_seconds(int(child)) for child in children)
