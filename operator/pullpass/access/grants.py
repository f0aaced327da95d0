"""What of a request is granted: the intersection of what was asked for and what the subject holds."""

from collections.abc import Iterable
from typing import TypedDict

from pullpass.access.actions import ANY, ORDER
from pullpass.access.repositories import Rights
from pullpass.access.scopes import REPOSITORY, Scope


class Access(TypedDict):
    """One entry of the `access` claim."""

    type: str
    name: str
    actions: list[str]


def grant(requested: Iterable[Scope], rights: Rights) -> list[Access]:
    """The access entries for a request, in the order asked, actions in a fixed order; empty grants are
    left out.

    A requested `*` stands for everything the subject holds there and is never echoed. Only repositories
    are granted: repository-scoped rights cannot list the catalog.
    """
    access: list[Access] = []
    for scope in requested:
        if scope.type != REPOSITORY:
            continue
        held = rights.on(scope.name)
        granted = held if ANY in scope.actions else held.intersection(scope.actions)
        if granted:
            actions = [word for word in ORDER if word in granted]
            access.append({"type": REPOSITORY, "name": scope.name, "actions": actions})
    return access


def scope_text(access: Iterable[Access]) -> str:
    """Granted access written as a `scope` value, for the answer to an OAuth2 request."""
    return " ".join(f"{entry['type']}:{entry['name']}:{','.join(entry['actions'])}" for entry in access)
