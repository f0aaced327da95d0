"""The control groups of the containers of our own Docker engine, which do not end with its namespaces."""

import os
import time
from pathlib import Path


class ControlGroup:
    """A control group in every hierarchy that this machine has; those of containers are below it."""

    def __init__(self, path: str) -> None:
        self.path = path
        """Below the root of each hierarchy."""

    def create(self) -> None:
        for directory in self.directories():
            directory.mkdir(parents=True, exist_ok=True)

    def remove(self) -> None:
        """Remove it with all below it, as soon as the last process of it has ended."""
        deadline = time.monotonic() + 10
        for directory in self.directories():
            while directory.exists():
                _remove(directory)
                if time.monotonic() > deadline:
                    raise RuntimeError(f"{directory} is still in use")

    def directories(self) -> list[Path]:
        found = mounts(Path("/proc/self/mountinfo").read_text())
        return [mount / self.path.lstrip("/") for mount in found]


def mounts(mountinfo: str) -> list[Path]:
    """Where control groups are mounted: once for version 2, once per controller for version 1."""
    found = []
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] in ("cgroup", "cgroup2"):
            found.append(Path(before.split(" ")[4]))
    return found


def _remove(top: Path) -> None:
    for directory, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(directory)
        except FileNotFoundError:
            pass
        except OSError:
            time.sleep(0.05)  # a process of it is just ending
