"""Login, pull, push and delete with skopeo and crane: every action where it is granted, and where not."""

import secrets
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.clients.client import Client, RefusedError
from tests.clients.containers import Skopeo
from tests.clients.content import Content
from tests.clients.crane import Crane
from tests.cluster import images
from tests.cluster.install import Release
from tests.e2e.exposure import Exposure
from tests.e2e.tenant import Tenant
from tests.e2e.tokens import Credentials

MAPS = {
    "read": ["content/read"],
    "read-write": ["content/read", "content/write"],
    "read-delete": ["content/read", "content/delete"],
    "write": ["content/write"],
    "delete": ["content/delete"],
    "metadata": ["metadata/read", "metadata/write"],
}
WORDS = {
    "content/read": "pull",
    "content/write": "push",
    "content/delete": "delete",
    "metadata/read": "metadata_read",
    "metadata/write": "metadata_write",
}


@pytest.fixture(scope="module")
def team(release: Release, exposure: Exposure) -> Iterator[Tenant]:
    """A namespace with one token for each of MAPS, on `matrix/*`."""
    tenant = Tenant(release, f"clients-{secrets.token_hex(2)}")
    tenant.create()
    for name, actions in MAPS.items():
        tenant.scope_map(name, ["matrix/*"], actions)
        tenant.token(name, name)
    tenant.ready(*MAPS)
    yield tenant
    exposure.keep(tenant.namespace)
    tenant.delete()


@pytest.fixture(scope="module")
def hello(tmp_path_factory: pytest.TempPathFactory) -> Content:
    """An image that nobody has pushed."""
    return Content.of_archive(images.hello("2"), tmp_path_factory.mktemp("hello") / "layout")


@pytest.fixture(params=[Skopeo, Crane])
def client(team: Tenant, release: Release, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Client]:
    """Log a client in with the token of that map."""

    def logged_in(name: str) -> Client:
        made: Client = request.param(release.registry, team.credentials(f"{name}-pull"), tmp_path / name, release.trust)
        made.login()
        return made

    return logged_in


@pytest.mark.parametrize(("name", "allowed"), MAPS.items())
def test_access_tokens_carry_what_the_map_grants(team: Tenant, name: str, allowed: list[str]) -> None:
    asked = ",".join(WORDS.values())
    answer = team.login(team.credentials(f"{name}-pull"), f"repository:matrix/app:{asked}")
    assert answer.access == {"matrix/app": {WORDS[action] for action in allowed}}


@pytest.mark.parametrize("name", MAPS)
def test_pull_push_and_delete(
    name: str, client: Callable[[str], Client], publish: Callable[..., None], hello: Content
) -> None:
    actions = MAPS[name]
    # Of its own: a client that finds its image already there pushes nothing, and so is not refused.
    repository = f"matrix/{secrets.token_hex(3)}"
    publish(f"{repository}:1")
    user = client(name)
    attempt(user.pull, f"{repository}:1", allowed="content/read" in actions)
    pushes = {"content/read", "content/write"} <= set(actions)
    attempt(lambda image: user.push(hello, image), f"{repository}:2", allowed=pushes)
    # Both clients look the digest up first, so that deleting needs reading.
    deletes = {"content/read", "content/delete"} <= set(actions)
    attempt(user.delete, f"{repository}:1", allowed=deletes)


def test_a_push_makes_a_repository_within_the_wildcard_and_none_outside(
    client: Callable[[str], Client], hello: Content
) -> None:
    user = client("read-write")
    new = f"matrix/new-{secrets.token_hex(3)}/deep/app:1"
    user.push(hello, new)
    user.pull(new)
    for outside in ("matrix:1", "matrixes/app:1", "other/matrix/app:1"):
        attempt(lambda image: user.push(hello, image), outside, allowed=False)
        attempt(user.pull, outside, allowed=False)


def test_a_wrong_password_logs_in_nowhere(team: Tenant, release: Release, tmp_path: Path) -> None:
    right = team.credentials("read-pull")
    other = team.credentials("write-pull")
    wrong = {
        "changed": Credentials(right.username, right.password[:-1] + "0"),
        "of-another": Credentials(right.username, other.password),
        "user": Credentials(f"{team.namespace}.nobody", right.password),
    }
    for name, credentials in wrong.items():
        with pytest.raises(RefusedError):
            Skopeo(release.registry, credentials, tmp_path / name, release.trust).login()


def test_the_catalog_is_nobody_s(publisher: Tenant, release: Release, tmp_path: Path) -> None:
    crane = Crane(release.registry, publisher.credentials("publisher-pull"), tmp_path, release.trust)
    crane.login()
    with pytest.raises(RefusedError):
        crane.catalog()


def attempt(action: Callable[[str], object], image: str, *, allowed: bool) -> None:
    if allowed:
        action(image)
    else:
        with pytest.raises(RefusedError):
            action(image)
