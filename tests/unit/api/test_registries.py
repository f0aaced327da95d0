"""The file of registries: what it says, and what people read who got it wrong."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from pullpass.api.registries import RegistriesError, Registry, load

DEFAULT: dict[str, Any] = {"name": "default", "service": "registry", "issuer": "pullpass", "hosts": ["one.example"]}
OTHER: dict[str, Any] = {
    "name": "other",
    "service": "other registry",
    "issuer": "https://tokens.example/",
    "hosts": ["two.example:5000", "localhost:5000", "[::1]:5000", "cache"],
    "accessTokenLifetimeSeconds": 60,
    "caSecret": "my-ca",
    "trustConfigMap": "my.trust",
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "registries.json"


def write(file: Path, *registries: Any) -> Path:
    file.write_text(json.dumps({"registries": registries}))
    return file


def test_a_whole_file(file: Path) -> None:
    registries = load(write(file, DEFAULT, OTHER))
    assert registries.known == ("default", "other")
    other = registries.of_service("other registry")
    assert other is registries.named("other")
    assert other == Registry(
        name="other",
        service="other registry",
        issuer="https://tokens.example/",
        hosts=("two.example:5000", "localhost:5000", "[::1]:5000", "cache"),
        access_token_lifetime_seconds=60,
        ca_secret="my-ca",
        trust_config_map="my.trust",
    )
    assert other.access_token_lifetime == timedelta(minutes=1)
    assert [registry.name for registry in registries] == ["default", "other"]
    assert registries.named("third") is None
    assert registries.of_service("default") is None
    assert registries.of_signing_secret("pullpass-signing") is registries.default
    assert registries.of_signing_secret("pullpass-signing-other") is other
    assert registries.of_signing_secret("pullpass-signing-default") is None


def test_what_is_left_out_is_named_after_the_registry(file: Path) -> None:
    short = {key: OTHER[key] for key in ("name", "service", "issuer", "hosts")}
    registries = load(write(file, short, DEFAULT))
    default, other = registries.default, registries.named("other")
    assert other is not None
    assert (default.ca_secret, default.signing_secret, default.trust_config_map) == (
        "pullpass-ca",
        "pullpass-signing",
        "pullpass-trust",
    )
    assert (other.ca_secret, other.signing_secret, other.trust_config_map) == (
        "pullpass-ca-other",
        "pullpass-signing-other",
        "pullpass-trust-other",
    )
    assert default.access_token_lifetime == other.access_token_lifetime == timedelta(minutes=5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "Other"}, "registries[1].name: a name of lower-case letters"),
        ({"name": "-other"}, "registries[1].name: a name of lower-case letters"),
        ({"name": "o" * 31}, "registries[1].name: string should have at most 30 characters"),
        ({"service": ""}, "registries[1].service: must not be empty"),
        ({"service": "a\nb"}, "registries[1].service: must not be empty"),
        ({"issuer": " "}, "registries[1].issuer: must not be empty"),
        ({"hosts": []}, "registries[1].hosts: tuple should have at least 1 item"),
        ({"hosts": ["a", "https://b"]}, "registries[1].hosts[1]: host or host:port as in image names"),
        ({"hosts": ["b/path"]}, "registries[1].hosts[0]: host or host:port as in image names"),
        ({"hosts": "b"}, "registries[1].hosts: input should be a valid array"),
        ({"accessTokenLifetimeSeconds": 59}, "registries[1].accessTokenLifetimeSeconds: input should be greater"),
        ({"caSecret": "my_ca"}, "registries[1].caSecret: a name of lower-case letters"),
        ({"lifetime": 60}, "registries[1].lifetime: extra inputs are not permitted"),
        ({"name": "default"}, "registries: the name default stands twice"),
        ({"service": "registry"}, "registries: the service registry stands twice"),
        ({"hosts": ["b", "one.example"]}, "registries: the host one.example stands twice"),
        ({"caSecret": "pullpass-ca"}, "registries: the caSecret pullpass-ca stands twice"),
        ({"trustConfigMap": "pullpass-trust"}, "registries: the trustConfigMap pullpass-trust stands twice"),
    ],
)
def test_what_cannot_be_is_said_with_its_place(file: Path, change: dict[str, Any], said: str) -> None:
    with pytest.raises(RegistriesError) as caught:
        load(write(file, DEFAULT, OTHER | change))
    assert str(caught.value).startswith(f"{file} cannot be used: {said.removeprefix('registries: ')}")


def test_there_is_a_default_one(file: Path) -> None:
    with pytest.raises(RegistriesError, match="one registry must have the name default"):
        load(write(file, OTHER))


def test_what_is_missing_is_named(file: Path) -> None:
    with pytest.raises(RegistriesError) as caught:
        load(write(file, {"name": "default"}))
    assert str(caught.value) == (
        f"{file} cannot be used: registries[0].service: field required; registries[0].issuer: field required; "
        "registries[0].hosts: field required"
    )


@pytest.mark.parametrize("text", ["", "[]", "registries: []", '{"registries": {}}', '{"registries": [1]}'])
def test_what_is_no_such_file_is_said(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(RegistriesError, match="cannot be used"):
        load(file)


def test_a_file_that_is_not_there_or_not_text_is_said(file: Path) -> None:
    with pytest.raises(RegistriesError, match=r"cannot be read from .*json: No such file"):
        load(file)
    file.write_bytes(b"\xff")
    with pytest.raises(RegistriesError, match=r"cannot be read from .*json: it is not UTF-8"):
        load(file)
