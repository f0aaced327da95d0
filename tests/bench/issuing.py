"""Requests per second of `GET /token` with a warm credential, beside an empty handler of the same server.

The server has one core and the load generator another; both handlers are loaded in turn, and the ratio is taken
round by round, so that a machine whose speed drifts does not decide.
"""

import base64
import json
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator

from tests.bench.figures import Figure
from tests.bench.token_server import REPOSITORY, SERVICE
from tests.cluster import toolchain

ROUNDS = 5
SECONDS = 4
CONNECTIONS = 32


def run() -> Iterator[Figure]:
    """Measures and yields the figures."""
    server = subprocess.Popen(
        [*_on({0}), sys.executable, "-m", "tests.bench.token_server"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        said = json.loads(server.stdout.readline())
        base = f"http://127.0.0.1:{said['port']}"
        login = base64.b64encode(f"team.reader:{said['password']}".encode()).decode()
        token = f"{base}/ours/token?service={SERVICE}&scope=repository:{REPOSITORY}:pull"
        empty = f"{base}/empty"
        _load(token, login)  # the first login pays for bcrypt
        pairs = [(_load(empty, login), _load(token, login)) for _ in range(ROUNDS)]
    finally:
        server.terminate()
        server.wait()
    yield Figure("empty_handler", statistics.median(e for e, _ in pairs), "requests/s")
    yield Figure("token_warm_credential", statistics.median(t for _, t in pairs), "requests/s")
    yield Figure("token_over_empty_handler", statistics.median(t / e for e, t in pairs), "ratio", goal=0.6)


def _on(cores: set[int]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, sorted(cores)))]


def _load(url: str, login: str) -> float:
    cores = os.sched_getaffinity(0)
    command = [*_on((cores - {0}) or cores), str(toolchain.tool("wrk")), "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s"]
    command += ["-H", f"Authorization: Basic {login}", url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        raise RuntimeError(f"the server refused: {done.stdout}")
    found = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"wrk printed no rate: {done.stdout}")
    return float(found[1])
