"""The `scope` values of a token request, read as the registry token specification and real clients write
them.

`type[(class)]:name:action[,action…]`. Clients repeat the parameter, or join several scopes with spaces in
one value, or send it empty; they ask for the same repository twice. The name may hold a colon
(`host:port/name`), so the first colon ends the type and the last one starts the actions. The class is
deprecated and ignored.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

SCOPES_PER_REQUEST = 32
"""Clients send one to three; each costs about 100 bytes in the access token."""
SCOPE_LENGTH = 512
NAME_LENGTH = 255
ACTIONS_PER_SCOPE = 16

REPOSITORY = "repository"

_TYPE = re.compile(r"([a-z0-9]+)(?:\([a-z0-9]+\))?")
_ACTION = re.compile(r"[A-Za-z0-9._-]{1,32}|\*")
"""Wider than the specification: clients of some registries use words such as `scanner-pull`."""
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(
    rf"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?:[0-9]{{1,5}}/)?{_COMPONENT}(?:/{_COMPONENT})*",
    re.ASCII,
)


class ScopeError(ValueError):
    """A scope that cannot be read; the text is for people and quotes at most its beginning."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Actions asked for on one resource, in the order asked."""

    type: str
    name: str
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.type}:{self.name}:{','.join(self.actions)}"


def parse(values: Iterable[str]) -> tuple[Scope, ...]:
    """Reads all `scope` values of one request, merged by type and name. Raises ScopeError.

    A type or an action that nothing is known of is no error: it stays in the result and is granted nothing.
    """
    merged: dict[tuple[str, str], dict[str, None]] = {}
    pieces = 0
    for value in values:
        for piece in value.split(" "):
            if not piece:
                continue
            pieces += 1
            if pieces > SCOPES_PER_REQUEST:
                raise ScopeError(f"more than {SCOPES_PER_REQUEST} scopes in one request")
            type_, name, actions = _parse_one(piece)
            merged.setdefault((type_, name), {}).update(dict.fromkeys(actions))
    for (type_, name), asked in merged.items():
        if len(asked) > ACTIONS_PER_SCOPE:
            raise ScopeError(f"more than {ACTIONS_PER_SCOPE} actions asked for on {type_} {name!r}")
    return tuple(Scope(type_, name, tuple(asked)) for (type_, name), asked in merged.items())


def _parse_one(text: str) -> tuple[str, str, list[str]]:
    if len(text) > SCOPE_LENGTH:
        raise ScopeError(f"a scope is longer than {SCOPE_LENGTH} characters")
    head, colon, rest = text.partition(":")
    name, last_colon, tail = rest.rpartition(":")
    if not colon or not last_colon:
        raise ScopeError(f"{_quoted(text)} is not a scope of the form type:name:actions")
    match = _TYPE.fullmatch(head)
    if match is None:
        raise ScopeError(f"{_quoted(head)} is not a resource type")
    if len(name) > NAME_LENGTH:
        raise ScopeError(f"a name is longer than {NAME_LENGTH} characters")
    if match[1] == REPOSITORY and name and _NAME.fullmatch(name) is None:
        raise ScopeError(f"{_quoted(name)} is not a repository name")
    actions = [action for action in tail.split(",") if action]
    for action in actions:
        if _ACTION.fullmatch(action) is None:
            raise ScopeError(f"{_quoted(action)} is not an action")
    return match[1], name, actions


def _quoted(text: str) -> str:
    """The beginning of what was sent, with everything unprintable escaped."""
    return ascii(text if len(text) <= 64 else text[:64] + "...")
