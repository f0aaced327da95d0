"""A password that does not work, and none at all: no client gets anything, and each one says why."""

import pytest

from tests.clients.client import RefusedError
from tests.clients.content import TAG
from tests.contract.clients.realm import Login
from tests.contract.clients.stage import VERSIONS, WITHOUT_ENGINE, Stage, repository

each = pytest.mark.parametrize(
    ("version", "client"),
    [pytest.param(version, name, id=f"{version}-{name}") for version in VERSIONS for name in WITHOUT_ENGINE],
)


@each
def test_a_wrong_password(stage: Stage, version: str, client: str) -> None:
    """It is another token's, so that it has the right form and is checked."""
    registry = stage.registry(version, True)
    login = Login(stage.realm.login("read").username, stage.realm.login("wildcard").password)
    user = stage.client(registry, client, login, f"{version}-wrong")
    stage.prepare(registry, client, "pull", "read")
    if user.login_asks and user.can("login"):
        with pytest.raises(RefusedError) as refusal:
            user.login()
        assert user.words("login", "wrong") in str(refusal.value)
    elif user.can("login"):
        user.login()
    with pytest.raises(RefusedError) as refusal:
        user.pull(f"{repository('read', client, 'pull')}:{TAG}")
    assert user.words("pull", "wrong") in str(refusal.value)


@each
def test_no_login(stage: Stage, version: str, client: str) -> None:
    registry = stage.registry(version, True)
    user = stage.client(registry, client, None, f"{version}-anonymous")
    stage.prepare(registry, client, "pull", "read")
    with pytest.raises(RefusedError) as refusal:
        user.pull(f"{repository('read', client, 'pull')}:{TAG}")
    assert user.words("pull", "anonymous") in str(refusal.value)
