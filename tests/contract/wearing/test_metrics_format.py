"""What the two processes show Prometheus is what its own tool finds in order."""

import subprocess
import sys
from typing import Any

import pytest
from prometheus_client import generate_latest

from pullpass.tokenserver import metrics
from tests.cluster import toolchain
from tests.contract.wearing.served import GOOD, USER, Served, get, stray

OPERATOR = """
from prometheus_client import generate_latest
from pullpass.controller import metrics
metrics.RECONCILES.labels("token", "done").inc()
metrics.DURATION.labels("token").observe(0.1)
print(generate_latest().decode(), end="")
"""


def check(text: str) -> None:
    """Asserts that `promtool check metrics` has nothing to say about it."""
    program = toolchain.tool("promtool")
    done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


async def test_token_server(served: Served) -> None:
    await served.ask(get(USER, GOOD))
    await served.ask(get(USER, stray(1)))
    check(await served.metrics())


def test_operator() -> None:
    # In a process of its own: the registry is that of the whole process.
    done = subprocess.run([sys.executable, "-c", OPERATOR], capture_output=True, text=True, check=True)
    assert "pullpass_operator_reconciles_total" in done.stdout
    check(done.stdout)


async def test_labels_are_bounded(served: Served) -> None:
    before = (await served.metrics()).count("\n")
    for number in range(50):
        await served.login(stray(number), f"web.user{number}", User_Agent=f"client/{number}")
    await served.ask(b"BREW /token HTTP/1.1\r\nHost: a\r\n\r\n")
    served.time += metrics.SCRAPE_CACHE_SECONDS
    assert (await served.metrics()).count("\n") == before


async def test_a_flood_of_scrapes_is_work_for_one_in_a_second(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    made = 0

    def counted(*registry: Any) -> bytes:
        nonlocal made
        made += 1
        return generate_latest(*registry)

    monkeypatch.setattr(metrics, "generate_latest", counted)
    assert 'outcome="granted",registry="default"} 0.0' in await served.metrics()
    await served.login()
    for _ in range(20):
        await served.metrics()
    assert made == 1
    served.time += metrics.SCRAPE_CACHE_SECONDS
    assert 'outcome="granted",registry="default"} 1.0' in await served.metrics()
    assert made == 2
