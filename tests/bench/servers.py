"""An empty handler behind HTTP servers that could be ours, in turn: aiohttp on uvloop as it is, aiohttp on Python's own
event loop, and granian with its RSGI interface.

Granian is no dependency: it is installed into the cache when this runs. Each has one process on one core.
"""

import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.bench.figures import Figure
from tests.bench.served import CONNECTIONS, on, processor_seconds, requests, serving, wrk
from tests.cluster import places, ports, progress

GRANIAN = "2.8.9"
ROUNDS = 5
SECONDS = 3
PATIENCE = 30.0


def run() -> Iterator[Figure]:
    """Measures and yields the figures."""
    with ExitStack() as stack:
        uvloop, asyncio = (stack.enter_context(serving("--loop", loop)) for loop in ("uvloop", "asyncio"))
        pid, url = stack.enter_context(_granian())
        servers = {
            "aiohttp_uvloop": (uvloop.pid, uvloop.empty),
            "aiohttp_asyncio": (asyncio.pid, asyncio.empty),
            "granian_rsgi": (pid, url),
        }
        rounds = [{name: _rate(*server) for name, server in servers.items()} for _ in range(ROUNDS)]
    for name in servers:
        yield Figure(f"empty_handler_{name}", statistics.median(rates[name] for rates in rounds), "requests/s")
    for name in ("aiohttp_asyncio", "granian_rsgi"):
        ratio = statistics.median(rates[name] / rates["aiohttp_uvloop"] for rates in rounds)
        yield Figure(f"empty_handler_{name}_over_aiohttp_uvloop", ratio, "ratio")


def _rate(pid: int, url: str) -> float:
    before = processor_seconds(pid)
    answered = requests(wrk(url, SECONDS, "-c", str(CONNECTIONS)))
    return answered / (processor_seconds(pid) - before)


@contextmanager
def _granian() -> Iterator[tuple[int, str]]:
    """Granian with the handler below: its process, and where it answers."""
    installed, port = _install(), ports.free()
    options = ["--interface=rsgi", "--loop=uvloop", "--workers=1", "--runtime-threads=1", "--no-ws", f"--port={port}"]
    command = [*on([0]), sys.executable, "-m", "granian", *options, f"{__name__}:answer"]
    path = f"{installed}:{places.ROOT}:{places.ROOT / 'operator'}"
    with subprocess.Popen(
        command, env={"PYTHONPATH": path}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        try:
            url = f"http://127.0.0.1:{port}/"
            _wait(url)
            yield server.pid, url
        finally:
            server.send_signal(signal.SIGTERM)
            try:
                server.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                server.kill()


def _install() -> Path:
    target = places.cache() / "tools" / f"granian-{GRANIAN}"
    if not target.exists():
        with progress.step(f"installing granian {GRANIAN}"):
            scratch = target.with_name(target.name + ".new")
            shutil.rmtree(scratch, ignore_errors=True)
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(scratch)]
            subprocess.run([*pip, f"granian=={GRANIAN}"], check=True)
            scratch.rename(target)
    return target


def _wait(url: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            urllib.request.urlopen(url, timeout=1).close()
        except (urllib.error.URLError, OSError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return


async def answer(_: object, protocol: object) -> None:
    """The empty handler, as RSGI has it."""
    protocol.response_bytes(200, [("content-type", "application/json")], b"{}")  # type: ignore[attr-defined]
