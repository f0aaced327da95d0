"""The registries that one release serves, as the file that operator and token servers read says it.

Each has a service name and a certificate authority of its own. A registry believes its own authority alone, so an
access token for one opens nothing at another, whatever that one makes of audience and issuer.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from pullpass.api import names
from pullpass.api.fields import Model

SHORTEST_LIFETIME = 60
"""Seconds: the registry token specification lets no client count on less."""
MAX_REGISTRIES = 64
"""Registries of one release: each is a value of metric labels, and has keys to look after."""

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_OBJECT = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_HOST = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9.]*[A-Za-z0-9])?(:[0-9]{1,5})?|\[[0-9A-Fa-f:.]+\](:[0-9]{1,5})?")
_WORD = re.compile(r"[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?")


class RegistriesError(ValueError):
    """The file of registries cannot be used: what is wrong, where, and what to do about it."""


def _shaped(pattern: re.Pattern[str], sentence: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise PydanticCustomError("shape", "{sentence}", {"sentence": sentence})
        return text

    return AfterValidator(check)


RegistryName = Annotated[
    str,
    Field(max_length=30),
    _shaped(_LABEL, "a name of lower-case letters, digits and dashes, with a letter or digit at both ends"),
]
Word = Annotated[
    str,
    Field(max_length=255),
    _shaped(_WORD, "must not be empty, nor begin or end with a space, nor have control characters"),
]
Host = Annotated[
    str,
    Field(max_length=255),
    _shaped(_HOST, "host or host:port as in image names, without https:// and without a path"),
]
KeyObjectName = Annotated[
    str,
    Field(max_length=253),
    _shaped(_OBJECT, "a name of lower-case letters, digits, dashes and dots, as Kubernetes has them"),
]


class Registry(Model):
    """One registry, or several that are configured alike and share their users."""

    model_config = ConfigDict(extra="forbid")

    name: RegistryName
    """What ScopeMaps call it in `spec.registry`."""
    service: Word
    """Its service name: what clients ask tokens for, and the audience of its access tokens."""
    issuer: Word
    """Issuer of its access tokens, as its configuration names it."""
    hosts: Annotated[tuple[Host, ...], Field(min_length=1)]
    """Its hosts as in image names, the keys of pull secrets."""
    access_token_lifetime_seconds: Annotated[int, Field(ge=SHORTEST_LIFETIME)] = 300
    """Life of its access tokens. What was issued cannot be called back, so short is safe."""
    ca_secret: KeyObjectName = Field(default_factory=lambda given: _of("pullpass-ca", given))
    """Secret of the release's namespace with the CA that it trusts (tls.crt, tls.key)."""
    trust_config_map: KeyObjectName = Field(default_factory=lambda given: _of("pullpass-trust", given))
    """ConfigMap of the release's namespace with what it is to be given: ca.crt and jwks.json."""

    @property
    def signing_secret(self) -> str:
        """The Secret with its signing leaf, in the credentials namespace."""
        return names.of_registry(names.SIGNING_SECRET, self.name)

    @property
    def access_token_lifetime(self) -> timedelta:
        """Life of its access tokens."""
        return timedelta(seconds=self.access_token_lifetime_seconds)


def _of(name: str, given: dict[str, Any]) -> str:
    return names.of_registry(name, given.get("name", names.DEFAULT_REGISTRY))


class Registries(Model):
    """All registries of a release; one of them is `default`. Iterates over them in the order of the file."""

    model_config = ConfigDict(extra="forbid")

    registries: Annotated[tuple[Registry, ...], Field(max_length=MAX_REGISTRIES)]

    @model_validator(mode="after")
    def _each_on_its_own(self) -> Self:
        _once("name", (registry.name for registry in self))
        _once("service", (registry.service for registry in self))
        _once("host", (host for registry in self for host in registry.hosts))
        # Two that trust the same key would take each other's tokens.
        _once("caSecret", (registry.ca_secret for registry in self))
        _once("trustConfigMap", (registry.trust_config_map for registry in self))
        if self.named(names.DEFAULT_REGISTRY) is None:
            raise PydanticCustomError("default", "one registry must have the name default")
        return self

    def __iter__(self) -> Iterator[Registry]:  # type: ignore[override]
        return iter(self.registries)

    @cached_property
    def _by_name(self) -> dict[str, Registry]:
        return {registry.name: registry for registry in self}

    @cached_property
    def _by_service(self) -> dict[str, Registry]:
        return {registry.service: registry for registry in self}

    @cached_property
    def _by_signing_secret(self) -> dict[str, Registry]:
        return {registry.signing_secret: registry for registry in self}

    @property
    def default(self) -> Registry:
        """The one that a ScopeMap is for, and a client means, unless they say otherwise."""
        return self._by_name[names.DEFAULT_REGISTRY]

    @property
    def known(self) -> tuple[str, ...]:
        """Their names, in the order of the file."""
        return tuple(self._by_name)

    def named(self, name: str) -> Registry | None:
        """The registry of that name."""
        return self._by_name.get(name)

    def of_service(self, service: str) -> Registry | None:
        """The registry with that service name."""
        return self._by_service.get(service)

    def of_signing_secret(self, name: str) -> Registry | None:
        """The registry whose leaf is in the Secret of that name."""
        return self._by_signing_secret.get(name)


def _once(what: str, values: Iterable[str]) -> None:
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise PydanticCustomError(
                "twice", "the {what} {value} stands twice; each registry has its own", {"what": what, "value": value}
            )
        seen.add(value)


def load(path: Path) -> Registries:
    """Reads the file, which is JSON. Raises RegistriesError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise RegistriesError(f"the registries cannot be read from {path}: {reason}") from None
    try:
        return Registries.model_validate_json(text)
    except ValidationError as error:
        wrong = "; ".join(
            f"{_place(found['loc'])}{found['msg'][:1].lower()}{found['msg'][1:]}"
            for found in error.errors(include_url=False, include_input=False)
            if found["type"] != "default_factory_not_called"  # it only follows from another
        )
        raise RegistriesError(f"{path} cannot be used: {wrong}") from None


def _place(location: tuple[int | str, ...]) -> str:
    """Where in the file, as people write paths: `registries[1].hosts[0]: `."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}"
    return f"{text.removeprefix('.')}: " if text else ""
