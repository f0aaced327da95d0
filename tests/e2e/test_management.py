"""The token servers' management ports: what each replica says of a password, and that clients do not come there."""

import json
import urllib.error
import urllib.request
from typing import Any

import pytest

from tests.cluster.install import MANAGEMENT, NAMESPACE, TOKEN_SERVER, Release
from tests.e2e.tenant import Tenant
from tests.e2e.tokens import Credentials
from tests.e2e.waiting import until

SELECTOR = ("-n", NAMESPACE, "-l", "app.kubernetes.io/component=token-server", "-o", "name")


def ask(release: Release, uid: str, id: str, registry: str = "default") -> list[dict[str, Any]]:
    """What every token server says, by way of the API server."""
    pods = [name.removeprefix("pod/") for name in release.cluster.kubectl("get", "pods", *SELECTOR).stdout.split()]
    question = f"8081/proxy/tokens/{uid}?password={id}&registry={registry}"
    return [
        json.loads(
            release.cluster.kubectl("get", "--raw", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}:{question}").stdout
        )
        for pod in pods
    ]


@pytest.fixture
def credentials(tenant: Tenant) -> Credentials:
    tenant.scope_map("read", ["team/app"])
    tenant.token("reader", "read")
    tenant.ready("reader")
    return tenant.credentials("reader-pull")


def test_every_replica_confirms_what_is_published(release: Release, tenant: Tenant, credentials: Credentials) -> None:
    uid = tenant.find("registrytoken", "reader")["metadata"]["uid"]
    answers = ask(release, uid, credentials.id)
    assert answers
    assert [(answer["accepted"], answer["reason"]) for answer in answers] == [(True, None)] * len(answers)
    assert credentials.password[15:47] not in json.dumps(answers)
    tenant.patch("registrytoken", "reader", enabled=False)
    until(
        lambda: {answer["reason"] for answer in ask(release, uid, credentials.id)} == {"token is disabled"},
        "every replica knows that the token is disabled",
    )


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_clients_find_tokens_only(release: Release, path: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as refused:
        urllib.request.urlopen(release.realm.removesuffix("/token") + path, timeout=10, context=release.context)
    refused.value.close()


def test_the_clients_service_does_not_lead_there(release: Release) -> None:
    def ports(service: str) -> set[str]:
        label = f"kubernetes.io/service-name={service}"
        found = release.cluster.kubectl("get", "endpointslices", "-n", NAMESPACE, "-l", label, "-o", "json").stdout
        return {port["name"] for part in json.loads(found)["items"] for port in part["ports"]}

    assert ports(TOKEN_SERVER) == {"https"}
    assert ports(MANAGEMENT) == {"http-management"}
