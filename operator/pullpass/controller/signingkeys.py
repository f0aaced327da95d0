"""Keeps the keys: for each registry a CA, the leaf that signs access tokens and what it trusts; and the seed of
passwords.

What is there is used as it is. Only the leaf and the trust ConfigMap are ever written a second time, and only
where they are ours: the CA may be somebody else's, and a new seed would orphan passwords.
"""

import base64
import binascii
import logging
import secrets
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from pullpass.api import names
from pullpass.api.registries import Registry
from pullpass.controller.settings import Settings
from pullpass.kube.client import Conflict, Kube, NotFound
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
from pullpass.signing import trust
from pullpass.signing.certificates import (
    CertificateError,
    KeyPair,
    check_ca,
    leaf_due,
    load_pair,
    new_ca,
    new_leaf,
)

SEED_KEY = "seed"
SEED_BYTES = 32
LOOK_AGAIN = timedelta(minutes=10)
"""How soon a CA that somebody replaced is noticed."""

_TLS = "kubernetes.io/tls"
_CERTIFICATE, _KEY = "tls.crt", "tls.key"
_OURS = {names.MANAGED_BY_LABEL: names.MANAGED_BY}

logger = logging.getLogger(__name__)


class SigningKeyError(Exception):
    """A key that pullpass cannot use or may not replace: what is wrong, where, and what to do about it."""


async def reconcile(kube: Kube, settings: Settings, registry: Registry, now: datetime) -> datetime:
    """Brings CA, leaf and trust ConfigMap of a registry in order and returns when to look again.

    Writes only what is missing, due or different. Raises SigningKeyError where people have to act, KubeError
    where the API server failed or refused.
    """
    ca = await _ca(kube, settings, registry, now)
    await _must_be_its_own(kube, settings, registry, ca)
    leaf = await _leaf(kube, settings, registry, ca, now)
    await _publish(kube, settings, registry, ca, leaf, now)
    return min(leaf_due(leaf, ca, now), now + LOOK_AGAIN)


async def load_seed(kube: Kube, settings: Settings) -> bytes:
    """The seed of all passwords, made at the first call ever. Raises SigningKeyError, KubeError."""
    secret = await _get_or_create(
        kube, settings.namespace, settings.seed_secret, lambda: {SEED_KEY: secrets.token_bytes(SEED_BYTES)}
    )
    seed = _content(secret, SEED_KEY)
    if len(seed) < SEED_BYTES:
        raise SigningKeyError(
            f"{_where(secret)} holds {len(seed)} bytes under {SEED_KEY}, and {SEED_BYTES} are needed. "
            "Restore it from a backup, or delete it: pullpass then makes another, for all later passwords."
        )
    return seed


async def _ca(kube: Kube, settings: Settings, registry: Registry, now: datetime) -> KeyPair:
    secret = await _get_or_create(kube, settings.namespace, registry.ca_secret, lambda: _files(new_ca(now)), kind=_TLS)
    try:
        ca = load_pair(_content(secret, _CERTIFICATE), _content(secret, _KEY))
        check_ca(ca, now)
    except CertificateError as error:
        raise SigningKeyError(
            f"{_where(secret)} is no CA that can sign: {error}. Put a valid CA there, or delete the "
            "Secret and pullpass makes one; then registries must load ConfigMap "
            f"{registry.trust_config_map} again."
        ) from None
    return ca


async def _must_be_its_own(kube: Kube, settings: Settings, registry: Registry, ca: KeyPair) -> None:
    """Two registries that trust the same key would take each other's tokens, so the later one gets no leaf."""
    for other in settings.registries:
        if other.name == registry.name:
            return
        try:
            secret = await kube.get(SECRETS, settings.namespace, other.ca_secret)
            theirs = load_pair(_content(secret, _CERTIFICATE), _content(secret, _KEY))
        except (NotFound, SigningKeyError, CertificateError):
            continue  # it cannot sign either
        if theirs.certificate.public_key() == ca.certificate.public_key():
            raise SigningKeyError(
                f"Secret {settings.namespace}/{registry.ca_secret} of registry {registry.name} has the same key as "
                f"{_where(secret)} of registry {other.name}: each would take access tokens for the other. "
                "Put another CA there, or delete the Secret and pullpass makes one."
            )


async def _leaf(kube: Kube, settings: Settings, registry: Registry, ca: KeyPair, now: datetime) -> KeyPair:
    namespace, name = settings.credentials_namespace, registry.signing_secret
    labels = {names.COMPONENT_LABEL: names.SIGNING_KEY}
    secret = await _get_or_create(kube, namespace, name, lambda: _files(new_leaf(ca, now)), kind=_TLS, labels=labels)
    try:
        leaf = load_pair(_content(secret, _CERTIFICATE), _content(secret, _KEY))
        if leaf_due(leaf, ca, now) > now:
            return leaf
        why = "it is due, or of another CA"
    except (CertificateError, SigningKeyError):
        why = "it could not be read"
    _must_be_ours(secret, f"Delete it, or rename it: pullpass keeps its own signing key as {name}.")
    leaf = new_leaf(ca, now)
    # With the version that was judged: if it changed meanwhile, the next attempt judges it anew.
    await kube.replace(SECRETS, namespace, name, {**secret, "data": _encoded(_files(leaf))})
    logger.info("%s has a new signing key until %s: %s", _where(secret), leaf.not_after.isoformat(), why)
    return leaf


async def _publish(
    kube: Kube, settings: Settings, registry: Registry, ca: KeyPair, leaf: KeyPair, now: datetime
) -> None:
    namespace, name = settings.namespace, registry.trust_config_map
    published: dict[str, str] = {}
    try:
        there = await kube.get(CONFIG_MAPS, namespace, name)
    except NotFound:
        pass
    else:
        _must_be_ours(there, f"Delete it, or choose another trustConfigMap for registry {registry.name}.")
        published = there.get("data") or {}
    data = trust.contents(ca, leaf, published, now)
    if published == data:
        return
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": _OURS},
        "data": data,
    }
    await kube.apply(CONFIG_MAPS, namespace, name, body)
    if published.get(trust.BUNDLE_KEY) != data[trust.BUNDLE_KEY]:
        logger.info("ConfigMap %s/%s has a new CA: registry %s must load it", namespace, name, registry.name)


async def _get_or_create(
    kube: Kube,
    namespace: str,
    name: str,
    make: Callable[[], Mapping[str, bytes]],
    *,
    kind: str = "Opaque",
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    try:
        return await kube.get(SECRETS, namespace, name)
    except NotFound:
        pass
    body = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace, "labels": {**_OURS, **(labels or {})}},
        "type": kind,
        "data": _encoded(make()),
    }
    try:
        made = await kube.create(SECRETS, namespace, body)
    except Conflict:
        return await kube.get(SECRETS, namespace, name)
    logger.info("made %s", _where(body))
    return made


def _must_be_ours(found: Mapping[str, Any], next_step: str) -> None:
    labels = found["metadata"].get("labels") or {}
    if labels.get(names.MANAGED_BY_LABEL) != names.MANAGED_BY:
        raise SigningKeyError(f"{_where(found)} is not pullpass's own, so it is left as it is. {next_step}")


def _files(pair: KeyPair) -> dict[str, bytes]:
    return {_CERTIFICATE: pair.certificate_pem, _KEY: pair.key_pem}


def _encoded(data: Mapping[str, bytes]) -> dict[str, str]:
    return {key: base64.b64encode(content).decode() for key, content in data.items()}


def _content(secret: Mapping[str, Any], key: str) -> bytes:
    try:
        content = base64.b64decode((secret.get("data") or {})[key], validate=True)
    except KeyError:
        raise SigningKeyError(
            f"{_where(secret)} has no {key}. Add it, or delete the Secret and pullpass makes one."
        ) from None
    except (binascii.Error, TypeError, ValueError):
        raise SigningKeyError(
            f"{_where(secret)}: {key} is not base64. Correct it, or delete the Secret and pullpass makes one."
        ) from None
    return content


def _where(found: Mapping[str, Any]) -> str:
    metadata = found["metadata"]
    return f"{found.get('kind', 'Secret')} {metadata['namespace']}/{metadata['name']}"
