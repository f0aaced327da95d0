"""Both servers over TLS: what is spoken, and a certificate that is replaced while everybody logs in."""

import base64
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pullpass.signing.certificates import KeyPair, load_pair, new_server_certificate
from tests.cluster.install import NAMESPACE, REGISTRY, TOKEN_SERVER, Release
from tests.e2e.customers import shopping
from tests.e2e.tenant import Tenant
from tests.e2e.waiting import until

CA = "pullpass-server-ca"
SELECTOR = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=token-server")
BROUGHT = "brought-tls"


def secret(release: Release, name: str) -> dict[str, bytes]:
    found = json.loads(release.cluster.kubectl("get", "secret", name, "-n", NAMESPACE, "-o", "json").stdout)
    return {key: base64.b64decode(content) for key, content in found["data"].items()}


def put(release: Release, name: str, pair: KeyPair, ca: bytes, kind: str = "kubernetes.io/tls") -> None:
    """Writes a certificate into a Secret, as cert-manager does."""
    files = {"tls.crt": pair.certificate_pem, "tls.key": pair.key_pem, "ca.crt": ca}
    data = {key: base64.b64encode(content).decode() for key, content in files.items()}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "data": data}
    release.cluster.kubectl(
        "apply", "--server-side", "--force-conflicts", "-n", NAMESPACE, "-f", "-", input=json.dumps(body)
    )


def certificate(release: Release, *hosts: str) -> tuple[KeyPair, bytes]:
    """A new certificate of the release's server CA, for the hosts or for the names that it has now."""
    files = secret(release, CA)
    ca = load_pair(files["tls.crt"], files["tls.key"])
    now = x509.load_pem_x509_certificate(secret(release, f"{TOKEN_SERVER}-tls")["tls.crt"])
    names = now.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return new_server_certificate(ca, hosts or names.get_values_for_type(x509.DNSName), datetime.now(UTC)), files[
        "tls.crt"
    ]


def served(port: int) -> bytes:
    """The certificate that a new connection gets, in PEM."""
    return ssl.get_server_certificate(("localhost", port)).encode()


def pods(release: Release) -> dict[str, int]:
    """The token servers' pods, and how often each was restarted."""
    found = json.loads(release.cluster.kubectl("get", "pods", *SELECTOR, "-o", "json").stdout)["items"]
    return {pod["metadata"]["uid"]: pod["status"]["containerStatuses"][0]["restartCount"] for pod in found}


def await_served(release: Release, pair: KeyPair) -> None:
    """Returns once every token server serves with the certificate; the kubelet is told to hurry."""
    stamp = f"looked-at={datetime.now(UTC).timestamp()}"
    release.cluster.kubectl("annotate", "pods", *SELECTOR, "--overwrite", stamp)
    wanted = pair.certificate.public_bytes(Encoding.PEM)

    def everywhere() -> bool:
        return all(served(release.cluster.token_port).strip() == wanted.strip() for _ in range(20))

    until(everywhere, "every token server serves with the new certificate", timeout=180)


@pytest.fixture
def ports(release: Release) -> dict[str, int]:
    return {"registry": release.cluster.registry_port, "token server": release.cluster.token_port}


@pytest.mark.parametrize("server", ["registry", "token server"])
def test_plain_http_is_refused(ports: dict[str, int], server: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="400") as refused:
        urllib.request.urlopen(f"http://localhost:{ports[server]}/", timeout=10)
    with refused.value as answer:
        assert "HTTPS" in answer.read().decode()


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("server", ["registry", "token server"])
def test_old_versions_are_refused(release: Release, ports: dict[str, int], server: str) -> None:
    context = release.context
    assert context is not None
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version, context.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(urllib.error.URLError, match="PROTOCOL_VERSION"):
        urllib.request.urlopen(f"https://localhost:{ports[server]}/", timeout=10, context=context)


@pytest.mark.parametrize("server", ["registry", "token server"])
def test_neither_is_known_to_who_does_not_trust_the_ca(ports: dict[str, int], server: str) -> None:
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(f"https://localhost:{ports[server]}/", timeout=10)


def test_a_pod_pulls_over_tls(release: Release, tenant: Tenant, published: str) -> None:
    assert release.realm.startswith("https://")
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read", pullSecret={"serviceAccounts": ["default"]})
    tenant.ready("reader")
    tenant.pod("app", published)
    tenant.runs("app")


def test_a_replaced_certificate_is_served_without_a_restart_and_without_a_failed_login(
    release: Release, tenant: Tenant
) -> None:
    tenant.scope_map("read", ["team/app"])
    tenant.token("steady", "read")
    tenant.ready("steady")
    credentials = tenant.credentials("steady-pull")
    before = pods(release)
    pair, ca = certificate(release)
    with shopping(release, lambda: credentials) as crowd:
        put(release, f"{TOKEN_SERVER}-tls", pair, ca)
        await_served(release, pair)
        crowd.go_on()
    assert (crowd.refused, crowd.broken) == ([], [])
    assert pods(release) == before


@pytest.fixture
def brought(release: Release) -> Iterator[Release]:
    """The release with a certificate that is not for the Service's name, in a Secret that is not the operator's."""
    pair, ca = certificate(release, "localhost")
    put(release, BROUGHT, pair, ca)
    values: dict[str, Any] = {**release.values, "tokenServer": {"tls": {"secretName": BROUGHT}}}
    made = Release(release.cluster, values, tls=True)
    made.install()
    yield made
    release.install()
    release.cluster.kubectl("delete", "secret", BROUGHT, "-n", NAMESPACE)


def test_a_brought_certificate_is_served_and_renewed(brought: Release, new_tenant: Callable[[], Tenant]) -> None:
    tenant = new_tenant()
    tenant.scope_map("read", ["team/app"])
    tenant.token("first", "read")
    tenant.ready("first")
    assert served(brought.cluster.token_port).strip() == secret(brought, BROUGHT)["tls.crt"].strip()
    pair, ca = certificate(brought, "localhost")
    put(brought, BROUGHT, pair, ca)
    await_served(brought, pair)
    tenant.accepted(tenant.credentials("first-pull"))


def test_the_registry_has_the_certificate_of_its_secret(release: Release) -> None:
    assert served(release.cluster.registry_port).strip() == secret(release, f"{REGISTRY}-tls")["tls.crt"].strip()
