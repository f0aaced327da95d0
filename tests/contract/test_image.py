"""What the image is made of exists for both architectures that it is built for."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster import places


@pytest.mark.parametrize("architecture", ["x86_64", "aarch64"])
def test_every_package_has_a_wheel(tmp_path: Path, architecture: str) -> None:
    """One of those that the lock knows, so that no build needs a compiler: the base image has none."""
    dockerfile = (places.ROOT / "operator/Dockerfile").read_text()
    (version,) = re.findall(r"^ARG BASE=python:([\d.]+)-slim$", dockerfile, re.MULTILINE)
    wheels = ["--python-version", version, "--python-platform", f"{architecture}-manylinux_2_28", "--only-binary=:all:"]
    lock = ["--require-hashes", "--requirement", str(places.ROOT / "requirements.lock")]
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--target", str(tmp_path), *wheels, *lock]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
