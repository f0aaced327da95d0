"""What only Docker does, or what it does in its own way: logins that are kept, manifest lists, builds."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest

from tests.clients import content
from tests.clients.api import Api
from tests.clients.client import WRONG, RefusedError
from tests.clients.content import TAG, Content
from tests.clients.docker import Docker
from tests.cluster.engine import LABEL, Engine
from tests.contract.clients.realm import PUBLISHER, Login, Realm
from tests.contract.clients.registries import Registry, running
from tests.contract.clients.stage import ACTIONS, VERSIONS

pytestmark = [pytest.mark.node, pytest.mark.usefixtures("docker")]

IMAGE = f"team/app:{TAG}"
RULES = {
    "reader": [{"repositories": ["team/*"], "actions": ACTIONS["read"]}],
    "rotated": [{"repositories": ["team/*"], "actions": ACTIONS["read"]}],
    "writer": [{"repositories": ["team/*"], "actions": ACTIONS["read-write"]}],
    "elsewhere": [{"repositories": ["other/*"], "actions": ACTIONS["wildcard"]}],
}


@dataclass(frozen=True)
class Place:
    """A registry with one image, and users of it."""

    realm: Realm
    registry: Registry
    image: Content
    directory: Path

    def user(self, name: str) -> Docker:
        """Somebody who has logged in with that token."""
        made = Docker(self.registry.host, self.realm.login(name), self.directory / f"{name}-user")
        made.login()
        return made


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    directory = tmp_path_factory.mktemp("place")
    with ExitStack() as ending:
        realm = Realm(RULES)
        ending.enter_context(realm.serving())
        (directory / "registry").mkdir()
        registry = ending.enter_context(running(VERSIONS[-1], directory / "registry", realm))
        made = Place(realm, registry, content.image(directory), directory)
        Api(registry.host, realm.login(PUBLISHER)).push(made.image, IMAGE)
        yield made


@pytest.fixture
def reader(place: Place) -> Docker:
    return place.user("reader")


@pytest.fixture
def writer(place: Place) -> Docker:
    return place.user("writer")


@pytest.fixture
def build(docker: Engine, place: Place, tmp_path: Path) -> Iterator[tuple[str | Path, ...]]:
    """buildx's arguments for a build in the test's directory. What it makes is removed, but for the few bytes of build
    cache, which an engine clears by itself."""
    label = f"{LABEL}={place.registry.host}"
    yield "build", "--no-cache", f"--label={label}", tmp_path
    docker.docker("image", "prune", "--force", "--all", f"--filter=label={label}")


def test_a_login_is_kept_with_its_password(place: Place, tmp_path: Path) -> None:
    """The token server gives no refresh token that would be kept in its place, and Docker warns of that."""
    login = place.realm.login("reader")
    said = Docker(place.registry.host, login, tmp_path).say_login()
    assert "Login Succeeded" in said
    assert re.search(rf"stored unencrypted in '?{tmp_path}/config\.json", said)
    assert login.password not in said
    kept = json.loads((tmp_path / "config.json").read_text())["auths"]
    basic = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
    assert kept == {place.registry.host: {"auth": basic}}


def test_a_wrong_password_is_not_kept(place: Place, reader: Docker) -> None:
    kept = (reader.directory / "config.json").read_text()
    other = Login(place.realm.login("reader").username, place.realm.login("writer").password)
    stranger = Docker(reader.registry, other, reader.directory)
    with pytest.raises(RefusedError) as refusal:
        stranger.login()
    assert WRONG in str(refusal.value)
    assert (reader.directory / "config.json").read_text() == kept
    assert reader.pull(IMAGE) == place.image.digest


def test_nothing_is_left_after_a_logout(place: Place, reader: Docker) -> None:
    assert reader.pull(IMAGE) == place.image.digest
    reader.docker("logout", reader.registry)
    with pytest.raises(RefusedError) as refusal:
        reader.pull(IMAGE)
    assert WRONG in str(refusal.value)


def test_a_password_that_is_replaced_works_in_the_overlap_and_then_no_more(place: Place) -> None:
    old = place.user("rotated")
    successor = place.realm.rotate("rotated", timedelta(hours=1))
    assert old.pull(IMAGE) == place.image.digest
    old.login()
    new = Docker(old.registry, successor, place.directory / "successor")
    new.login()
    assert new.pull(IMAGE) == place.image.digest
    place.realm.rotate("rotated", timedelta())
    for refused in (lambda: old.pull(IMAGE), old.login):
        with pytest.raises(RefusedError) as refusal:
            refused()
        assert WRONG in str(refusal.value)
    assert new.pull(IMAGE) == place.image.digest


def test_manifest_lists(place: Place, reader: Docker, writer: Docker) -> None:
    """The command line itself asks for these, not the engine."""
    image, listed = f"team/listed:{TAG}", f"team/list:{TAG}"
    writer.push(place.image, image)
    names = [f"{writer.registry}/{name}" for name in (listed, image)]
    writer.docker("manifest", "create", "--insecure", *names)
    writer.docker("manifest", "push", "--purge", "--insecure", names[0])
    found = json.loads(reader.docker("manifest", "inspect", "--insecure", names[0]))
    [entry] = found["manifests"]
    assert reader.pull(listed)
    assert reader.pull(image) == entry["digest"]
    reader.docker("manifest", "create", "--insecure", *names)
    before = place.registry.tree()
    with pytest.raises(RefusedError, match="denied"):
        reader.docker("manifest", "push", "--insecure", names[0])
    with pytest.raises(RefusedError, match="denied"):
        place.user("elsewhere").docker("manifest", "inspect", "--insecure", names[0])
    assert place.registry.tree() == before


def test_buildx_pulls_what_an_image_is_built_from_and_pushes_it(
    place: Place, writer: Docker, build: tuple[str | Path, ...], tmp_path: Path
) -> None:
    """In a build the command line gets the access tokens, and hands them to the engine."""
    (tmp_path / "Dockerfile").write_text(f"FROM {writer.registry}/{IMAGE}\nCOPY added /\n")
    (tmp_path / "added").write_text(tmp_path.name)
    built = f"team/built:{TAG}"
    with pytest.raises(RefusedError, match="denied"):
        writer.buildx(*build, "--push", f"--tag={writer.registry}/other/built:{TAG}")
    writer.buildx(*build, "--push", f"--tag={writer.registry}/{built}")
    assert len(place.registry.content(built)) == len(place.image.blobs) + 1


def test_buildx_builds_from_no_image_that_one_may_not_pull(
    place: Place, writer: Docker, build: tuple[str | Path, ...], tmp_path: Path
) -> None:
    """Also not after somebody else who may."""
    (tmp_path / "Dockerfile").write_text(f"FROM {writer.registry}/{IMAGE}\nLABEL built=1\n")
    writer.buildx(*build)
    with pytest.raises(RefusedError):
        place.user("elsewhere").buildx(*build)
    writer.docker("logout", writer.registry)
    with pytest.raises(RefusedError):
        writer.buildx(*build)
