"""Settings that could not work are refused at start."""

from datetime import timedelta
from typing import Any

import pytest

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
