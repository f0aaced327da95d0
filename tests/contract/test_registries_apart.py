"""Real registries that one release serves: each takes access tokens for itself and refuses those for the other."""

import base64
import json
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pullpass.access.grants import Access
from pullpass.api.registries import Registry
from pullpass.controller.keys.signing import reconcile
from pullpass.controller.settings import OperatorSettings
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
from pullpass.signing.certificates import KeyPair, load_pair
from pullpass.signing.tokens import Signer
from pullpass.tokenserver.issuing import Issuer
from tests.contract.test_registry_accepts import REPOSITORY, VERSIONS, running, token
from tests.registries import DEFAULT, OTHER, TWO
from tests.unit.signing.memory import Memory

SETTINGS = OperatorSettings(
    namespace="release",
    credentials_namespace="credentials",
    identity="pod",
    registries=TWO,
    token_server_service="tokens",
)
ALL: list[Access] = [{"type": "repository", "name": REPOSITORY, "actions": ["pull", "push"]}]


class Keys:
    """The keys of both registries, as the operator makes them."""

    def __init__(self) -> None:
        self._kube = Memory()

    async def make(self) -> None:
        for registry in TWO:
            await reconcile(self._kube, SETTINGS, registry, datetime.now(UTC))

    def trust(self, registry: Registry) -> dict[str, str]:
        """What it is given."""
        data: dict[str, str] = self._kube.objects[CONFIG_MAPS, "release", registry.trust_config_map]["data"]
        return data

    def ca(self, registry: Registry) -> KeyPair:
        return self._pair("release", registry.ca_secret)

    def leaf(self, registry: Registry) -> KeyPair:
        return self._pair("credentials", registry.signing_secret)

    def access_token(self, registry: Registry) -> str:
        """As the token server issues it for that registry."""
        leaf = self.leaf(registry)
        signer = Signer(leaf.key_pem, leaf.certificate_pem)
        issued = Issuer(registry).issue(signer, "web.reader", ALL, datetime.now(UTC), ends_at=None, oauth=False)
        text: str = json.loads(issued.body(issued.second))["access_token"]
        return text

    def _pair(self, namespace: str, name: str) -> KeyPair:
        data = self._kube.objects[SECRETS, namespace, name]["data"]
        return load_pair(base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"]))


@pytest.fixture
async def keys() -> Keys:
    made = Keys()
    await made.make()
    return made


@pytest.mark.parametrize("version", VERSIONS)
def test_each_takes_tokens_for_itself_only(version: str, keys: Keys, tmp_path: Path) -> None:
    with ExitStack() as stack:
        for registry, other in ((DEFAULT, OTHER), (OTHER, DEFAULT)):
            directory = tmp_path / registry.name
            directory.mkdir()
            own = {"service": registry.service, "issuer": registry.issuer}
            started = stack.enter_context(running(version, keys.ca(registry), keys.trust(registry), directory, **own))
            assert started.push(keys.access_token(registry)) == 201
            assert started.pull(keys.access_token(registry)) == 200
            assert started.pull(keys.access_token(other)) == 401
            assert started.push(keys.access_token(other)) == 401


@pytest.mark.parametrize("version", VERSIONS)
def test_a_token_is_worthless_also_where_audience_and_issuer_are_those_of_the_other(
    version: str, keys: Keys, tmp_path: Path
) -> None:
    """A registry that takes the other's service and issuer for its own, or looks at neither: the key is another."""
    alike = {"service": DEFAULT.service, "issuer": DEFAULT.issuer}
    with running(version, keys.ca(OTHER), keys.trust(OTHER), tmp_path, **alike) as started:
        claims_alike = token(keys.ca(OTHER), actions=["pull", "push"], leaf=keys.leaf(OTHER))
        assert started.push(claims_alike) == 201
        assert started.pull(claims_alike) == 200
        assert started.pull(keys.access_token(DEFAULT)) == 401
        assert started.push(keys.access_token(DEFAULT)) == 401
