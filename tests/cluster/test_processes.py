"""Exactly what was started is ended, and nothing that has its pid by now."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from . import processes


@pytest.fixture
def pid_file(tmp_path: Path) -> Path:
    return tmp_path / "pids/program.pid"


def start(pid_file: Path, *argv: str) -> processes.Identity:
    return processes.start(argv, pid_file=pid_file, log=pid_file.parent / "program.log")


def test_starts_in_a_session_of_its_own_and_stops(pid_file: Path) -> None:
    identity = start(pid_file, "sleep", "60")
    assert os.getsid(identity.pid) == identity.pid
    assert processes.read(pid_file) == identity
    assert processes.alive(identity)
    assert processes.stop(pid_file)
    assert not processes.alive(identity)
    assert not pid_file.exists()


def test_a_recycled_pid_is_not_killed(pid_file: Path) -> None:
    identity = start(pid_file, "true")
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        stat = Path(f"/proc/{bystander.pid}/stat").read_text()
        fields = stat.rpartition(")")[2].split()
        fields[19] = str(int(fields[19]) - 1)  # as if an earlier process had had this pid
        pid_file.write_text(f"{bystander.pid} (sleep) {' '.join(fields)}\n")
        assert identity != processes.read(pid_file)
        assert not processes.stop(pid_file)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("content", ["", "garbage", "12", "12 (x) S"])
def test_a_broken_pid_file_ends_nothing(pid_file: Path, content: str) -> None:
    pid_file.parent.mkdir()
    pid_file.write_text(content)
    assert processes.read(pid_file) is None
    assert not processes.stop(pid_file)
    assert not pid_file.exists()


def test_names_with_spaces_and_parentheses_do_not_confuse(pid_file: Path) -> None:
    pid_file.parent.mkdir()
    pid_file.write_text(f"77 (a) b (c) S 1 77 77 {'0 ' * 15} 4242 0 0\n")
    assert processes.read(pid_file) == processes.Identity(77, 4242)


def test_children_go_too_and_what_ignores_the_signal(pid_file: Path) -> None:
    script = 'trap "" TERM; sleep 60 & echo $!; while :; do sleep 1; done'
    start(pid_file, "sh", "-c", script)
    log = pid_file.parent / "program.log"
    processes.wait_until(lambda: bool(log.read_text()), "the child is there", timeout=5)
    child = int(log.read_text())
    assert processes.stop(pid_file, grace=0.3)
    assert processes.identify(child) is None


def test_waiting_ends_early_when_the_program_did(pid_file: Path) -> None:
    start(pid_file, "sh", "-c", "echo no such luck; exit 1")
    with pytest.raises(processes.NotReadyError, match=r"(?s)program ended.*no such luck"):
        processes.wait_until(lambda: False, "it", timeout=10, pid_files=[pid_file], log=pid_file.parent / "program.log")


def test_stopping_twice_is_fine(pid_file: Path) -> None:
    start(pid_file, "sleep", "60")
    assert processes.stop(pid_file, first=signal.SIGKILL)
    assert not processes.stop(pid_file)
