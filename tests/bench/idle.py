"""Start-up, memory and idle writes of both processes, against a real API server with some hundred tokens."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.figures import Figure
from tests.cluster import Cluster, start

TOKENS = int(os.environ.get("BENCH_TOKENS", "500"))
IDLE_SECONDS = int(os.environ.get("BENCH_IDLE_SECONDS", "60"))
ROOT = Path(__file__).parents[2]
SYSTEM, CREDENTIALS = "pullpass-system", "pullpass-system-credentials"
TOKEN_PORT, HEALTH_PORT, METRICS_PORT = 18980, 18981, 18982


def run() -> Iterator[Figure]:
    """Measures and yields the figures."""
    cluster = start("bench", node=False)
    try:
        _fill(cluster)
        with _process(cluster, _operator(), "bench-operator") as operator:
            _wait(lambda: _ready(cluster) == TOKENS, 600)
            operator.stop()
        before = _writes(cluster)
        with (
            _process(cluster, _operator(), "bench-operator") as operator,
            _process(cluster, _token_server(), "bench-token-server") as server,
        ):
            yield Figure("token_server_ready", _until(server, f"http://127.0.0.1:{TOKEN_PORT}/readyz"), "s")
            _wait(_settled, 120)
            yield Figure("operator_settled_after_restart", time.monotonic() - operator.begun, "s")
            time.sleep(IDLE_SECONDS)
            yield Figure("writes_after_restart_and_idle", _writes(cluster) - before, "writes", goal=0, at="most")
            yield Figure("operator_memory", operator.mebibytes(), "MiB", goal=400, at="most")
            yield Figure("token_server_memory", server.mebibytes(), "MiB", goal=400, at="most")
    finally:
        cluster.stop()


def _fill(cluster: Cluster) -> None:
    for name in (SYSTEM, CREDENTIALS, "bench"):
        cluster.kubectl("create", "namespace", name)
    cluster.kubectl("apply", "-f", str(ROOT / "crds"))
    cluster.kubectl("wait", "--for=condition=Established", "crd", "--all")
    rules = [{"repositories": ["bench/*"], "actions": ["content/read"]}]
    objects: list[dict[str, object]] = [
        {
            "apiVersion": "pullpass.dev/v1alpha1",
            "kind": "ScopeMap",
            "metadata": {"name": "bench"},
            "spec": {"rules": rules, "allowedNamespaces": {"from": "All"}},
        }
    ]
    objects += [
        {
            "apiVersion": "pullpass.dev/v1alpha1",
            "kind": "RegistryToken",
            "metadata": {"name": f"t{number}", "namespace": "bench"},
            "spec": {"scopeMapRef": {"name": "bench"}, "passwords": {"lifetime": "720h"}},
        }
        for number in range(TOKENS)
    ]
    listed = {"apiVersion": "v1", "kind": "List", "items": objects}
    cluster.kubectl("create", "-f", "-", input=json.dumps(listed), timeout=600)


def _operator() -> list[str]:
    return [
        "operator",
        f"--namespace={SYSTEM}",
        f"--credentials-namespace={CREDENTIALS}",
        "--service=registry",
        "--registry-host=localhost:5000",
        "--token-server-service=none",
        f"--health-port={HEALTH_PORT}",
        f"--metrics-port={METRICS_PORT}",
        "--identity=bench",
    ]


def _token_server() -> list[str]:
    return [
        "token-server",
        f"--credentials-namespace={CREDENTIALS}",
        "--service=registry",
        "--issuer=pullpass",
        f"--port={TOKEN_PORT}",
        "--drain-seconds=0",
    ]


class _process:  # noqa: N801 (a context manager, used like a function)
    def __init__(self, cluster: Cluster, arguments: list[str], name: str) -> None:
        self.begun = time.monotonic()
        program = Path(sys.executable).with_name("pullpass")
        self._process = subprocess.Popen(
            [str(program), *arguments],
            env={**os.environ, "KUBECONFIG": str(cluster.kubeconfig)},
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def mebibytes(self) -> float:
        """Resident memory."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) / 1024

    def stop(self) -> None:
        """Ends the process as Kubernetes would."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(60)

    def __enter__(self) -> "_process":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _ready(cluster: Cluster) -> int:
    path = 'jsonpath={range .items[*]}{.status.conditions[?(@.type=="Ready")].status}{"\\n"}{end}'
    return cluster.kubectl("get", "registrytokens", "-n", "bench", "-o", path).stdout.split().count("True")


def _writes(cluster: Cluster) -> float:
    """Writes that the API server has counted, apart from Leases: the election renews one all the time."""
    text = cluster.kubectl("get", "--raw", "/metrics").stdout
    total = 0.0
    for line in text.splitlines():
        if line.startswith("apiserver_request_total{") and 'resource="leases"' not in line:
            verb = re.search(r'verb="(\w+)"', line)
            group = re.search(r'resource="(registrytokens|scopemaps|secrets|serviceaccounts|configmaps|events)"', line)
            if verb and group and verb[1] in ("POST", "PUT", "PATCH", "APPLY", "DELETE"):
                total += float(line.rpartition(" ")[2])
    return total


def _metric(name: str) -> float:
    with urllib.request.urlopen(f"http://127.0.0.1:{METRICS_PORT}/metrics", timeout=5) as answer:
        for line in answer.read().decode().splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[1])
    return -1.0


def _settled() -> bool:
    try:
        return (
            _metric("pullpass_operator_leader") == 1
            and _metric("pullpass_operator_registry_tokens") == TOKENS
            and _metric("pullpass_operator_queue_length") == 0
        )
    except OSError:
        return False


def _until(process: _process, url: str) -> float:
    def answers() -> bool:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    _wait(answers, 120)
    return time.monotonic() - process.begun


def _wait(holds: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            raise TimeoutError("the cluster did not get there in time")
        time.sleep(0.2)
