"""Where the matrix is played: the registries, the users at them, and what each operation gives when nobody asks."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.clients import content
from tests.clients.api import Api
from tests.clients.client import Client, Credentials
from tests.clients.containers import Buildah, DebianBuildah, Podman, Skopeo
from tests.clients.content import TAG, Content, blobs_of
from tests.clients.crane import Crane
from tests.clients.ctr import Ctr1, Ctr2, containerd
from tests.clients.docker import Docker
from tests.clients.helm import Helm3, Helm4
from tests.clients.oras import Oras
from tests.clients.regctl import Regctl

from .realm import PUBLISHER, Realm
from .registries import PROGRAMS, Registry, running

VERSIONS = tuple(PROGRAMS)
CLIENTS: dict[str, type[Client]] = {
    client.name: client
    for client in (
        Docker,
        Ctr1,
        Ctr2,
        Skopeo,
        Podman,
        DebianBuildah,
        Buildah,
        Crane,
        Regctl,
        Oras,
        Helm3,
        Helm4,
    )
}
WITHOUT_ENGINE = tuple(name for name in CLIENTS if name != Docker.name)
"""Docker is tested in a module of its own: among the tests with a cluster, of which some end the engine."""
ACTIONS = {
    "none": [],
    "read": ["content/read"],
    "read-write": ["content/read", "content/write"],
    "read-delete": ["content/read", "content/delete"],
    "wildcard": ["content/read", "content/write", "content/delete", "metadata/read", "metadata/write"],
}
"""The actions by set of rights; `wildcard` has them on a pattern, the others on names."""
ALLOWED = {
    "login": {*ACTIONS},
    "pull": {*ACTIONS} - {"none"},
    "push": {"read-write", "wildcard"},
    "mount": {"read-write", "wildcard"},
    "tags": {*ACTIONS} - {"none"},
    "catalog": set[str](),
    "delete": {"read-delete", "wildcard"},
    "referrers": {*ACTIONS} - {"none"},
}
"""Which rights an operation needs on CNCF Distribution, whatever the client."""
BASE = "base"
"""What images are mounted from."""


def repository(rights: str, client: str, operation: str) -> str:
    """One for each cell of the matrix: a client that finds its image there already is not refused."""
    return f"{rights}/{client}-{operation}/{content.CHART}"


def rules(rights: str) -> list[dict[str, Any]]:
    """The rules of the ScopeMap for these rights."""
    if rights == "wildcard":
        return [{"repositories": [f"{rights}/*"], "actions": ACTIONS[rights]}]
    if rights == "none":
        return [{"repositories": ["elsewhere/app"], "actions": ACTIONS["wildcard"]}]
    names = [repository(rights, client, operation) for client in (*CLIENTS, Api.name) for operation in ALLOWED]
    return [{"repositories": [f"{rights}/{BASE}", *names], "actions": ACTIONS[rights]}]


class Stage:
    """Starts what is asked for, once."""

    def __init__(self, realm: Realm, directory: Path, ending: ExitStack) -> None:
        self.realm = realm
        self._directory = directory
        self._ending = ending
        image, chart = content.image(directory), content.chart(directory)
        self.contents = {"image": image, "chart": chart}
        self.referrer = content.referrer(image)
        self.registry = functools.cache(self._registry)
        self.user = functools.cache(self._user)
        self.expected = functools.cache(self._expected)
        self._containerd = functools.cache(self._start_containerd)

    def _registry(self, version: str, guarded: bool) -> Registry:
        directory = self._new(f"{'guarded' if guarded else 'open'}-{version}")
        return self._ending.enter_context(running(version, directory, self.realm if guarded else None))

    def _user(self, version: str, name: str, rights: str) -> Client:
        """The client at the guarded registry, logged in with the token of these rights."""
        client = self.client(self.registry(version, True), name, self.realm.login(rights), f"{version}-{rights}")
        if client.can("login"):
            client.login()
        return client

    def client(self, registry: Registry, name: str, credentials: Credentials | None, directory: str) -> Client:
        client = CLIENTS[name]
        if issubclass(client, Ctr2):
            client.socket = self._containerd(client.daemon)
        return client(registry.host, credentials, self._directory / f"{name}-{directory}")

    def _expected(self, version: str, name: str, operation: str) -> Any:
        """What the operation gives on the open registry of this version, to a client that has not logged in."""
        registry = self.registry(version, False)
        credentials = self.realm.login("wildcard") if operation == "login" else None
        client = self.client(registry, name, credentials, f"{version}-open-{operation}")
        self.prepare(registry, name, operation, "wildcard")
        result = self.perform(registry, client, operation, "wildcard")
        given = self.contents[client.takes]
        blobs = blobs_of(given.manifest)
        known = {
            "pull": given.digest,
            "mount": (blobs, [201] * _mounted(client, given)),
            "tags": [TAG],
            "catalog": True,
            "delete": [],
            "referrers": [self.referrer.digest],
        }
        assert result == known.get(operation, result)
        return result

    def prepare(self, registry: Registry, name: str, operation: str, rights: str) -> None:
        """Put into the registry what the operation needs."""
        publisher = Api(registry.host, self.realm.login(PUBLISHER))
        given = self.contents[CLIENTS.get(name, Client).takes]
        target = f"{repository(rights, name, operation)}:{TAG}"
        if operation == "mount":
            publisher.push(given, f"{rights}/{BASE}:{TAG}")
        elif operation not in ("login", "push"):
            publisher.push(given, target)
        if operation == "referrers":
            publisher.attach(self.referrer, target)

    def perform(self, registry: Registry, client: Client, operation: str, rights: str) -> Any:
        """Do it, and return what came of it. Raises RefusedError."""
        place = repository(rights, client.name, operation)
        image = f"{place}:{TAG}"
        given = self.contents[client.takes]

        def push() -> Any:
            client.push(given, image)
            return registry.content(image)

        def mount() -> Any:
            client.mount(f"{rights}/{BASE}:{TAG}", image)
            return registry.content(image), registry.mounts(place, _mounted(client, given))

        def delete() -> Any:
            client.delete(image)
            return registry.manifests(place)

        does: dict[str, Callable[[], Any]] = {
            "login": client.login,
            "pull": lambda: client.pull(image),
            "push": push,
            "mount": mount,
            "tags": lambda: client.tags(place),
            "catalog": lambda: place in client.catalog(),
            "delete": delete,
            "referrers": lambda: client.referrers(image),
        }
        return does[operation]()

    def _start_containerd(self, program: str) -> Path:
        return self._ending.enter_context(containerd(program, self._new(program.replace("/", "_"))))

    def _new(self, name: str) -> Path:
        made = self._directory / name
        made.mkdir()
        return made


def _mounted(client: Client, given: Content) -> int:
    """How many blobs the client mounts."""
    config, *layers = blobs_of(given.manifest)
    return len([config, *layers] if client.mounts_config else layers)


@contextmanager
def stage(directory: Path) -> Iterator[Stage]:
    """All of it, and its end."""
    with ExitStack() as ending:
        realm = Realm({rights: rules(rights) for rights in ACTIONS})
        ending.enter_context(realm.serving())
        yield Stage(realm, directory, ending)
