"""Run programs to their end; and start programs that outlive us, and later end exactly those.

A program that was started is known by its pid and its start time, so that a pid which the kernel gave to something else
in the meantime is never killed. The program writes that file itself, before it becomes what we asked for: were it
written by us after the start, a launcher killed in between would leave a process that nobody knows of.
"""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_START = 'read -r stat </proc/$$/stat; printf "%s\\n" "$stat" >"$0.new"; mv "$0.new" "$0"; exec "$@"'


_SAID = 4000
"""How much of what a program said an error quotes, in characters."""


class NotReadyError(RuntimeError):
    """A program ended early, or did not do in time what it was started for."""


@dataclass(frozen=True)
class Identity:
    """A process, told from any later one of the same pid by its start time (clock ticks since boot)."""

    pid: int
    started: int


@dataclass(frozen=True)
class _Stat:
    identity: Identity
    group: int
    ended: bool


def run(
    argv: Sequence[str | Path],
    *,
    input: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    check: bool = True,
    timeout: float | None = None,
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end, with `env` in addition to ours; what it printed is in the result.

    `RuntimeError` with the command and the end of what it said where it fails (unless `check` is off), or takes longer
    than `timeout` seconds.
    """
    command = list(map(str, argv))
    try:
        done = subprocess.run(
            command,
            input=input,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{' '.join(command)}: not done after {timeout:.0f} s") from None
    if check and done.returncode:
        said = (done.stderr or done.stdout)[-_SAID:]
        raise RuntimeError(f"{' '.join(command)}: exit status {done.returncode}\n{said}")
    return done


def _parse(stat: str) -> _Stat:
    # The second field is the program's name in parentheses and may hold anything, spaces and parentheses too.
    before, _, after = stat.rpartition(")")
    fields = after.split()
    identity = Identity(int(before.split(" ", 1)[0]), int(fields[19]))
    return _Stat(identity, int(fields[2]), fields[0] in "ZX")


def _stat(pid: int) -> _Stat | None:
    try:
        return _parse(Path(f"/proc/{pid}/stat").read_text(errors="replace"))
    except (OSError, ValueError, IndexError):
        return None


def identify(pid: int) -> Identity | None:
    """The process that has this pid now."""
    found = _stat(pid)
    return None if found is None or found.ended else found.identity


def alive(identity: Identity | None) -> bool:
    return identity is not None and identify(identity.pid) == identity


def read(pid_file: Path) -> Identity | None:
    """Who was started under this pid file; it may have ended since."""
    try:
        return _parse(pid_file.read_text()).identity
    except (OSError, ValueError, IndexError):
        return None


def start(
    argv: Sequence[str | Path],
    *,
    pid_file: Path,
    log: Path,
    env: Mapping[str, str] | None = None,
    timeout: float = 10,
) -> Identity:
    """Start a program in its own session (a Ctrl-C is for us, not for it), its output appended to `log`."""
    pid_file.parent.mkdir(parents=True, exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    pid_file.unlink(missing_ok=True)
    pid = os.posix_spawn(
        "/bin/sh",
        ["/bin/sh", "-c", _START, str(pid_file), *map(str, argv)],
        {**os.environ, **(env or {})},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
    )
    deadline = time.monotonic() + timeout
    while (identity := read(pid_file)) is None:
        if time.monotonic() > deadline or identify(pid) is None:
            raise NotReadyError(f"{argv[0]} did not start")
        time.sleep(0.005)
    return identity


def _members(group: int) -> list[int]:
    """Live processes of a process group. A child of `unshare` is one too: it stays in its parent's group."""
    found = (_stat(int(entry)) for entry in os.listdir("/proc") if entry.isdigit())
    return [stat.identity.pid for stat in found if stat and stat.group == group and not stat.ended]


def _reap(pid: int) -> None:
    # Not our child if another run of ours started it: then init reaps it.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def stop(pid_file: Path, *, grace: float = 10, first: signal.Signals = signal.SIGTERM) -> bool:
    """End the program of this pid file and its process group; kill what is left after `grace` seconds.

    Returns whether there was anything to end. Nothing is signalled when the pid now belongs to another
    process.
    """
    identity = read(pid_file)
    was_alive = identity is not None and alive(identity)
    if identity is not None and was_alive:
        _signal_group(identity.pid, first)
        deadline = time.monotonic() + grace
        while _members(identity.pid):
            _reap(identity.pid)
            if time.monotonic() > deadline:
                _signal_group(identity.pid, signal.SIGKILL)
                deadline += grace
            time.sleep(0.02)
        _reap(identity.pid)
    pid_file.unlink(missing_ok=True)
    return was_alive


def wait_until(
    ready: Callable[[], bool],
    what: str,
    *,
    timeout: float,
    pid_files: Iterable[Path] = (),
    log: Path | None = None,
) -> None:
    """Wait for `ready()`; give up early, with the end of the log, when a program it needs has ended."""
    deadline = time.monotonic() + timeout
    needed = {pid_file: read(pid_file) for pid_file in pid_files}
    while not ready():
        ended = [pid_file.stem for pid_file, identity in needed.items() if not alive(identity)]
        if ended:
            raise NotReadyError(f"{what}: {', '.join(ended)} ended{_end_of(log)}")
        if time.monotonic() > deadline:
            raise NotReadyError(f"{what}: not after {timeout:.0f} s{_end_of(log)}")
        time.sleep(0.1)


def _end_of(log: Path | None, lines: int = 15) -> str:
    if log is None or not log.exists():
        return ""
    return f"\n--- end of {log}\n" + "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
