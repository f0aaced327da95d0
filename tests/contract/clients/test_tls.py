"""Every client against both versions of the registry, where registry and token server speak TLS.

What rights mean is the matter of the matrix; here it is that each client gets through, and only to whom it trusts.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from tests.certificates import Mount
from tests.clients import content
from tests.clients.client import Client, RefusedError
from tests.clients.content import CHART, TAG
from tests.clients.ctr import Ctr2, containerd
from tests.contract.clients.realm import LOOPBACK, Realm
from tests.contract.clients.registries import Registry, running
from tests.contract.clients.stage import ACTIONS, CLIENTS, VERSIONS, WITHOUT_ENGINE

READ = [{"repositories": ["*"], "actions": ACTIONS["read"]}]
IMAGE = f"tls/{CHART}:{TAG}"
"""What everybody pulls; whoever pushes has one of their own."""


class Secure:
    """Realm and registries behind one CA at an address of this machine, and clients that trust it or another."""

    def __init__(self, directory: Path, ending: ExitStack, address: str = LOOPBACK) -> None:
        self._directory = directory
        self.mount = Mount(self._new("mount"))
        self.mount.renew(address, "localhost")
        self.stranger = Mount(self._new("stranger"))
        self.realm = Realm({"read": READ}, self.mount, address)
        ending.enter_context(self.realm.serving())
        self.contents = {"image": content.image(directory), "chart": content.chart(directory)}
        self.registry: Callable[[str], Registry] = cache(
            lambda version: ending.enter_context(running(version, self._new(version), self.realm))
        )
        self._containerd: Callable[[str], Path] = cache(
            lambda program: ending.enter_context(containerd(program, self._new(program.replace("/", "_"))))
        )

    def client(self, version: str, name: str, user: str, trusted: Mount | None = None) -> Client:
        kind = CLIENTS[name]
        if issubclass(kind, Ctr2):
            kind.socket = self._containerd(kind.daemon)
        made = kind(
            self.registry(version).host,
            self.realm.login(user),
            self._directory / f"{name}-{version}-{user}-{'other' if trusted else 'own'}",
            (trusted or self.mount).directory / "ca.crt",
        )
        if made.can("login") and trusted is None:
            made.login()
        return made

    def _new(self, name: str) -> Path:
        made = self._directory / name
        made.mkdir()
        return made


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secure]:
    with ExitStack() as ending:
        yield Secure(tmp_path_factory.mktemp("tls"), ending)


@pytest.mark.parametrize("client", WITHOUT_ENGINE)
@pytest.mark.parametrize("version", VERSIONS)
def test_login_push_and_pull(secure: Secure, version: str, client: str) -> None:
    publisher, reader = (secure.client(version, client, user) for user in ("publisher", "read"))
    given = secure.contents[publisher.takes]
    image = f"{client}/{CHART}:{TAG}"
    publisher.push(given, image)
    reader.pull(image)
    with pytest.raises(RefusedError):
        reader.push(given, f"refused/{client}/{CHART}:{TAG}")


@pytest.mark.parametrize("client", WITHOUT_ENGINE)
def test_who_does_not_trust_the_ca_sends_no_password(secure: Secure, client: str) -> None:
    version = VERSIONS[-1]
    stranger = secure.client(version, client, "read", secure.stranger)
    with pytest.raises((RuntimeError, OSError), match=r"(?i)certificate"):
        stranger.pull(IMAGE)
