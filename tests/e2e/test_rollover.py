"""A CA is replaced by `pullpass keys` in the operator's pod, while pods pull and customers log in; none is refused."""

import json
import secrets
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography import x509

from pullpass.signing.certificates import issued_by
from tests.cluster.install import CREDENTIALS_NAMESPACE, NAMESPACE, OPERATOR, REGISTRY, Release
from tests.e2e.customers import shopping
from tests.e2e.exposure import Exposure
from tests.e2e.tenant import Tenant
from tests.e2e.tokens import Credentials, pull_status
from tests.e2e.waiting import until

TRUST = "pullpass-trust"
IMAGE = "team/app:1"
SCOPE = "repository:team/app:pull"
PAUSE = 0.1
"""Seconds between two pulls of a puller."""
USED = 20.0
"""Seconds for which a puller uses an access token; they live a minute here."""


@pytest.fixture(scope="module")
def tenant(release: Release, exposure: Exposure) -> Iterator[Tenant]:
    made = Tenant(release, f"rollover-{secrets.token_hex(2)}")
    made.create()
    made.scope_map("read", ["team/app"])
    made.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    made.ready("reader")
    yield made
    exposure.keep(made.namespace)
    made.delete()


@pytest.fixture(scope="module")
def reader(tenant: Tenant) -> Credentials:
    return tenant.credentials("reader-pull")


class Puller:
    """Logs in and pulls a manifest again and again, with the newest access token and with one of a while ago."""

    def __init__(self, tenant: Tenant, credentials: Credentials) -> None:
        self._tenant = tenant
        self._credentials = credentials
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._pull)
        self.statuses: Counter[int] = Counter()
        """How often which status was seen; 0 is a registry that is away, 404 one that starts with nothing in it."""
        self.refused: list[str] = []
        """What is known of each pull that was refused."""
        self.error: BaseException | None = None

    def _pull(self) -> None:
        held: list[tuple[float, str]] = []
        try:
            while not self._over.wait(PAUSE):
                answer = self._tenant.login(self._credentials, SCOPE)
                assert answer.accepted
                held = [
                    *((since, one) for since, one in held if time.monotonic() < since + USED),
                    (time.monotonic(), answer.token),
                ]
                for since, access_token in (held[-1], held[0]):
                    status = self._status(access_token)
                    self.statuses[status] += 1
                    if status not in (200, 404, 0):
                        kid = jwt.get_unverified_header(access_token)["kid"]
                        age = time.monotonic() - since
                        self.refused.append(f"HTTP {status}, access token {age:.1f} s old, key {kid}, at {time.time()}")
        except BaseException as error:
            self.error = error

    def _status(self, access_token: str) -> int:
        try:
            return pull_status(self._tenant.release, IMAGE, access_token)
        except OSError:
            return 0

    def go_on(self) -> None:
        """Wait until some more pulls have succeeded. Raises what has stopped it."""
        before = self.statuses[200]

        def served() -> bool:
            if self.error:
                raise self.error
            return self.statuses[200] > before + 5

        until(served, "pulls succeed")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._over.set()
        self._thread.join(timeout=60)


@contextmanager
def pulling(tenant: Tenant, credentials: Credentials) -> Iterator[Puller]:
    puller = Puller(tenant, credentials)
    puller.start()
    try:
        puller.go_on()
        yield puller
        puller.go_on()
    finally:
        puller.stop()
        print(f"pulls by status: {dict(puller.statuses)}")


def keys(release: Release, *arguments: str, check: bool = True) -> "subprocess.CompletedProcess[str]":
    """`pullpass keys …` as docs/security.md has it, for one of the release's registries."""
    pod = (f"deploy/{OPERATOR}", "-n", NAMESPACE)
    command = ("exec", *pod, "--", "pullpass", "keys", *arguments, "--registry", "default")
    return release.cluster.kubectl(*command, check=check)


def restart(release: Release, deployment: str) -> None:
    release.cluster.kubectl("rollout", "restart", f"deployment/{deployment}", "-n", NAMESPACE)
    release.cluster.kubectl("rollout", "status", f"deployment/{deployment}", "-n", NAMESPACE, "--timeout=120s")


def reload(release: Release, publish: Callable[..., None]) -> None:
    """Restart the registry, so that it loads the bundle; this one also forgets its images."""
    restart(release, REGISTRY)

    def there() -> bool:
        try:
            return pull_status(release, IMAGE, "none") == 401
        except OSError:
            return False

    until(there, "the registry is back")
    publish(IMAGE, "other/app:1")


def bundle(release: Release) -> list[x509.Certificate]:
    found = release.cluster.kubectl("get", "configmap", TRUST, "-n", NAMESPACE, "-o", "json").stdout
    return x509.load_pem_x509_certificates(json.loads(found)["data"]["ca.crt"].encode())


def signed_by(tenant: Tenant, credentials: Credentials, ca: x509.Certificate) -> bool:
    """Whether what the token server issues now is of a leaf of this CA."""
    header = jwt.get_unverified_header(tenant.login(credentials, SCOPE).token)
    leaf = "-----BEGIN CERTIFICATE-----\n" + header["x5c"][0] + "\n-----END CERTIFICATE-----\n"
    return issued_by(x509.load_pem_x509_certificate(leaf.encode()), ca)


def end_afterglow(release: Release) -> None:
    """As if the hour had passed: the date in the ConfigMap is over, and the operator looks at it anew."""
    kubectl = release.cluster.kubectl
    found = json.loads(kubectl("get", "configmap", TRUST, "-n", NAMESPACE, "-o", "json").stdout)
    told = json.loads(found["data"]["authorities.json"])
    for one in told:
        if "until" in one:
            one["until"] = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    body = json.dumps({"data": {"authorities.json": json.dumps(told)}})
    kubectl("patch", "configmap", TRUST, "-n", NAMESPACE, "--type=merge", "--patch", body)
    restart(release, OPERATOR)


def test_a_ca_is_replaced_step_by_step_and_nobody_is_refused(
    release: Release, tenant: Tenant, reader: Credentials, published: str, publish: Callable[..., None]
) -> None:
    (old,) = bundle(release)
    assert "step none" in keys(release, "status").stdout
    with shopping(release, lambda: reader) as crowd, pulling(tenant, reader) as puller:
        tenant.pod("before", published)
        tenant.runs("before")

        assert "step prepared" in keys(release, "replace-ca").stdout
        _, new = bundle(release)
        early = keys(release, "switch-ca", check=False)
        assert early.returncode == 1
        assert "have every registry load it, and then switch" in early.stderr
        reload(release, publish)
        puller.go_on()
        tenant.pod("prepared", published)
        tenant.runs("prepared")
        assert signed_by(tenant, reader, old)

        until(lambda: not keys(release, "switch-ca", check=False).returncode, "it switches", timeout=150, every=5)
        until(lambda: signed_by(tenant, reader, new), "the new CA signs")
        switched = time.monotonic()
        assert "step leaving" in keys(release, "status").stdout
        puller.go_on()
        tenant.pod("switched", published)
        tenant.runs("switched")
        # A registry may start again at any time, also in this hour.
        reload(release, publish)
        puller.go_on()

        # In that hour all access tokens end that the old CA stands for. The puller uses one for USED seconds.
        until(lambda: time.monotonic() > switched + USED + 5, "no access token of the old CA is in use")
        end_afterglow(release)
        until(lambda: bundle(release) == [new], "the old CA leaves the bundle")
        reload(release, publish)
        puller.go_on()
        tenant.pod("after", published)
        tenant.runs("after")
    assert "step none" in keys(release, "status").stdout
    assert crowd.refused == []
    assert crowd.broken == []
    assert puller.refused == []


def test_a_leaked_ca_is_out_at_once(
    release: Release, tenant: Tenant, reader: Credentials, published: str, publish: Callable[..., None]
) -> None:
    (old,) = bundle(release)
    before = tenant.login(reader, SCOPE).token
    assert pull_status(release, published, before) == 200
    said = keys(release, "replace-ca", "--at-once").stdout
    assert "Pulls fail at every registry until it has loaded ConfigMap pullpass-system/pullpass-trust" in said
    (new,) = bundle(release)
    assert new != old
    until(lambda: signed_by(tenant, reader, new), "the new CA signs")
    assert pull_status(release, published, tenant.login(reader, SCOPE).token) == 401
    reload(release, publish)
    assert pull_status(release, published, tenant.login(reader, SCOPE).token) == 200
    assert pull_status(release, published, before) == 401
    tenant.pod("after-the-leak", published)
    tenant.runs("after-the-leak")


def test_the_leaf_s_secret_has_no_key_of_a_ca(release: Release) -> None:
    get = ("get", "secret", "pullpass-signing", "-n", CREDENTIALS_NAMESPACE, "-o", "json")
    assert set(json.loads(release.cluster.kubectl(*get).stdout)["data"]) == {"tls.crt", "tls.key", "ca.crt"}
