"""Keys as objects of an API server in memory, and what can be read in them."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from prometheus_client import REGISTRY

from pullpass.api.names import SIGNING_SECRET
from pullpass.controller.keys.signing import reconcile
from pullpass.controller.settings import OperatorSettings
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
from pullpass.signing.certificates import KeyPair, load_pair
from pullpass.signing.tokens import Signer
from tests.registries import DEFAULT, TWO
from tests.unit.signing.memory import Key, Memory

NOW = datetime(2027, 3, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SETTINGS = OperatorSettings(
    namespace="release",
    credentials_namespace="credentials",
    identity="pod",
    registries=TWO,
    token_server_service="tokens",
)
CA = (SECRETS, "release", "pullpass-ca")
SEED = (SECRETS, "release", "pullpass-seed")
LEAF = (SECRETS, "credentials", SIGNING_SECRET)
TRUST = (CONFIG_MAPS, "release", "pullpass-trust")
OTHER_CA = (SECRETS, "release", "pullpass-ca-other")
OTHER_TRUST = (CONFIG_MAPS, "release", "pullpass-trust-other")


def secret(data: dict[str, bytes], labels: dict[str, str] | None = None) -> dict[str, Any]:
    encoded = {key: base64.b64encode(content).decode() for key, content in data.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"labels": labels or {}},
        "type": "kubernetes.io/tls",
        "data": encoded,
    }


def files(pair: KeyPair) -> dict[str, bytes]:
    return {"tls.crt": pair.certificate_pem, "tls.key": pair.key_pem}


def pair_of(kube: Memory, key: Key) -> KeyPair:
    data = kube.objects[key]["data"]
    return load_pair(base64.b64decode(data["tls.crt"]), base64.b64decode(data["tls.key"]))


def kids(kube: Memory) -> list[str]:
    return [key["kid"] for key in json.loads(kube.objects[TRUST]["data"]["jwks.json"])["keys"]]


def kid(pair: KeyPair) -> str:
    return Signer(pair.key_pem, pair.certificate_pem).kid


def bundle(kube: Memory) -> list[x509.Certificate]:
    return x509.load_pem_x509_certificates(kube.objects[TRUST]["data"]["ca.crt"].encode())


def issuer(kube: Memory) -> x509.Certificate:
    return x509.load_pem_x509_certificate(base64.b64decode(kube.objects[LEAF]["data"]["ca.crt"]))


def metric(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(f"pullpass_operator_{name}", {"registry": "default", **labels})


def said(caplog: pytest.LogCaptureFixture) -> str:
    """What was logged since it was last asked."""
    text = caplog.text
    caplog.clear()
    return text


async def settled() -> Memory:
    kube = Memory()
    await reconcile(kube, SETTINGS, DEFAULT, NOW)
    kube.calls.clear()
    return kube
