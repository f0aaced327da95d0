"""Keeps the keys: for each registry a CA, the leaf that signs access tokens and what it trusts; and the seed of
passwords.

What is there is used as it is. Only the leaf and the trust ConfigMap are ever written a second time, and only
where they are ours: the CA may be somebody else's, and a new seed would orphan passwords. `rollover` has what people
ask for beyond that.

Registries read what they trust at any time, so the bundle is written before the leaf that needs it. Each write is for
the version that was judged: operator and commands may come between each other, and whoever is late judges anew.
"""

import logging
import secrets
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pullpass.api import names
from pullpass.api.registries import Registry
from pullpass.api.times import format_time
from pullpass.controller import metrics
from pullpass.controller.keys.storage import (
    CA,
    OURS,
    TLS,
    KeySecretError,
    content,
    encoded,
    files,
    get_or_create,
    is_ours,
    must_be_ours,
    pair_of,
    where,
)
from pullpass.controller.settings import KeyLocations, OperatorSettings
from pullpass.kube.client import Kube, NotFound, Object
from pullpass.kube.resources import CONFIG_MAPS, SECRETS, Resource
from pullpass.signing import trust
from pullpass.signing.certificates import (
    CertificateError,
    KeyPair,
    check_ca,
    load_certificates,
    new_ca,
    new_leaf,
    same_key,
)
from pullpass.signing.replacement import KeyState, ReplacementStep, issuer_of

SEED_KEY = "seed"
SEED_BYTES = 32
NEXT_CERTIFICATE, NEXT_KEY = "next.crt", "next.key"
"""In the Secret of a CA of ours: the one that is to take its place."""
LOOK_AGAIN = timedelta(minutes=10)
"""How soon a CA that somebody replaced is noticed."""
ENDING = 0.1
"""With so much of a CA's life left each renewal of a leaf is a warning as well."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keys:
    """The keys of one registry, and the objects that they are stored in, each in the version that was read."""

    registry: Registry
    standing: KeyState
    ca_secret: Object = field(repr=False)
    leaf_secret: Object | None = field(repr=False)
    trust_map: Object | None
    stands_in: bool = False
    """Whether `standing.ca` is the prepared CA, as the one in its Secret cannot be used any more."""

    @property
    def published(self) -> dict[str, str]:
        """The data of the trust ConfigMap."""
        return (self.trust_map or {}).get("data") or {}


async def reconcile(kube: Kube, settings: OperatorSettings, registry: Registry, now: datetime) -> datetime:
    """Brings CA, leaf and trust ConfigMap of a registry in order and returns when to look again.

    Writes only what is missing, due or different. Raises KeySecretError where people have to act, KubeError
    where the API server failed or refused.
    """
    secret = await get_or_create(kube, settings.namespace, registry.ca_secret, lambda: files(new_ca(now)), kind=TLS)
    with suppress(KeySecretError, CertificateError):
        # Also of one that has ended and is refused below: an operator that starts then must not silence the alert.
        metrics.CA_NOT_AFTER.labels(registry.name).set(pair_of(secret).not_after.timestamp())
    before = await load(kube, settings, registry, now)
    await _must_not_be_the_server_ca(kube, settings, before)
    keys = await bring_in_order(kube, settings, before, now)
    standing = keys.standing
    metrics.CA_NOT_AFTER.labels(registry.name).set(standing.ca.not_after.timestamp())
    for one in ReplacementStep:
        metrics.CA_REPLACEMENT.labels(registry.name, one).set(one is standing.step)
    if standing.trusted != before.standing.trusted:
        logger.info("registry %s: %s", registry.name, next_step(settings, keys, now))
    leaving = [authority.until for authority in standing.trusted if authority.until]
    return min(standing.leaf_due(now), now + LOOK_AGAIN, *leaving)


async def load_seed(kube: Kube, settings: OperatorSettings) -> bytes:
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


async def load(kube: Kube, locations: KeyLocations, registry: Registry, now: datetime) -> Keys:
    """What there is of a registry's keys. Raises KubeError, and KeySecretError, also where there is no CA yet.

    Where the CA cannot be used, because it has ended or somebody spoilt it, a prepared one stands in for it as if it
    had been put in its place.
    """
    # Before the others: while it is unchanged nobody has finished to take a CA out of it, so what is read after it
    # cannot be of a time when that CA was still wanted.
    trust_map = await _found(kube, CONFIG_MAPS, locations.namespace, registry.trust_config_map)
    if trust_map:
        must_be_ours(trust_map, f"Delete it, or choose another trustConfigMap for registry {registry.name}.")
    ca_secret = await _found(kube, SECRETS, locations.namespace, registry.ca_secret)
    if ca_secret is None:
        raise KeySecretError(
            f"There is no Secret {locations.namespace}/{registry.ca_secret} yet: the operator makes it."
        )
    next_ca, stands_in = _next_ca(ca_secret, now), False
    try:
        ca = _ca(registry, ca_secret, now)
    except KeySecretError:
        if next_ca is None:
            raise
        ca, next_ca, stands_in = next_ca, None, True
        logger.warning(
            "%s has no CA that can sign, so the prepared one takes its place. To write that down: "
            "pullpass keys switch-ca --registry %s",
            where(ca_secret),
            registry.name,
        )
    leaf_secret = await _found(kube, SECRETS, locations.credentials_namespace, registry.signing_secret)
    if leaf_secret:
        must_be_ours(
            leaf_secret, f"Delete it, or rename it: pullpass keeps a signing key as {registry.signing_secret}."
        )
    leaf = _leaf(leaf_secret)
    bundle = trust.authorities((trust_map or {}).get("data") or {}, now)
    issuer = None
    if leaf:
        candidates = [ca.certificate, *(one.certificate for one in bundle), *_stored_issuer(leaf_secret)]
        issuer = issuer_of(leaf.certificate, candidates)
    standing = KeyState(ca, next_ca, leaf, issuer, bundle)
    await _must_be_its_own(kube, locations, registry, standing, now)
    return Keys(registry, standing, ca_secret, leaf_secret, trust_map, stands_in)


async def published(kube: Kube, locations: KeyLocations, registry: Registry, now: datetime) -> list[x509.Certificate]:
    """The CAs that the trust ConfigMap of a registry has. Raises KubeError."""
    found = await _found(kube, CONFIG_MAPS, locations.namespace, registry.trust_config_map)
    return [one.certificate for one in trust.authorities((found or {}).get("data") or {}, now)]


async def bring_in_order(
    kube: Kube, locations: KeyLocations, keys: Keys, now: datetime, *, switch: bool = False, distrust: bool = False
) -> Keys:
    """Publishes what must be trusted, issues a leaf where one is due, and returns how the keys are then.

    `switch` issues a leaf of the CA in the Secret although one of another CA still works; `distrust` takes every CA
    out of the bundle that no leaf needs any more, without waiting for the end of its access tokens.
    """
    standing = keys.standing
    issue = standing.leaf_due(now) <= now or (switch and not standing.switched)
    leaf = new_leaf(standing.ca, now) if issue else standing.leaf
    assert leaf is not None
    in_use = [standing.leaf.certificate] if standing.leaf and issue else []
    keys = await _publish(kube, locations, keys, [leaf.certificate, *in_use], now, distrust=distrust)
    if issue:
        keys = await _store(kube, locations, keys, leaf, standing.ca.certificate)
        logger.info("%s has a new signing key until %s", where(keys.leaf_secret or {}), leaf.not_after.isoformat())
        if standing.ca.not_after - now < ENDING * (standing.ca.not_after - standing.ca.not_before):
            logger.warning("%s ends at %s: replace it", where(keys.ca_secret), standing.ca.not_after.isoformat())
        # Only now is it known that the old CA signs no more.
        return await _publish(kube, locations, keys, [leaf.certificate], now, distrust=distrust)
    assert standing.issuer is not None
    if _stored_issuer(keys.leaf_secret) != [standing.issuer]:
        keys = await _store(kube, locations, keys, leaf, standing.issuer)
    return keys


def next_step(locations: KeyLocations, keys: Keys, now: datetime) -> str:
    """In words: at which step the replacement of the registry's CA is, and what is to be done."""
    standing, registry = keys.standing, keys.registry
    load = (
        f"Have every registry load ConfigMap {locations.namespace}/{registry.trust_config_map} (restart it), then run"
    )
    switch = f"pullpass keys switch-ca --registry {registry.name}"
    match standing.step:
        case ReplacementStep.PREPARED:
            return f"the next CA is published beside the one that signs. {load}: {switch}"
        case ReplacementStep.REPLACED:
            due = format_time(standing.leaf_due(now))
            return f"the CA was replaced, and the new one signs from {due} on. {load}: {switch}"
        case ReplacementStep.LEAVING:
            until = max(authority.until for authority in standing.trusted if authority.until)
            return f"one CA signs; the last of the others leaves the bundle at {format_time(until)} by itself"
        case ReplacementStep.NONE:
            return "one CA, which signs; nothing to do"


def _ca(registry: Registry, secret: Object, now: datetime) -> KeyPair:
    try:
        ca = pair_of(secret)
        check_ca(ca, now)
    except CertificateError as error:
        raise KeySecretError(
            f"{where(secret)} is no CA that can sign: {error}. Put a valid CA there, or delete the "
            "Secret and pullpass makes one; then registries must load ConfigMap "
            f"{registry.trust_config_map} again."
        ) from None
    return ca


def _next_ca(secret: Object, now: datetime) -> KeyPair | None:
    """The prepared CA. One that cannot be used is none: `replace-ca` makes another."""
    if not is_ours(secret) or NEXT_CERTIFICATE not in (secret.get("data") or {}):
        return None
    try:
        ca = pair_of(secret, NEXT_CERTIFICATE, NEXT_KEY)
        check_ca(ca, now)
    except (CertificateError, KeySecretError) as error:
        logger.warning("%s: the next CA cannot be used: %s", where(secret), error)
        return None
    return ca


def _leaf(secret: Object | None) -> KeyPair | None:
    try:
        return pair_of(secret) if secret else None
    except (CertificateError, KeySecretError):
        return None


def _stored_issuer(secret: Object | None) -> list[x509.Certificate]:
    """The CA certificate beside the leaf; those of older versions have none."""
    try:
        return load_certificates(content(secret, CA)) if secret else []
    except (CertificateError, KeySecretError):
        return []


async def _must_be_its_own(
    kube: Kube, locations: KeyLocations, registry: Registry, standing: KeyState, now: datetime
) -> None:
    """Two registries that trust the same key would take each other's tokens. Whoever has published it keeps it, or else
    the earlier; the other gets no leaf of it."""
    ca, ours = standing.ca.certificate, _trusts(standing)
    earlier = True
    for other in locations.registries:
        if other.name == registry.name:
            earlier = False
            continue
        if any(same_key(ca, one) for one in await published(kube, locations, other, now)):
            taken = earlier or not ours
        else:
            taken = earlier and not ours and await _wants(kube, locations, other, ca)
        if taken:
            raise KeySecretError(
                f"Secret {locations.namespace}/{registry.ca_secret} of registry {registry.name} has a key that "
                f"registry {other.name} has, too: each would take access tokens for the other. "
                "Put another CA there, or delete the Secret and pullpass makes one."
            )


def _trusts(standing: KeyState) -> bool:
    """Whether the registry trusts the key of its CA already, or may: it is published, or a leaf is of it."""
    known = [one.certificate for one in standing.trusted] + ([standing.issuer] if standing.issuer else [])
    return any(same_key(standing.ca.certificate, one) for one in known)


async def _wants(kube: Kube, locations: KeyLocations, registry: Registry, ca: x509.Certificate) -> bool:
    secret = await _found(kube, SECRETS, locations.namespace, registry.ca_secret)
    try:
        return secret is not None and same_key(pair_of(secret).certificate, ca)
    except (KeySecretError, CertificateError):
        return False  # it cannot sign either


async def _must_not_be_the_server_ca(kube: Kube, settings: OperatorSettings, keys: Keys) -> None:
    """What the server CA vouches for must not sign access tokens. A registry that trusts the key already goes on: then
    it is the server CA that is refused, see `serverkeys`."""
    if not settings.server_certificates or _trusts(keys.standing):
        return
    if (secret := await _found(kube, SECRETS, settings.namespace, settings.server_ca_secret)) is None:
        return
    try:
        shared = same_key(pair_of(secret).certificate, keys.standing.ca.certificate)
    except (KeySecretError, CertificateError):
        return  # it cannot vouch for anybody
    if shared:
        raise KeySecretError(
            f"{where(keys.ca_secret)} of registry {keys.registry.name} has the key of the server CA, {where(secret)}: "
            "whoever could vouch for a server could then also sign access tokens. "
            "Put another CA there, or delete the Secret and pullpass makes one."
        )


async def _publish(
    kube: Kube,
    locations: KeyLocations,
    keys: Keys,
    leaves: Sequence[x509.Certificate],
    now: datetime,
    *,
    distrust: bool,
) -> Keys:
    registry, standing = keys.registry, keys.standing
    stays = trust.retired_ca_grace(registry.access_token_lifetime)
    bundle = trust.trusted(standing.trusted, standing.wanted, now, stays=stays, distrust=distrust)
    data = trust.contents(bundle, leaves, keys.published, now)
    if keys.published == data:
        return keys
    if keys.trust_map is None:
        metadata = {"name": registry.trust_config_map, "namespace": locations.namespace, "labels": OURS}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        written = await kube.create(CONFIG_MAPS, locations.namespace, body)
    else:
        body = {**keys.trust_map, "data": data}
        written = await kube.replace(CONFIG_MAPS, locations.namespace, registry.trust_config_map, body)
    return replace(keys, standing=replace(standing, trusted=bundle), trust_map=written)


async def _store(kube: Kube, locations: KeyLocations, keys: Keys, leaf: KeyPair, issuer: x509.Certificate) -> Keys:
    namespace, name = locations.credentials_namespace, keys.registry.signing_secret
    pem = issuer.public_bytes(Encoding.PEM)
    data = encoded({**files(leaf), CA: pem})
    if keys.leaf_secret is None:
        labels = {**OURS, names.COMPONENT_LABEL: names.SIGNING_KEY}
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": TLS, "data": data}
        written = await kube.create(SECRETS, namespace, body)
    else:
        written = await kube.replace(SECRETS, namespace, name, {**keys.leaf_secret, "data": data})
    return replace(keys, standing=replace(keys.standing, leaf=leaf, issuer=issuer), leaf_secret=written)


async def _found(kube: Kube, resource: Resource, namespace: str, name: str) -> Object | None:
    try:
        return await kube.get(resource, namespace, name)
    except NotFound:
        return None
