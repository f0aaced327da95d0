"""What the demo shows: titles, the commands that a user would type, and what they really print."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


class StepError(Exception):
    """Something that must hold does not."""


class Terminal:
    """Runs commands as they are shown, in `directory`, and remembers which step they belong to."""

    def __init__(self, directory: Path, kubeconfig: Path, programs: list[Path]) -> None:
        self._directory = directory
        path = os.pathsep.join([*(str(program.parent) for program in programs), os.environ["PATH"]])
        self._environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "PATH": path}
        self._step = 0
        self.title = "setup"

    def step(self, title: str, words: str) -> None:
        """Begin a step."""
        self._step += 1
        self.title = f"{self._step}. {title}"
        print(f"\n{_bold(self.title)}\n{words}\n", flush=True)

    def run(self, command: str, *, succeeds: bool = True) -> str:
        """Show a command, run it, show and return its output. Raises StepError if it ends otherwise."""
        print(_bold(f"$ {command}"), flush=True)
        done = self._shell(command)
        output = f"{done.stdout}{done.stderr}".rstrip()
        for line in output.splitlines():
            print(f"  {line}", flush=True)
        if (done.returncode == 0) != succeeds:
            expected = "to succeed" if succeeds else "to be refused"
            raise StepError(f"expected {expected}, exit status {done.returncode}: {command}\n{output}")
        return output

    def quietly(self, command: str) -> str:
        """The output of a command that is no part of the story; empty if it fails."""
        done = self._shell(command)
        return done.stdout.strip() if done.returncode == 0 else ""

    def wait(self, what: str, condition: Callable[[], T], timeout: float = 60) -> T:
        """Wait until the condition is true, and say so meanwhile."""
        begin = time.monotonic()
        terminal = sys.stdout.isatty()
        print(f"  ({what} …)", end="" if terminal else "\n", flush=True)
        while not (value := condition()):
            seconds = time.monotonic() - begin
            if seconds > timeout:
                raise StepError(f"not within {timeout:.0f} s: {what}; last seen: {value!r}")
            if terminal:
                print(f"\r\033[K  ({what} … {seconds:.0f} s)", end="", flush=True)
            time.sleep(0.3)
        if terminal:
            print(f"\r\033[K  ({what}: after {time.monotonic() - begin:.0f} s)", flush=True)
        return value

    def check(self, holds: bool, what: str) -> None:
        """Say what holds. Raises StepError if it does not."""
        if not holds:
            raise StepError(f"does not hold: {what}")
        print(f"  ✓ {what}", flush=True)

    def _shell(self, command: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def _bold(text: str) -> str:
    return f"\033[1m{text}\033[0m" if sys.stdout.isatty() else text
