"""Real registries accept what our keys sign, with one setting (`rootcertbundle`), and refuse everything else."""

import contextlib
import dataclasses
import hashlib
import http.client
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from pullpass.signing import trust
from pullpass.signing.certificates import KeyPair, new_ca, new_key, new_leaf
from pullpass.signing.jwks import thumbprint
from pullpass.signing.tokens import Signer, access_claims, new_token_id
from tests.cluster import ports, toolchain
from tests.unit.signing.authorities import given_ca

ISSUER = "pullpass"
SERVICE = "registry"
REPOSITORY = "team/app"
BLOB = b"a layer"
DIGEST = f"sha256:{hashlib.sha256(BLOB).hexdigest()}"
VERSIONS = ("2.8.2", "3.1.2")


@dataclasses.dataclass(frozen=True)
class Registry:
    """A registry that runs, and what it was told to trust."""

    port: int
    ca: KeyPair

    def ask(
        self, method: str, path: str, token: str | None, body: bytes | None = None
    ) -> tuple[int, bytes, Mapping[str, str]]:
        headers = {"Content-Type": "application/octet-stream"} if body is not None else {}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        with contextlib.closing(connection):
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read(), dict(answer.getheaders())

    def pull(self, token: str | None) -> int:
        status, content, _ = self.ask("GET", f"/v2/{REPOSITORY}/blobs/{DIGEST}", token)
        assert status != 200 or content == BLOB
        return status

    def push(self, token: str) -> int:
        status, _, headers = self.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/", token, b"")
        if status != 202:
            return status
        upload = urlsplit(headers["Location"])
        return self.ask("PUT", f"{upload.path}?{upload.query}&digest={DIGEST}", token, BLOB)[0]


def program(version: str) -> list[str]:
    """The registry of this version; Debian's is installed where nobody has done so yet."""
    if version == "3.1.2":
        return [str(toolchain.tool("registry"))]
    name = "docker-registry"
    if name in toolchain.DEBIAN:
        return [str(toolchain.tool(name))]
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"the Debian package {name} is not installed")
    return [found]


def published(ca: KeyPair, now: datetime) -> Mapping[str, str]:
    """The ConfigMap of a registry that has never had another CA."""
    return trust.contents(trust.trusted((), [ca.certificate], now), [new_leaf(ca, now).certificate], {}, now)


@contextmanager
def running(
    version: str,
    ca: KeyPair,
    bundle: Mapping[str, str],
    directory: Path,
    *,
    service: str = SERVICE,
    issuer: str = ISSUER,
) -> Iterator[Registry]:
    """A registry over these trust files, stopped in the end."""
    files = {}
    for name, content in bundle.items():
        files[name] = str(directory / name)
        (directory / name).write_text(content)
    token = {"realm": "http://localhost/token", "service": service, "issuer": issuer}
    token["rootcertbundle"] = files[trust.BUNDLE_KEY]
    if version.startswith("3") and trust.JWKS_KEY in files:
        token["jwks"] = files[trust.JWKS_KEY]
    port = ports.free()
    config = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(directory / "storage")}},
        "http": {"addr": f"127.0.0.1:{port}", "secret": "of this test"},
        "auth": {"token": token},
    }
    (directory / "config.yml").write_text(json.dumps(config))
    log = directory / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*program(version), "serve", directory / "config.yml"],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            env={"OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        registry = Registry(port, ca)
        wait_for(registry, process, log)
        yield registry
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(registry: Registry, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while True:
        try:
            status = registry.ask("GET", "/v2/", None)[0]
        except OSError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        else:
            assert status == 401
            return


@pytest.fixture(scope="module", params=VERSIONS)
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry that got its trust files once, with a blob in it."""
    now = datetime.now(UTC)
    ca = new_ca(now)
    bundle = published(ca, now)
    with running(request.param, ca, bundle, tmp_path_factory.mktemp("registry")) as started:
        assert started.push(token(ca, actions=["pull", "push"])) == 201
        yield started


def token(ca: KeyPair, *, actions: list[str] | None = None, leaf: KeyPair | None = None, **changed: Any) -> str:
    """An access token to pull, as a leaf of this CA signs it now."""
    now = datetime.now(UTC)
    leaf = leaf or new_leaf(ca, now)
    given = {
        "issuer": ISSUER,
        "service": SERVICE,
        "subject": "web.reader",
        "access": [{"type": "repository", "name": REPOSITORY, "actions": actions or ["pull"]}],
        "now": now,
        "lifetime": timedelta(seconds=300),
        "token_id": new_token_id(),
    }
    claims = access_claims(**{**given, **changed})
    return Signer(leaf.key_pem, leaf.certificate_pem).sign(claims)


def test_a_token_opens_what_it_names_and_nothing_else(registry: Registry) -> None:
    pull = token(registry.ca)
    assert registry.pull(pull) == 200
    assert registry.ask("GET", "/v2/", pull)[0] == 200
    assert registry.push(pull) == 401
    assert registry.ask("GET", "/v2/team/other/tags/list", pull)[0] == 401
    assert registry.pull(None) == 401


def test_a_token_without_access_only_logs_in(registry: Registry) -> None:
    login = token(registry.ca, access=[])
    assert registry.ask("GET", "/v2/", login)[0] == 200
    assert registry.pull(login) == 401


def test_renewed_leaves_are_accepted_without_a_restart(registry: Registry) -> None:
    now = datetime.now(UTC)
    for _ in range(3):
        assert registry.pull(token(registry.ca, leaf=new_leaf(registry.ca, now))) == 200


REFUSED: dict[str, Callable[[KeyPair, datetime], str]] = {
    "expired": lambda ca, now: token(ca, now=now - timedelta(minutes=10)),
    "not yet valid": lambda ca, now: token(ca, now=now + timedelta(minutes=10)),
    "wrong audience": lambda ca, now: token(ca, service="another"),
    "wrong issuer": lambda ca, now: token(ca, issuer="another"),
    "foreign CA": lambda ca, now: token(ca, leaf=new_leaf(new_ca(now), now)),
    "foreign key": lambda ca, now: signed_by_a_foreign_key(token(ca)),
    "expired leaf": lambda ca, now: token(ca, leaf=new_leaf(ca, now - timedelta(days=91))),
    "certificate of a leaf": lambda ca, now: token(ca, leaf=new_leaf(new_leaf(ca, now), now)),
    "no signature": lambda ca, now: token(ca).rpartition(".")[0] + ".",
}


def signed_by_a_foreign_key(good: str) -> str:
    """The trusted leaf's certificate over a signature that its key did not make."""
    headers = jwt.get_unverified_header(good)
    claims = jwt.decode(good, options={"verify_signature": False})
    return jwt.encode(claims, new_key(), algorithm="ES256", headers=headers)


@pytest.mark.parametrize("what", REFUSED)
def test_other_tokens_are_refused(registry: Registry, what: str) -> None:
    assert registry.pull(token(registry.ca)) == 200
    assert registry.pull(REFUSED[what](registry.ca, datetime.now(UTC))) == 401


GIVEN: dict[str, Callable[[datetime], KeyPair]] = {
    "RSA": lambda now: given_ca(now, rsa.generate_private_key(65537, 2048), cert_sign=True),
    "P-384": lambda now: given_ca(now, ec.generate_private_key(ec.SECP384R1())),
    "intermediate": lambda now: given_ca(now, new_key(), issuer=new_ca(now), cert_sign=True),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", GIVEN)
def test_a_ca_that_people_bring_is_accepted(version: str, kind: str, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ca = GIVEN[kind](now)
    bundle = published(ca, now)
    with running(version, ca, bundle, tmp_path) as started:
        assert started.push(token(ca, actions=["pull", "push"])) == 201
        assert started.pull(token(ca)) == 200
        assert started.pull(token(new_ca(now))) == 401


def test_the_registry_computes_the_same_key_id(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    ca = new_ca(now)
    leaf = new_leaf(ca, now)
    assert isinstance(leaf.key, ec.EllipticCurvePrivateKey)
    claims = jwt.decode(token(ca, leaf=leaf), options={"verify_signature": False})
    by_id = jwt.encode(claims, leaf.key, "ES256", headers={"kid": thumbprint(leaf.key.public_key())})
    with running("3.1.2", ca, {trust.BUNDLE_KEY: leaf.certificate_pem.decode()}, tmp_path) as started:
        assert started.ask("GET", "/v2/", by_id)[0] == 200
        unknown = jwt.encode(claims, leaf.key, "ES256", headers={"kid": "unknown"})
        assert started.ask("GET", "/v2/", unknown)[0] == 401
