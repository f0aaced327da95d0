"""Creates and reads the Secrets that keys are stored in.

Existing Secrets are used as they are, and only those that pullpass created are overwritten.
"""

import base64
import binascii
import logging
from collections.abc import Callable, Mapping
from typing import Any

from pullpass.api import names
from pullpass.kube.client import Conflict, Kube, NotFound, Object
from pullpass.kube.resources import SECRETS, Resource
from pullpass.signing.certificates import KeyPair, load_pair

TLS = "kubernetes.io/tls"
CERTIFICATE, KEY = "tls.crt", "tls.key"
CA = "ca.crt"
"""The certificate of the issuing CA, as cert-manager stores it: the CA's own Secret may have been replaced since."""
OURS = {names.MANAGED_BY_LABEL: names.MANAGED_BY}

logger = logging.getLogger(__name__)


class KeySecretError(Exception):
    """A key that pullpass cannot use or must not replace. The text says what is wrong, where, and what to do."""


async def get_or_create(
    kube: Kube,
    namespace: str,
    name: str,
    make: Callable[[], Mapping[str, bytes]],
    *,
    kind: str = "Opaque",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Returns the Secret. Creates it with what `make` returns where it does not exist. Raises KubeError."""
    try:
        return await kube.get(SECRETS, namespace, name)
    except NotFound:
        pass
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {**OURS, **(labels or {})}},
        "type": kind,
        "data": encoded(make()),
    }
    try:
        created = await kube.create(SECRETS, namespace, body)
    except Conflict:
        return await kube.get(SECRETS, namespace, name)
    logger.info("created %s", where(body))
    return created


async def get_or_none(kube: Kube, resource: Resource, namespace: str, name: str) -> Object | None:
    """Reads an object. Returns None where it does not exist. Raises KubeError."""
    try:
        return await kube.get(resource, namespace, name)
    except NotFound:
        return None


def is_ours(found: Mapping[str, Any]) -> bool:
    """Tells whether pullpass created an object."""
    labels = found["metadata"].get("labels") or {}
    return bool(labels.get(names.MANAGED_BY_LABEL) == names.MANAGED_BY)


def must_be_ours(found: Mapping[str, Any], next_step: str) -> None:
    """Raises KeySecretError, with what to do next, for an object that pullpass did not create."""
    if not is_ours(found):
        raise KeySecretError(f"{where(found)} was not created by pullpass, so it is left as it is. {next_step}")


def files(pair: KeyPair) -> dict[str, bytes]:
    """Returns a certificate and its key under the names that a Secret of type kubernetes.io/tls has for them."""
    return {CERTIFICATE: pair.certificate_pem, KEY: pair.key_pem}


def pair_of(secret: Mapping[str, Any], certificate: str = CERTIFICATE, key: str = KEY) -> KeyPair:
    """Parses the certificate and key of a Secret. Raises KeySecretError where one is missing, CertificateError."""
    return load_pair(content(secret, certificate), content(secret, key))


def encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    """Encodes files as the `data` of a Secret."""
    return {key: base64.b64encode(content).decode() for key, content in data.items()}


def content(secret: Mapping[str, Any], key: str) -> bytes:
    """Decodes the file under a key of a Secret. Raises KeySecretError where it is missing or not base64."""
    try:
        return base64.b64decode((secret.get("data") or {})[key], validate=True)
    except KeyError:
        raise KeySecretError(
            f"{where(secret)} has no {key}. Add it, or delete the Secret and pullpass makes one."
        ) from None
    except (binascii.Error, TypeError, ValueError):
        raise KeySecretError(
            f"{where(secret)}: {key} is not base64. Correct it, or delete the Secret and pullpass makes one."
        ) from None


def where(found: Mapping[str, Any]) -> str:
    """Returns kind, namespace and name of an object, for messages."""
    metadata = found["metadata"]
    return f"{found.get('kind', 'Secret')} {metadata['namespace']}/{metadata['name']}"
