"""Containers that ask for all capabilities get those that can be had."""

import json
import subprocess
from pathlib import Path

import pytest

from . import capabilities


def status(bounding: int) -> str:
    return f"Name:\tx\nCapEff:\t0000000000000000\nCapBnd:\t{bounding:016x}\nCapAmb:\t0000000000000000\n"


ALL = (1 << 41) - 1


@pytest.mark.parametrize(
    ("bounding", "lacking"),
    [
        (ALL, []),
        (ALL & ~(1 << 24), ["CAP_SYS_RESOURCE"]),
        (ALL & ~1 & ~(1 << 40), ["CAP_CHOWN", "CAP_CHECKPOINT_RESTORE"]),
    ],
)
def test_what_the_bounding_set_lacks_is_named(bounding: int, lacking: list[str]) -> None:
    assert capabilities.missing(status(bounding)) == lacking


@pytest.mark.parametrize("flag", ["--bundle", "--process"])
@pytest.mark.parametrize("asked", [["CAP_CHOWN", "CAP_SYS_RESOURCE", "CAP_KILL"], ["CAP_KILL", "CAP_SYS_RESOURCE"]])
def test_a_container_does_not_ask_for_what_is_lacking(tmp_path: Path, flag: str, asked: list[str]) -> None:
    runc = tmp_path / "runc"
    runc.write_text('#!/bin/sh\necho "$@"\n')
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(capabilities.wrapping(runc, ["CAP_SYS_RESOURCE"]))
    for program in (runc, wrapper):
        program.chmod(0o755)
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"bounding": asked}, separators=(",", ":")))
    given = str(tmp_path if flag == "--bundle" else file)
    done = subprocess.run([wrapper, "create", flag, given, "name"], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["create", flag, given, "name"]
    assert json.loads(file.read_text()) == {"bounding": [name for name in asked if name != "CAP_SYS_RESOURCE"]}
