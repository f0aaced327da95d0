"""Control planes of this machine: they start, they bear each other, and nothing of them stays."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import controlplane, places, processes, provider, start_control_plane
from .cluster import Cluster

pytestmark = pytest.mark.controlplane


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, with nothing of it left at the end."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield tmp_path
    for name in provider.names():
        provider.stop(name)


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


def answers(cluster: Cluster) -> bool:
    ready = cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=5s", check=False)
    return ready.stdout == "ok"


def test_control_plane_from_start_to_end(state: Path) -> None:
    cluster = start_control_plane("one")
    assert answers(cluster)
    assert cluster.nodes == ()
    again = start_control_plane("one")
    assert again.record == cluster.record

    cluster.kubectl("create", "configmap", "kept")
    cluster.stop_api_server()
    assert not answers(cluster)
    assert controlplane.attach("one") is not None
    cluster.start_api_server()
    cluster.kubectl("get", "configmap", "kept")

    cluster.stop_etcd()
    processes.wait_until(lambda: not answers(cluster), "the API server misses etcd", timeout=30)
    cluster.start_etcd()
    cluster.kubectl("get", "configmap", "kept")

    cluster.stop()
    assert mentioning(state) == []
    assert provider.names() == []
    assert controlplane.attach("one") is None


def test_two_control_planes_side_by_side(state: Path) -> None:
    one, two = (start_control_plane(name, controllers=False) for name in ("one", "two"))
    one.kubectl("create", "namespace", "only-here")
    assert two.kubectl("get", "namespace", "only-here", check=False).returncode != 0
    one.stop()
    assert answers(two)


def test_sweeping_takes_the_rests_and_leaves_the_running(state: Path) -> None:
    running = start_control_plane("runs", controllers=False)
    crashed = start_control_plane("crashed", controllers=False)
    (crashed.directory / "controlplane.json").unlink()
    assert provider.sweep() == ["crashed"]
    assert answers(running)
    assert mentioning(crashed.directory) == []


@pytest.mark.parametrize("content", ["", "{", "{}", '{"programs": []}', '{"programs": [], "other": 1}'])
def test_what_another_version_has_written_is_no_running_cluster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    places.cluster("other").mkdir(parents=True)
    (places.cluster("other") / "controlplane.json").write_text(content)
    assert controlplane.attach("other") is None


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


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_start_that_is_cut_off(state: Path, number: signal.Signals) -> None:
    pid_file = places.cluster("cut") / "pids/kube-apiserver.pid"
    cut_off(number, pid_file, "--control-plane")
    if number == signal.SIGKILL:
        assert processes.alive(processes.read(pid_file))
        assert controlplane.attach("cut") is None
        cluster = start_control_plane("cut", controllers=False)
        assert len(mentioning(cluster.directory / "etcd")) == 1
        cluster.stop()
    assert mentioning(state) == []
    assert provider.names() == []
