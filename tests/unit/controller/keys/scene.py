"""A registry's keys over an API server in memory, the registry's replicas, and what must hold after every write.

Registries are modelled as what they are: each read the bundle when it last started.
"""

import types
from collections.abc import Coroutine, Generator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from cryptography import x509

from pullpass.controller.keys.replacement import replace_ca, status, switch_ca
from pullpass.controller.keys.signing import load, reconcile
from pullpass.controller.keys.storage import encoded, files, pair_of
from pullpass.controller.settings import OperatorSettings
from pullpass.kube.client import Conflict, Kube
from pullpass.kube.resources import NAMESPACES, SECRETS, Resource
from pullpass.signing.certificates import KeyPair, issued_by
from pullpass.signing.replacement import KeyState
from pullpass.signing.trust import RETIRED_CA_GRACE
from tests.registries import DEFAULT, ONE
from tests.unit.controller.fake_api import Body, FakeApi

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
SETTINGS = OperatorSettings(
    namespace="release",
    credentials_namespace="credentials",
    identity="pod",
    registries=ONE,
    token_server_service="tokens",
)

T = TypeVar("T")
Doing = Coroutine[Any, Any, T]


@types.coroutine
def turn() -> Generator[None]:
    yield


class Line(Kube):
    """To the API server in memory, one call in each turn."""

    def __init__(self, api: FakeApi) -> None:
        self._api = api

    async def get(self, resource: Resource, namespace: str | None, name: str) -> Body:
        await turn()
        return await self._api.get(resource, namespace, name)

    async def create(self, resource: Resource, namespace: str | None, body: Body, **_: Any) -> Body:
        await turn()
        return await self._api.create(resource, namespace, body)

    async def replace(self, resource: Resource, namespace: str | None, name: str, body: Body) -> Body:
        await turn()
        return await self._api.replace(resource, namespace, name, body)


def run(doing: Doing[T]) -> T:
    """Lets it go on to its end."""
    while True:
        try:
            doing.send(None)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]


def begin(doing: Doing[Any], turns: int) -> bool:
    """Lets it go on for so many calls; whether it has ended by then."""
    try:
        for _ in range(turns + 1):  # it stands before its first call
            doing.send(None)
    except StopIteration:
        return True
    return False


class Scene:
    """A registry's keys, the replicas of the registry, and what must hold after every write."""

    def __init__(self) -> None:
        self.api = FakeApi()
        for name in ("release", "credentials"):
            self.api.put(NAMESPACES, {"metadata": {"name": name}})
        self.now = NOW
        self.leaves: list[tuple[x509.Certificate, datetime]] = []
        """Each leaf that was in use, and when it was last."""
        self.replicas: list[list[x509.Certificate]] = []
        self.distrusting = False
        self.operator()
        self.replicas = [self.bundle, self.bundle]
        self.api.after_write = self.look

    # what there is

    @property
    def bundle(self) -> list[x509.Certificate]:
        data = self.api.objects["configmaps", "release", "pullpass-trust"]["data"]
        return x509.load_pem_x509_certificates(data["ca.crt"].encode())

    @property
    def leaf(self) -> KeyPair:
        return pair_of(self.api.objects["secrets", "credentials", "pullpass-signing"])

    @property
    def ca(self) -> KeyPair:
        return pair_of(self.ca_secret)

    @property
    def state(self) -> KeyState:
        return run(load(self.api, SETTINGS, DEFAULT, self.now)).state

    @property
    def ca_secret(self) -> Body:
        return self.api.objects["secrets", "release", "pullpass-ca"]

    def look(self) -> None:
        """What always holds."""
        if self.leaves:
            self.leaves[-1] = (self.leaves[-1][0], self.now)
        if not self.leaves or self.leaves[-1][0] != self.leaf.certificate:
            self.leaves.append((self.leaf.certificate, self.now))
        for leaf, last in self.leaves:
            # What is signed under a leaf is good no longer than that.
            if self.now < min(last + RETIRED_CA_GRACE, leaf.not_valid_after_utc) and not self.distrusting:
                for replica in (*self.replicas, self.bundle):
                    assert any(issued_by(leaf, ca) for ca in replica), "a registry refuses what is signed"
        assert any(issued_by(self.leaf.certificate, ca) for ca in self.bundle)

    # what is done

    def operator(self, line: Kube | None = None) -> None:
        run(self.operator_pass(line))

    async def operator_pass(self, line: Kube | None = None) -> None:
        try:
            await reconcile(line or self.api, SETTINGS, DEFAULT, self.now)
        except Conflict:
            await reconcile(line or self.api, SETTINGS, DEFAULT, self.now)

    def replace(self, *, at_once: bool = False) -> Doing[list[str]]:
        return replace_ca(Line(self.api), SETTINGS, DEFAULT, self.now, at_once=at_once)

    def switch(self, *, at_once: bool = False) -> Doing[list[str]]:
        return switch_ca(Line(self.api), SETTINGS, DEFAULT, self.now, at_once=at_once)

    def put_ca(self, ca: KeyPair) -> None:
        """As people and cert-manager do: what there was is gone."""
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pullpass-ca", "namespace": "release"}}
        self.api.put(SECRETS, {**body, "type": "kubernetes.io/tls", "data": encoded(files(ca))})

    def delete_ca(self) -> None:
        self.api.remove(SECRETS, "release", "pullpass-ca")

    def restart_replicas(self) -> None:
        for number in range(len(self.replicas)):
            self.replicas[number] = self.bundle
            self.look()

    def pass_time(self, time: timedelta) -> None:
        self.now += time
        self.operator()
        self.look()

    def lines(self) -> str:
        return "\n".join(run(status(self.api, SETTINGS, DEFAULT, self.now)))
