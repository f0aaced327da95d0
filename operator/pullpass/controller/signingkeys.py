"""Keeps the keys: a CA, the leaf that signs access tokens, what registries trust, and the seed of passwords.

What is there is used as it is. Only the leaf and the trust ConfigMap are ever written a second time, and only
where they are ours: the CA may be somebody else's, and a new seed would orphan passwords.
"""

import logging
import secrets
from datetime import datetime, timedelta

from pullpass.api import names
from pullpass.controller.keysecrets import (
    OURS,
    TLS,
    KeySecretError,
    content,
    encoded,
    files,
    get_or_create,
    must_be_ours,
    pair_of,
    where,
)
from pullpass.controller.settings import Settings
from pullpass.kube.client import Kube, NotFound
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
from pullpass.signing import trust
from pullpass.signing.certificates import (
    CertificateError,
    KeyPair,
    check_ca,
    leaf_due,
    new_ca,
    new_leaf,
)

SEED_KEY = "seed"
SEED_BYTES = 32
LOOK_AGAIN = timedelta(minutes=10)
"""How soon a CA that somebody replaced is noticed."""

logger = logging.getLogger(__name__)


async def reconcile(kube: Kube, settings: Settings, now: datetime) -> datetime:
    """Brings CA, leaf and trust ConfigMap in order and returns when to look again.

    Writes only what is missing, due or different. Raises KeySecretError where people have to act, KubeError
    where the API server failed or refused.
    """
    ca = await _ca(kube, settings, now)
    leaf = await _leaf(kube, settings, ca, now)
    await _publish(kube, settings, ca, leaf, now)
    return min(leaf_due(leaf, ca, now), now + LOOK_AGAIN)


async def load_seed(kube: Kube, settings: Settings) -> bytes:
    """The seed of all passwords, made at the first call ever. Raises KeySecretError, KubeError."""
    secret = await get_or_create(
        kube, settings.namespace, settings.seed_secret, lambda: {SEED_KEY: secrets.token_bytes(SEED_BYTES)}
    )
    seed = content(secret, SEED_KEY)
    if len(seed) < SEED_BYTES:
        raise KeySecretError(
            f"{where(secret)} holds {len(seed)} bytes under {SEED_KEY}, and {SEED_BYTES} are needed. "
            "Restore it from a backup, or delete it: pullpass then makes another, for all later passwords."
        )
    return seed


async def _ca(kube: Kube, settings: Settings, now: datetime) -> KeyPair:
    secret = await get_or_create(kube, settings.namespace, settings.ca_secret, lambda: files(new_ca(now)), kind=TLS)
    try:
        ca = pair_of(secret)
        check_ca(ca, now)
    except CertificateError as error:
        raise KeySecretError(
            f"{where(secret)} is no CA that can sign: {error}. Put a valid CA there, or delete the "
            "Secret and pullpass makes one; then registries must load ConfigMap "
            f"{settings.trust_configmap} again."
        ) from None
    return ca


async def _leaf(kube: Kube, settings: Settings, ca: KeyPair, now: datetime) -> KeyPair:
    namespace = settings.credentials_namespace
    labels = {names.COMPONENT_LABEL: names.SIGNING_KEY}
    secret = await get_or_create(
        kube, namespace, names.SIGNING_SECRET, lambda: files(new_leaf(ca, now)), kind=TLS, labels=labels
    )
    try:
        leaf = pair_of(secret)
        if leaf_due(leaf, ca, now) > now:
            return leaf
        why = "it is due, or of another CA"
    except (CertificateError, KeySecretError):
        why = "it could not be read"
    must_be_ours(secret, f"Delete it, or rename it: pullpass keeps its own signing key as {names.SIGNING_SECRET}.")
    leaf = new_leaf(ca, now)
    # With the version that was judged: if it changed meanwhile, the next attempt judges it anew.
    await kube.replace(SECRETS, namespace, names.SIGNING_SECRET, {**secret, "data": encoded(files(leaf))})
    logger.info("%s has a new signing key until %s: %s", where(secret), leaf.not_after.isoformat(), why)
    return leaf


async def _publish(kube: Kube, settings: Settings, ca: KeyPair, leaf: KeyPair, now: datetime) -> None:
    namespace, name = settings.namespace, settings.trust_configmap
    published: dict[str, str] = {}
    try:
        there = await kube.get(CONFIG_MAPS, namespace, name)
    except NotFound:
        pass
    else:
        must_be_ours(there, "Delete it, or choose another name with --trust-configmap.")
        published = there.get("data") or {}
    data = trust.contents(ca, leaf, published, now)
    if published == data:
        return
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": namespace, "labels": OURS},
        "data": data,
    }
    await kube.apply(CONFIG_MAPS, namespace, name, body)
    if published.get(trust.BUNDLE_KEY) != data[trust.BUNDLE_KEY]:
        logger.info("ConfigMap %s/%s has a new CA: registries must load it", namespace, name)
