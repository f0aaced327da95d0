"""TokenServerSettings that could not work are refused at start."""

from pathlib import Path
from typing import Any

import pytest

from pullpass.cli import main
from pullpass.tokenserver.settings import TokenServerSettings
from tests.registries import ONE

GOOD: dict[str, Any] = {"credentials_namespace": "credentials", "registries": ONE}


@pytest.mark.parametrize(
    ("change", "works"),
    [
        ({}, True),
        ({"bcrypt_cost": 4}, True),
        ({"bcrypt_cost": 12}, True),
        ({"bcrypt_cost": 3}, False),
        ({"bcrypt_cost": 13}, False),
    ],
)
def test_settings(change: dict[str, Any], works: bool) -> None:
    if works:
        assert TokenServerSettings(**GOOD | change)
    else:
        with pytest.raises(ValueError):
            TokenServerSettings(**GOOD | change)


def test_proxies_are_given_one_flag_each() -> None:
    needed = ["token-server", "--credentials-namespace=c", "--registries=r.json"]
    assert main._parser().parse_args(needed).trusted_proxy == []
    options = main._parser().parse_args([*needed, "--trusted-proxy=10.0.0.0/8", "--trusted-proxy=fd00::/8"])
    assert [str(network) for network in options.trusted_proxy] == ["10.0.0.0/8", "fd00::/8"]


def test_the_file_of_registries_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    needed = ["token-server", "--credentials-namespace=c"]
    with pytest.raises(SystemExit):
        main._parser().parse_args(needed)
    monkeypatch.setenv("PULLPASS_REGISTRIES", str(tmp_path / "given"))
    assert main._parser().parse_args(needed).registries == tmp_path / "given"
    assert main._parser().parse_args([*needed, "--registries=other"]).registries == Path("other")


@pytest.mark.usefixtures("logging_of_its_own")
@pytest.mark.parametrize("command", ["operator", "token-server"])
def test_registries_that_cannot_be_used_are_said_at_start(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "registries.json"
    file.write_text('{"registries": [{"name": "default"}]}')
    needed = ["--credentials-namespace=c", "--log-level=error", f"--registries={file}"]
    if command == "operator":
        needed += ["--namespace=n", "--token-server-service=t"]
    assert main.main([command, *needed]) == 1
    assert f"pullpass {command}: {file} cannot be used: registries[0].service" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["proxy.example.com", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_a_proxy_that_is_no_network_is_refused_at_start(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["token-server", f"--trusted-proxy={text}"])
    assert "--trusted-proxy" in capsys.readouterr().err
