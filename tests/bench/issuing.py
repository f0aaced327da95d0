"""Requests per second of `GET /token` with a warm credential, beside an empty handler of the same server.

Once with a scope that differs from request to request, so that each answer is decided and signed by itself, and once
with the same request over and over, which within a second gets the same answer.

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
from pathlib import Path

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
        rounds = [
            (_load(empty, login), _load(token, login, differing=True), _load(token, login)) for _ in range(ROUNDS)
        ]
    finally:
        server.terminate()
        server.wait()
    middle = statistics.median
    yield Figure("empty_handler", middle(e for e, _, _ in rounds), "requests/s")
    yield Figure("token_warm_credential", middle(t for _, t, _ in rounds), "requests/s")
    yield Figure("token_warm_credential_over_empty", middle(t / e for e, t, _ in rounds), "ratio", goal=0.6)
    yield Figure("token_repeated", middle(r for _, _, r in rounds), "requests/s")
    yield Figure("token_repeated_over_empty", middle(r / e for e, _, r in rounds), "ratio", goal=0.6)


def _on(cores: set[int]) -> list[str]:
    return ["taskset", "-c", ",".join(map(str, sorted(cores)))]


def _load(url: str, login: str, *, differing: bool = False) -> float:
    cores = os.sched_getaffinity(0)
    command = [*_on((cores - {0}) or cores), str(toolchain.tool("wrk")), "-t1", f"-c{CONNECTIONS}", f"-d{SECONDS}s"]
    command += ["-H", f"Authorization: Basic {login}"]
    if differing:
        command += ["-s", str(Path(__file__).with_name("differing.lua"))]
    command.append(url)
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    if "Non-2xx" in done.stdout:
        raise RuntimeError(f"the server refused: {done.stdout}")
    found = re.search(r"Requests/sec:\s+([0-9.]+)", done.stdout)
    if found is None:
        raise RuntimeError(f"wrk printed no rate: {done.stdout}")
    return float(found[1])
