"""Real clusters of this machine: they start, they bear each other, and nothing of them stays."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import controlgroups, images, local, places, processes
from .local import LocalCluster

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="a node needs root")


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, with nothing of it left at the end."""
    local.prepare(with_node=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield tmp_path
    for name in local.names():
        local.remove(name)


def mentioning(what: Path) -> list[int]:
    """Processes with this path in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                if os.fsencode(what) in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def traces(name: str) -> list[str]:
    """What a node could leave on this machine outside its directory."""
    links = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, check=True).stdout
    rules = subprocess.run(["iptables-save"], capture_output=True, text=True, check=True).stdout
    mounts = Path("/proc/self/mountinfo").read_text()
    found = [line for line in mounts.splitlines() if str(places.cluster(name)) in line or "/cni-" in line]
    found += [line for line in links.splitlines() if line.startswith(("pods", "veth"))]
    found += [line for line in rules.splitlines() if "KUBE-" in line or "CNI-" in line]
    groups = controlgroups.of_cluster(places.cluster(name)).directories()
    return found + [str(group) for group in groups if group.exists()]


def answers(cluster: LocalCluster) -> bool:
    ready = cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=5s", check=False)
    return ready.stdout == "ok"


@pytest.mark.controlplane
def test_control_plane_from_start_to_end(state: Path) -> None:
    cluster = local.start("one", nodes=0)
    assert answers(cluster)
    assert cluster.nodes == ()
    again = local.start("one", nodes=0)
    assert again.record == cluster.record

    cluster.kubectl("create", "configmap", "kept")
    cluster.stop_api_server()
    assert not answers(cluster)
    assert local.attach("one") is not None
    cluster.start_api_server()
    cluster.kubectl("get", "configmap", "kept")

    cluster.stop_etcd()
    processes.wait_until(lambda: not answers(cluster), "the API server misses etcd", timeout=30)
    cluster.start_etcd()
    cluster.kubectl("get", "configmap", "kept")

    cluster.stop()
    assert mentioning(state) == []
    assert local.names() == []
    assert local.attach("one") is None


@pytest.mark.controlplane
def test_two_control_planes_side_by_side(state: Path) -> None:
    one, two = (local.start(name, nodes=0, controllers=False) for name in ("one", "two"))
    one.kubectl("create", "namespace", "only-here")
    assert two.kubectl("get", "namespace", "only-here", check=False).returncode != 0
    one.stop()
    assert answers(two)


@pytest.mark.controlplane
def test_sweeping_takes_the_rests_and_leaves_the_running(state: Path) -> None:
    running = local.start("runs", nodes=0, controllers=False)
    crashed = local.start("crashed", nodes=0, controllers=False)
    (crashed.directory / "cluster.json").unlink()
    assert local.sweep() == ["crashed"]
    assert answers(running)
    assert mentioning(crashed.directory) == []


@pytest.mark.parametrize("content", ["", "{", "{}", '{"programs": []}', '{"programs": [], "other": 1}'])
def test_what_another_version_has_written_is_no_running_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    places.cluster("other").mkdir(parents=True)
    (places.cluster("other") / "cluster.json").write_text(content)
    assert local.attach("other") is None


def cut_off(number: signal.Signals, started: Path, *arguments: str) -> None:
    """Run `up` for the cluster `cut`, and send it a signal once the program of this pid file was started."""
    # Where the tests themselves run in the background of a shell, Ctrl-C is ignored, and a child would inherit that.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    launcher = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "up", "--name", "cut", *arguments],
        cwd=places.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    signal.signal(signal.SIGINT, inherited)
    processes.wait_until(started.exists, f"{started.stem} was started", timeout=60)
    launcher.send_signal(number)
    launcher.wait(timeout=30)


@pytest.mark.controlplane
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_start_that_is_cut_off(state: Path, number: signal.Signals) -> None:
    pid_file = places.cluster("cut") / "pids/kube-apiserver.pid"
    cut_off(number, pid_file, "--control-plane")
    if number == signal.SIGKILL:
        assert processes.alive(processes.read(pid_file))
        assert local.attach("cut") is None
        cluster = local.start("cut", nodes=0, controllers=False)
        assert len(mentioning(cluster.directory / "etcd")) == 1
        cluster.stop()
    assert mentioning(state) == []
    assert local.names() == []


@pytest.fixture(scope="module")
def pod() -> str:
    return """
apiVersion: v1
kind: Pod
metadata: {name: hello}
spec:
  terminationGracePeriodSeconds: 1
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true}
  containers:
  - {name: hello, image: "localhost/hello:test", imagePullPolicy: Never}
"""


@pytest.mark.node
@needs_root
def test_full_clusters_side_by_side_leave_nothing(state: Path, pod: str) -> None:
    before = traces("one")
    clusters = [local.start(name, nodes=1) for name in ("one", "two")]
    one, two = clusters
    assert one.registry_port != two.registry_port
    for cluster in clusters:
        cluster.load_image(images.hello("test"))
        cluster.kubectl("apply", "-f", "-", input=pod)
    for cluster in clusters:
        cluster.kubectl("wait", "--for=condition=Ready", "pod/hello", "--timeout=60s")
        assert cluster.kubectl("logs", "hello").stdout == "hello test\n"
    one.stop()
    assert answers(two)
    two.stop()
    assert mentioning(state) == []
    assert traces("one") == before
    assert traces("two") == before


@pytest.mark.node
@needs_root
def test_nodes_whose_first_process_dies_are_gone(state: Path) -> None:
    cluster = local.start("crash", nodes=2)
    first = processes.read(cluster.members[0].pid_file("namespace"))
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while mentioning(state) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert mentioning(state) == []
    assert local.attach("crash") is None
    local.remove("crash")
    assert [trace for trace in traces("crash") if "pullpass-crash" in trace] == []


@pytest.mark.node
@needs_root
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_start_of_nodes_that_is_cut_off(state: Path, number: signal.Signals) -> None:
    before = traces("cut")
    pid_file = places.cluster("cut") / "pids/node-2/kubelet.pid"
    cut_off(number, pid_file, "--nodes=2", "--provider=local")
    if number == signal.SIGKILL:
        assert processes.alive(processes.read(pid_file))
        assert local.sweep() == ["cut"]
    assert mentioning(state) == []
    assert traces("cut") == before
    assert local.names() == []
