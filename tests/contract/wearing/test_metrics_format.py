"""What the two processes show Prometheus is what its own tool finds in order."""

import subprocess
import sys

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
    assert (await served.metrics()).count("\n") == before
