"""A Docker engine of our own: it is there as long as it is needed, and then the machine is as it was."""

import os
import signal
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contract.clients.registries import running

from . import engine, firewall, images, nodeimage, processes, provider, start, toolchain
from .__main__ import main
from .engine import Engine

pytestmark = pytest.mark.node


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, with no cluster left at the end."""
    if engine.found() is not None:
        pytest.skip("an engine answers here, so none of our own is started")
    if engine.OWN.answers():
        pytest.skip("somebody has a cluster in our own engine, which ends in these tests")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    yield tmp_path
    for name in provider.names():
        provider.stop(name)


def machine_state() -> list[str]:
    """What an engine could leave on this machine: rules, links, mounts, files, processes and control groups."""
    rules = [line.split(" [")[0] for text in firewall.saved().values() for line in text.splitlines() if line[:1] != "#"]
    links = sorted(entry.name for entry in Path("/sys/class/net").iterdir())
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    forwarding = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    groups = [str(path) for path in Path("/sys/fs/cgroup").glob("**/pullpass*")]
    command = ["pgrep", "--list-full", "--full", "pullpass-engine|/run/docker/"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    files = [str(path) for top in ("/etc/docker", "/opt/containerd", engine.SOCKET.parent) for path in tree(Path(top))]
    return [*rules, *links, *mounts, forwarding, *groups, *listed, *files]


def tree(top: Path) -> list[Path]:
    return sorted([top, *top.rglob("*")]) if top.exists() else []


def contents(docker: Engine) -> list[str]:
    """What there is in an engine."""
    commands = (
        ("ps", "--all", "--no-trunc", "--format={{.ID}} {{.State}}"),
        ("network", "ls", "--no-trunc", "--format={{.ID}} {{.Name}}"),
        ("image", "ls", "--all", "--no-trunc", "--format={{.ID}} {{.Repository}} {{.Tag}}"),
        ("volume", "ls", "--format={{.Name}}"),
    )
    return [line for command in commands for line in sorted(docker.docker(*command).stdout.splitlines())]


def test_our_own_engine_leaves_nothing() -> None:
    before = machine_state()
    with engine.use() as docker:
        assert docker.ours
        with engine.use() as same:
            assert same == docker
        assert docker.answers(), "another still uses it"
        cluster = start("one")
    assert docker.answers(), "there is a cluster in it"
    assert machine_state() != before
    cluster.stop()
    assert not docker.answers()
    assert machine_state() == before


def test_our_own_engine_that_was_killed_is_cleared_away() -> None:
    before = machine_state()
    with engine.use() as docker:
        start("one")
        docker.docker("ps")
        killed = processes.read(engine.PID_FILE)
        assert killed is not None
        os.kill(killed.pid, signal.SIGKILL)
        processes.wait_until(lambda: not docker.answers(), "the engine is gone", timeout=20)
        assert provider.attach("one") is None
        assert start("one").running()
        assert main(["down", "--all"]) == 0
    assert machine_state() == before


def test_one_that_does_not_start_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = machine_state()
    tool = toolchain.tool
    monkeypatch.setattr(toolchain, "tool", lambda name: Path("/bin/false") if name == "dockerd" else tool(name))
    with pytest.raises(processes.NotReadyError, match="the Docker engine answers"), engine.use():
        pass
    assert machine_state() == before


def test_a_failure_in_the_block_ends_it() -> None:
    before = machine_state()
    with pytest.raises(KeyError), engine.use():
        raise KeyError
    assert machine_state() == before


def test_an_engine_that_answers_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    untouched = machine_state()
    with engine.use() as own:
        socket = tmp_path / "docker.sock"
        socket.symlink_to(engine.SOCKET)
        monkeypatch.setenv("DOCKER_HOST", f"unix://{socket}")
        there = engine.found()
        assert there is not None
        assert not there.ours
        own.docker("network", "create", "somebodys")
        own.docker("import", '--change=ENTRYPOINT ["/hello"]', hello(tmp_path), "localhost/somebodys:1")
        own.docker("run", "--detach", "--network=somebodys", "localhost/somebodys:1")
        before = contents(own)
        cluster = start("one")
        assert cluster.docker == there
        images.product()
        assert contents(own) != before
        assert main(["down", "--all"]) == 0
        assert contents(own) == before
        own.docker("rm", "--force", own.docker("ps", "--quiet").stdout.strip())
    assert machine_state() == untouched, "also of networks that others have made in it"


def hello(directory: Path) -> Path:
    """A file system with a program that waits."""
    target = directory / "hello.tar"
    with tarfile.open(target, "w") as archive:
        archive.add(toolchain.tool("hello"), "hello")
    return target


@pytest.mark.parametrize("host", ["tcp://127.0.0.1:1", "ssh://nobody@localhost"])
def test_an_engine_of_another_machine_is_refused_in_words(
    host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\n[ $1 = version ] || echo {host}\n")
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(RuntimeError, match=f"the Docker engine at {host} is none of this machine"):
        engine.found()


def test_kind_s_own_image_is_pulled_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own engine forgets what it has pulled, so that is kept in the cache."""
    monkeypatch.setenv("PULLPASS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "registry").mkdir()
    with running("3.1.2", tmp_path / "registry", None) as registry:
        name = f"{registry.host}/kindest/node:v1"
        with engine.use() as own:
            own.docker("import", hello(tmp_path), name)
            own.docker("push", name)
            (pushed,) = own.docker("image", "inspect", '--format={{join .RepoDigests "\\n"}}', name).stdout.split()
            monkeypatch.setattr(nodeimage, "kinds_own", lambda: f"{name}@{pushed.partition('@')[2]}")
            own.docker("image", "rm", name)
            assert nodeimage.ensure(own) == name
    with engine.use() as own:
        assert own.docker("image", "ls", "--quiet").stdout == ""
        assert nodeimage.ensure(own) == name
        assert own.docker("image", "inspect", name).returncode == 0
