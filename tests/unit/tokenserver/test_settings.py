"""Settings that could not work are refused at start."""

from datetime import timedelta
from typing import Any

import pytest

from pullpass.cli import main
from pullpass.tokenserver.settings import Settings

GOOD: dict[str, Any] = {"credentials_namespace": "credentials", "service": "registry", "issuer": "pullpass"}


@pytest.mark.parametrize(
    ("change", "works"),
    [
        ({}, True),
        ({"access_token_lifetime": timedelta(seconds=60)}, True),
        ({"access_token_lifetime": timedelta(seconds=59)}, False),
        ({"bcrypt_cost": 4}, True),
        ({"bcrypt_cost": 12}, True),
        ({"bcrypt_cost": 3}, False),
        ({"bcrypt_cost": 13}, False),
        ({"service": ""}, False),
        ({"issuer": ""}, False),
    ],
)
def test_settings(change: dict[str, Any], works: bool) -> None:
    if works:
        assert Settings(**GOOD | change)
    else:
        with pytest.raises(ValueError):
            Settings(**GOOD | change)


def test_proxies_are_given_one_flag_each() -> None:
    needed = ["token-server", "--credentials-namespace=c", "--service=s", "--issuer=i"]
    assert main._parser().parse_args(needed).trusted_proxy == []
    options = main._parser().parse_args([*needed, "--trusted-proxy=10.0.0.0/8", "--trusted-proxy=fd00::/8"])
    assert [str(network) for network in options.trusted_proxy] == ["10.0.0.0/8", "fd00::/8"]


@pytest.mark.parametrize("text", ["proxy.example.com", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_a_proxy_that_is_no_network_is_refused_at_start(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main.main(["token-server", f"--trusted-proxy={text}"])
    assert "--trusted-proxy" in capsys.readouterr().err
