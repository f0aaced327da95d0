"""Every client, every operation, every set of rights, at each version of the registry.

Behind the token server an operation that is allowed gives what it gives on an open registry. One that is not
allowed changes nothing, and the client says so in words that a person understands.
"""

from collections.abc import Callable

import pytest

from tests.clients.client import RefusedError
from tests.contract.clients.stage import ACTIONS, ALLOWED, CLIENTS, VERSIONS, WITHOUT_ENGINE, Stage

Test = Callable[..., None]


def cells(operation: str) -> Callable[[Test], Test]:
    """One test for each version, client that has the operation, and set of rights."""
    return pytest.mark.parametrize(
        ("version", "client", "rights"),
        [
            pytest.param(version, name, rights, id=f"{version}-{name}-{rights}")
            for version in VERSIONS
            for name in WITHOUT_ENGINE
            if CLIENTS[name].can(operation)
            for rights in ACTIONS
        ],
    )


def check(stage: Stage, operation: str, version: str, client: str, rights: str) -> None:
    registry, user = stage.registry(version, True), stage.user(version, client, rights)
    stage.prepare(registry, client, operation, rights)
    if rights in ALLOWED[operation]:
        assert stage.perform(registry, user, operation, rights) == stage.expected(version, client, operation)
        return
    before = registry.tree()
    with pytest.raises(RefusedError) as refusal:
        stage.perform(registry, user, operation, rights)
    assert user.words(operation, rights) in str(refusal.value)
    assert registry.tree() == before


@cells("login")
def test_login(stage: Stage, version: str, client: str, rights: str) -> None:
    """Whoever has a password that works can log in, also with no rights at all."""
    check(stage, "login", version, client, rights)


@cells("pull")
def test_pull(stage: Stage, version: str, client: str, rights: str) -> None:
    check(stage, "pull", version, client, rights)


@cells("push")
def test_push(stage: Stage, version: str, client: str, rights: str) -> None:
    check(stage, "push", version, client, rights)


@cells("mount")
def test_mount(stage: Stage, version: str, client: str, rights: str) -> None:
    check(stage, "mount", version, client, rights)


@cells("tags")
def test_tags(stage: Stage, version: str, client: str, rights: str) -> None:
    """Distribution shows tags to whoever may pull, with metadata/read or without."""
    check(stage, "tags", version, client, rights)


@cells("catalog")
def test_catalog(stage: Stage, version: str, client: str, rights: str) -> None:
    """A ScopeMap cannot grant the list of all repositories, not even by a wildcard."""
    assert stage.expected(version, client, "catalog")
    check(stage, "catalog", version, client, rights)


@cells("delete")
def test_delete(stage: Stage, version: str, client: str, rights: str) -> None:
    check(stage, "delete", version, client, rights)


@cells("referrers")
def test_referrers(stage: Stage, version: str, client: str, rights: str) -> None:
    """Neither version has the API for it: the clients read the list that is kept under a tag."""
    check(stage, "referrers", version, client, rights)
