"""The versions of Python that pullpass promises to run on and this machine does not have, each in a Debian of its own.

No package of PyPI brings one of these versions, and uv takes them from elsewhere.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from . import debian, places, processes, progress

RELEASES = {"3.11": "bookworm", "3.13": "trixie"}
"""The oldest version and the image's, and the release of Debian that has it."""

_IN_ROOT = """
set -e
root=$1 checkout=$2 packages=$3; shift 3
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mount -o bind,ro "$checkout" "$root/checkout"
mount -o bind,ro "$packages" "$root/packages"
exec chroot "$root" env --ignore-environment --chdir=/checkout "$@"
"""
_ENVIRONMENT = {
    "HOME": "/tmp",
    "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
    "LANG": "C.UTF-8",
    "PATH": "/usr/bin:/bin",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONPATH": "/checkout/operator:/packages",
}


def others() -> list[str]:
    """The versions of Python to try that this one is not."""
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    return [version for version in RELEASES if version != here]


def possible() -> bool:
    """Whether one can be had here."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def prepare(version: str) -> Path:
    """The archive of the Debian that has this version, made where it is not there yet."""
    return debian.base(RELEASES[version])


def run(version: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run this version with these arguments in the checkout, which it cannot change, and with all that tests need.

    Everything that it has started ends with it, and it ends with us.
    """
    scratch = places.ROOT / f"build/python-{version}"
    shutil.rmtree(scratch, ignore_errors=True)  # of a run that was killed
    try:
        return _run(version, scratch / "root", scratch / "packages", *arguments)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _run(version: str, root: Path, packages: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    for directory in (root / "checkout", root / "packages", packages):
        directory.mkdir(parents=True)
    processes.run(["tar", "--extract", "--file", prepare(version), "--directory", root, "--exclude=./dev/*"])
    with progress.step(f"installing packages for Python {version}"):
        _install(version, packages)
    program = [*(f"{key}={value}" for key, value in _ENVIRONMENT.items()), f"python{version}", *arguments]
    command: list[str | Path] = [
        *debian.ENDING_WITH_US,
        "sh",
        "-c",
        _IN_ROOT,
        "sh",
        root,
        places.ROOT,
        packages,
        *program,
    ]
    return subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, check=False
    )


def _install(version: str, target: Path) -> None:
    """What the lock has for development, and our own package; its sources come from the checkout all the same."""
    wheels = f"{platform.machine()}-manylinux_2_28"
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", f"--target={target}", "--python-version", version]
    lock = places.ROOT / "requirements-dev.lock"
    processes.run([*uv, "--python-platform", wheels, "--only-binary=:all:", "--require-hashes", "--requirement", lock])
    processes.run([*uv, "--no-deps", "--no-build-isolation", places.ROOT])
