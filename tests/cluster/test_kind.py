"""Clusters of kind: they start, they harm nobody, and nothing of them stays, also when a start is cut off."""

import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import engine, images, kind, nodeimage, places, processes, provider, start
from .__main__ import main
from .engine import Engine

pytestmark = pytest.mark.node

POD = """
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


@pytest.fixture
def state(docker: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory and a user's kubeconfig of the test's own, with no cluster left at the end."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text("current-context: mine\n")
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig))
    yield tmp_path
    for name in provider.names():
        provider.stop(name)
    assert kubeconfig.read_text() == "current-context: mine\n", "the user's kubeconfig was changed"


@pytest.fixture(scope="module")
def docker() -> Iterator[Engine]:
    """One engine for all of these tests."""
    with engine.use() as found:
        yield found


@pytest.fixture
def foreign(docker: Engine) -> Iterator[str]:
    """What another cluster, which has no port of ours, looks like to kind and to us."""
    cluster = f"somebodys-{secrets.token_hex(3)}"
    labels = [f"io.x-k8s.kind.cluster={cluster}", "io.x-k8s.kind.role=control-plane", f"{engine.LABEL}=container"]
    arguments = [word for label in labels for word in ("--label", label)]
    name = f"{cluster}-control-plane"
    image = nodeimage.ensure(docker)
    docker.docker("run", "--detach", "--name", name, *arguments, "--entrypoint=sleep", image, "infinity")
    yield name
    running = docker.docker("inspect", "--format={{.State.Running}}", name, check=False).stdout.strip()
    docker.docker("rm", "--force", name)
    assert running == "true", "the cluster of somebody else was touched"


def containers(docker: Engine) -> list[str]:
    """All that there are, in whatever state."""
    return sorted(docker.docker("ps", "--all", "--format={{.Names}}").stdout.split())


def test_clusters_side_by_side_harm_nobody_and_leave_nothing(state: Path, docker: Engine, foreign: str) -> None:
    before = containers(docker)
    one, two = (start(name) for name in ("one", "two"))
    assert one.registry_port != two.registry_port
    for cluster in (one, two):
        cluster.load_image(images.hello("test"))
        cluster.kubectl("apply", "-f", "-", input=POD)
    for cluster in (one, two):
        cluster.kubectl("wait", "--for=condition=Ready", "pod/hello", "--timeout=60s")
        assert cluster.kubectl("logs", "hello").stdout == "hello test\n"
    assert start("one").record == one.record
    assert main(["status"]) == 0
    one.stop()
    assert provider.attach("one") is None
    assert two.kubectl("get", "--raw", "/readyz").stdout == "ok"
    two.stop()
    assert provider.names() == []
    assert containers(docker) == before


def test_the_api_server_goes_and_comes_back(state: Path) -> None:
    cluster = start("one")
    cluster.kubectl("create", "configmap", "kept")
    cluster.stop_api_server()
    assert cluster.kubectl("get", "--raw", "/readyz", "--request-timeout=5s", check=False).returncode != 0
    assert provider.attach("one") is not None
    cluster.start_api_server()
    cluster.kubectl("get", "configmap", "kept")


@pytest.mark.parametrize("left", ["no container", "a stopped container", "no record of its nodes"])
def test_a_half_made_cluster_goes(state: Path, docker: Engine, foreign: str, left: str) -> None:
    before = containers(docker)
    name = f"half-{secrets.token_hex(3)}"
    record = kind.Record(name, docker.host, (f"{name}-control-plane",), 30500, 30501)
    if left != "no container":
        labels = [f"--label=io.x-k8s.kind.cluster={name}", "--label=io.x-k8s.kind.role=control-plane"]
        docker.docker("create", "--name", record.nodes[0], *labels, nodeimage.ensure(docker))
    if left == "no record of its nodes":
        record = kind.Record(name, docker.host)
    places.cluster("half").mkdir(parents=True)
    (places.cluster("half") / "kind.json").write_text(json.dumps(record.__dict__))
    assert provider.attach("half") is None
    assert provider.sweep() == ["half"]
    assert provider.names() == []
    assert containers(docker) == before


@pytest.mark.parametrize("content", [None, "", "{", "{}", '{"nodes": []}', '{"nodes": [], "other": 1}'])
def test_what_another_version_has_written_is_no_running_cluster(state: Path, content: str | None) -> None:
    """Neither is a directory with nothing in it, of a start that was cut off."""
    places.cluster("other").mkdir(parents=True)
    if content is not None:
        (places.cluster("other") / "kind.json").write_text(content)
    assert provider.attach("other") is None
    assert provider.sweep() == ["other"]
    assert provider.names() == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_a_start_that_is_cut_off(state: Path, docker: Engine, number: signal.Signals) -> None:
    before = containers(docker)
    # Where the tests themselves run in the background of a shell, Ctrl-C is ignored, and a child would inherit that.
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    launcher = subprocess.Popen(
        [sys.executable, "-m", "tests.cluster", "up", "--name", "cut"],
        cwd=places.ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    signal.signal(signal.SIGINT, inherited)
    processes.wait_until(lambda: containers(docker) != before, "the node is there", timeout=120)
    os.killpg(launcher.pid, number)
    launcher.wait(timeout=60)
    if number == signal.SIGKILL:
        assert provider.attach("cut") is None
        assert provider.sweep() == ["cut"]
    assert provider.names() == []
    assert containers(docker) == before


def test_a_node_image_that_cannot_be_had_is_named(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULLPASS_NODE_IMAGE", "localhost:1/nodes:none")
    with pytest.raises(RuntimeError, match="docker pull --quiet localhost:1/nodes:none"):
        start("one")
    assert provider.names() == []


def test_the_node_image_that_is_named_is_taken(state: Path, docker: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.docker("tag", nodeimage.ensure(docker), "localhost/mine:1")
    try:
        monkeypatch.setenv("PULLPASS_NODE_IMAGE", "localhost/mine:1")
        (node,) = start("one").nodes
        assert docker.docker("inspect", "--format={{.Config.Image}}", node).stdout.strip() == "localhost/mine:1"
    finally:
        provider.stop("one")
        docker.docker("image", "rm", "localhost/mine:1")
