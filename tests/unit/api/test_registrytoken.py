from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pullpass.api.registrytoken import DEFAULT_OVERLAP, Passwords, RegistryTokenSpec


def passwords(**fields: Any) -> Passwords:
    return Passwords.model_validate(fields)


@pytest.mark.parametrize(
    ("fields", "renew_before", "overlap"),
    [
        ({}, "0s", "1h"),
        ({"lifetime": "720h"}, "240h", "1h"),
        ({"lifetime": "1h"}, "20m", "20m"),
        ({"lifetime": "1m"}, "20s", "20s"),
        ({"lifetime": "1h", "renewBefore": "50m"}, "50m", "5m"),
        ({"lifetime": "720h", "overlap": "0s"}, "240h", "0s"),
        ({"lifetime": "1m", "onExpiry": "Revoke"}, "20s", "1h"),
        ({"overlap": "10m"}, "0s", "10m"),
    ],
)
def test_defaults(fields: dict[str, str], renew_before: str, overlap: str) -> None:
    expected = passwords(renewBefore=renew_before, overlap=overlap)
    result = passwords(**fields)
    assert (result.effective_renew_before, result.effective_overlap) == (expected.renew_before, expected.overlap)


@given(st.integers(60, 99_999_999).map(lambda seconds: timedelta(seconds=seconds)))
def test_by_default_the_overlap_is_over_before_the_next_rotation(lifetime: timedelta) -> None:
    result = Passwords(lifetime=lifetime)
    between = lifetime - result.effective_renew_before
    assert timedelta() < result.effective_overlap < between
    assert result.effective_overlap <= DEFAULT_OVERLAP


def test_a_whole_spec() -> None:
    spec = RegistryTokenSpec.model_validate(
        {
            "scopeMapRef": {"name": "nginx-read"},
            "enabled": False,
            "expiresAt": "2027-04-01T00:00:00+02:00",
            "passwords": {"lifetime": "720h", "onExpiry": "Rotate", "renewBefore": "240h", "overlap": "1h"},
            "pullSecret": {
                "name": "own",
                "serviceAccounts": ["default"],
                "namespaces": ["web-staging"],
                "whenRevoked": "Remove",
                "deletionPolicy": "Retain",
            },
        }
    )
    assert spec.scope_map_ref.name == "nginx-read"
    assert not spec.enabled
    assert spec.expires_at == datetime(2027, 3, 31, 22, tzinfo=UTC)
    assert spec.passwords.lifetime == timedelta(days=30)
    assert spec.pull_secret_name("nginx-reader") == "own"
    assert spec.pull_secret.service_accounts == ["default"]
    assert (spec.pull_secret.when_revoked, spec.pull_secret.deletion_policy) == ("Remove", "Retain")


def test_a_pull_secret_is_named_after_its_token() -> None:
    spec = RegistryTokenSpec.model_validate({"scopeMapRef": {"name": "a"}, "pullSecret": {}})
    assert spec.pull_secret_name("nginx-reader") == "nginx-reader-pull"


def test_fields_of_a_later_version_are_ignored() -> None:
    spec = RegistryTokenSpec.model_validate({"scopeMapRef": {"name": "a", "kind": "Later"}, "later": {}})
    assert spec == RegistryTokenSpec.model_validate({"scopeMapRef": {"name": "a"}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopeMapRef": {}},
        {"enabled": "perhaps"},
        {"expiresAt": "tomorrow"},
        {"passwords": {"lifetime": "1d"}},
        {"passwords": {"onExpiry": "Keep"}},
        {"pullSecret": {"serviceAccounts": "default"}},
        {"pullSecret": {"whenRevoked": "Forget"}},
    ],
)
def test_what_cannot_be_read_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RegistryTokenSpec.model_validate({"scopeMapRef": {"name": "a"}, **wrong})
