"""The commands that the documents install with: the chart takes them, under both versions of Helm."""

import re
import shlex

import pytest

from tests.contract.chart.rendering import CHART, ROOT, Helm

PAGES = (ROOT / "README.md", CHART / "README.md")
COMMANDS = [
    pytest.param(command, id=f"{page.relative_to(ROOT)}-{number}")
    for page in PAGES
    for number, command in enumerate(re.findall(r"^ *(helm install (?:.*\\\n)*.*)$", page.read_text(), re.MULTILINE))
    if "--values" not in command
]


@pytest.mark.parametrize("command", COMMANDS)
def test_it_renders(helm: Helm, command: str) -> None:
    _, _, release, chart, *options = shlex.split(command.replace("\\\n", " "))
    done = helm.run("template", release, ROOT / chart, "--kube-version", "1.36.0", *options)
    assert done.returncode == 0, done.stderr
    assert "images.example.com/platform/pullpass:0.1.0" in done.stdout


def test_there_are_some() -> None:
    assert len(COMMANDS) == 3
