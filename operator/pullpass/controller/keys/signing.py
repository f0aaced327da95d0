"""Creates and renews each registry's CA, the leaf that signs access tokens, and the trust ConfigMap; and the seed of
passwords.

Existing objects are used as they are. Only the leaf and the trust ConfigMap are ever overwritten, and only if they are
ours: the CA may be somebody else's, and with a new seed the operator could not derive old passwords. `replacement` has
the steps that people ask for beyond that.

Registries read the bundle at any time, so it is written before the leaf that needs it. Each write is for the
resourceVersion that was read: where the operator and a command write at the same time, the second one reads again.
"""

import logging
import math
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
from pullpass.controller.keys.known import FRESH_SECONDS, KnownCAs
from pullpass.controller.keys.storage import (
    CA,
    OURS,
    TLS,
    KeySecretError,
    content,
    encoded,
    files,
    get_or_create,
    get_or_none,
    is_ours,
    must_be_ours,
    pair_of,
    where,
)
from pullpass.controller.settings import KeyLocations, OperatorSettings
from pullpass.kube.client import Kube, Object
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
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
"""Keys of the next CA in the Secret of a CA of ours."""
RECHECK_AFTER = timedelta(minutes=10)
"""How soon the operator notices that somebody replaced a CA."""
EXPIRY_WARNING = 0.1
"""Part of a CA's lifetime; with less than that left, each renewal of a leaf logs a warning."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Keys:
    """The keys of one registry, and the objects that they are stored in, each in the version that was read."""

    registry: Registry
    state: KeyState
    ca_secret: Object = field(repr=False)
    leaf_secret: Object | None = field(repr=False)
    trust_map: Object | None
    uses_next_ca: bool = False
    """Whether `state.ca` is the prepared next CA, because the one in the Secret cannot be used any more."""

    @property
    def published(self) -> dict[str, str]:
        """The data of the trust ConfigMap."""
        return (self.trust_map or {}).get("data") or {}


async def reconcile(
    kube: Kube, settings: OperatorSettings, registry: Registry, now: datetime, known: KnownCAs | None = None
) -> datetime:
    """Creates, renews and publishes what is missing, due or different for a registry. Returns when to check again.

    `known` is shared by the passes of all registries. Raises KeySecretError where people have to act, KubeError where
    the API server failed or refused.
    """
    secret = await get_or_create(kube, settings.namespace, registry.ca_secret, lambda: files(new_ca(now)), kind=TLS)
    with suppress(KeySecretError, CertificateError):
        # Also for an expired CA, which is refused below: a restarted operator must not silence the alert.
        metrics.CA_NOT_AFTER.labels(registry.name).set(pair_of(secret).not_after.timestamp())
    before = await load(kube, settings, registry, now, known)
    await _must_not_be_the_server_ca(kube, settings, before)
    keys = await issue_and_publish(kube, settings, before, now)
    state = keys.state
    metrics.CA_NOT_AFTER.labels(registry.name).set(state.ca.not_after.timestamp())
    for one in ReplacementStep:
        metrics.CA_REPLACEMENT.labels(registry.name, one).set(one is state.step)
    if state.trusted != before.state.trusted:
        logger.info("registry %s: %s", registry.name, next_step(settings, keys, now))
    leaving = [authority.until for authority in state.trusted if authority.until]
    return min(state.leaf_due(now), now + RECHECK_AFTER, *leaving)


async def load_seed(kube: Kube, settings: OperatorSettings) -> bytes:
    """Returns the seed of all passwords, and creates it where there is none. Raises KeySecretError, KubeError."""
    secret = await get_or_create(
        kube, settings.namespace, settings.seed_secret, lambda: {SEED_KEY: secrets.token_bytes(SEED_BYTES)}
    )
    seed = content(secret, SEED_KEY)
    if len(seed) < SEED_BYTES:
        raise KeySecretError(
            f"{where(secret)} has {len(seed)} bytes under {SEED_KEY}, but {SEED_BYTES} are needed. "
            "Restore it from a backup, or delete it: pullpass then makes another, for all later passwords."
        )
    return seed


async def load(
    kube: Kube, locations: KeyLocations, registry: Registry, now: datetime, known: KnownCAs | None = None
) -> Keys:
    """Reads a registry's keys. Raises KubeError, and KeySecretError, also where there is no CA yet.

    Where the CA cannot be used, because it has ended or somebody spoilt it, a prepared one stands in for it as if it
    had been put in its place.
    """
    # Before the others: while it is unchanged nobody has finished to take a CA out of it, so what is read after it
    # cannot be of a time when that CA was still wanted.
    trust_map = await get_or_none(kube, CONFIG_MAPS, locations.namespace, registry.trust_config_map)
    if trust_map:
        must_be_ours(trust_map, f"Delete it, or choose another trustConfigMap for registry {registry.name}.")
    ca_secret = await get_or_none(kube, SECRETS, locations.namespace, registry.ca_secret)
    if ca_secret is None:
        raise KeySecretError(
            f"Secret {locations.namespace}/{registry.ca_secret} of registry {registry.name} does not exist yet. "
            "The operator creates it within ten minutes; if it does not, look at its log."
        )
    next_ca, uses_next_ca = _next_ca(ca_secret, now), False
    try:
        ca = _ca(registry, ca_secret, now)
    except KeySecretError:
        if next_ca is None:
            raise
        ca, next_ca, uses_next_ca = next_ca, None, True
        logger.warning(
            "%s cannot be used as a CA, so the prepared one takes its place. To make that permanent: "
            "pullpass keys switch-ca --registry %s",
            where(ca_secret),
            registry.name,
        )
    leaf_secret = await get_or_none(kube, SECRETS, locations.credentials_namespace, registry.signing_secret)
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
    state = KeyState(ca, next_ca, leaf, issuer, bundle)
    known = known or KnownCAs(kube, locations)
    known.note(registry, ca_secret, [one.certificate for one in bundle])
    await _check_unshared(known, locations, registry, state, ca_secret, now)
    return Keys(registry, state, ca_secret, leaf_secret, trust_map, uses_next_ca)


async def issue_and_publish(
    kube: Kube, locations: KeyLocations, keys: Keys, now: datetime, *, switch: bool = False, distrust: bool = False
) -> Keys:
    """Publishes the bundle, issues a leaf where one is due, and returns the keys as they are afterwards.

    `switch` issues a leaf of the CA in the Secret although one of another CA still works. `distrust` removes each CA
    that no leaf needs any more from the bundle, without waiting for its access tokens to expire. Raises KubeError,
    Conflict where an object has changed since it was read.
    """
    state = keys.state
    issue = state.leaf_due(now) <= now or (switch and not state.switched)
    leaf = new_leaf(state.ca, now) if issue else state.leaf
    assert leaf is not None
    in_use = [state.leaf.certificate] if state.leaf and issue else []
    keys = await _publish(kube, locations, keys, [leaf.certificate, *in_use], now, distrust=distrust)
    if issue:
        keys = await _store(kube, locations, keys, leaf, state.ca.certificate)
        logger.info("%s has a new signing key until %s", where(keys.leaf_secret or {}), leaf.not_after.isoformat())
        if state.ca.not_after - now < EXPIRY_WARNING * (state.ca.not_after - state.ca.not_before):
            logger.warning(
                "%s expires at %s. Replace it in steps: pullpass keys replace-ca --registry %s",
                where(keys.ca_secret),
                state.ca.not_after.isoformat(),
                keys.registry.name,
            )
        # Now that the new leaf is stored, the old CA does not sign any more.
        return await _publish(kube, locations, keys, [leaf.certificate], now, distrust=distrust)
    assert state.issuer is not None
    if _stored_issuer(keys.leaf_secret) != [state.issuer]:
        keys = await _store(kube, locations, keys, leaf, state.issuer)
    return keys


def next_step(locations: KeyLocations, keys: Keys, now: datetime) -> str:
    """Describes, for people, the step of the replacement of the registry's CA and what to do next."""
    state, registry = keys.state, keys.registry
    load = (
        f"Have every registry load ConfigMap {locations.namespace}/{registry.trust_config_map} (restart it), then run"
    )
    switch = f"pullpass keys switch-ca --registry {registry.name}"
    match state.step:
        case ReplacementStep.PREPARED:
            return f"the next CA is published beside the one that signs. {load}: {switch}"
        case ReplacementStep.REPLACED:
            due = format_time(state.leaf_due(now))
            return f"the CA was replaced, and the new one signs from {due} on. {load}: {switch}"
        case ReplacementStep.LEAVING:
            until = max(authority.until for authority in state.trusted if authority.until)
            return f"one CA signs; the last of the others leaves the bundle at {format_time(until)} by itself"
        case ReplacementStep.NONE:
            return "one CA, which signs; nothing to do"


def _ca(registry: Registry, secret: Object, now: datetime) -> KeyPair:
    try:
        ca = pair_of(secret)
        check_ca(ca, now)
    except CertificateError as error:
        raise KeySecretError(
            f"{where(secret)} cannot be used as a CA: {error}. Put a valid CA there, or delete the "
            "Secret and pullpass makes one; then registries must load ConfigMap "
            f"{registry.trust_config_map} again."
        ) from None
    return ca


def _next_ca(secret: Object, now: datetime) -> KeyPair | None:
    """Returns the prepared CA, None where there is none that can be used: `replace-ca` then creates another."""
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
    """Returns the CA certificate beside the leaf; older versions stored none."""
    try:
        return load_certificates(content(secret, CA)) if secret else []
    except (CertificateError, KeySecretError):
        return []


async def _check_unshared(
    known: KnownCAs, locations: KeyLocations, registry: Registry, state: KeyState, ca_secret: Object, now: datetime
) -> None:
    """Raises KeySecretError for a CA whose key another registry has: each would take the other's access tokens.

    The registry that has published the key may keep it, or else the first one in the list. Where another registry's CAs
    cannot be read, only a new key that people brought has to wait: ours are random.
    """
    ca, ours = state.ca.certificate, _trusts(state)
    for other in locations.registries:
        if other.name != registry.name:
            await known.refresh(other, now, max_age=math.inf if ours else FRESH_SECONDS)
    # No await from here to the claim: where two passes check one key at the same time, the second sees the claim.
    earlier = True
    for other in locations.registries:
        if other.name == registry.name:
            earlier = False
            continue
        theirs = known[other]
        if any(same_key(ca, one) for one in theirs.trusted):
            taken = earlier or not ours
        else:
            taken = earlier and not ours and theirs.stored is not None and same_key(theirs.stored, ca)
        if taken:
            raise KeySecretError(
                f"Secret {locations.namespace}/{registry.ca_secret} of registry {registry.name} has a key that "
                f"registry {other.name} has, too: each would take access tokens for the other. "
                "Put another CA there, or delete the Secret and pullpass makes one."
            )
        if theirs.error and not ours and not is_ours(ca_secret):
            raise KeySecretError(
                f"cannot tell whether the CA in {where(ca_secret)} of registry {registry.name} is used by registry "
                f"{other.name} as well, so it is not published yet: {theirs.error}. Make ConfigMap "
                f"{locations.namespace}/{other.trust_config_map} and Secret {locations.namespace}/{other.ca_secret} "
                "readable for the operator."
            )
    known.claim(registry, ca)


def _trusts(state: KeyState) -> bool:
    """Tells whether the registry may trust the key of its CA already: it is published, or has issued a leaf."""
    known = [one.certificate for one in state.trusted] + ([state.issuer] if state.issuer else [])
    return any(same_key(state.ca.certificate, one) for one in known)


async def _must_not_be_the_server_ca(kube: Kube, settings: OperatorSettings, keys: Keys) -> None:
    """Raises KeySecretError for a new CA that has the key of the server CA, which must not sign access tokens.

    A registry that trusts the key already keeps it: then `serving` refuses the server CA.
    """
    if not settings.server_certificates or _trusts(keys.state):
        return
    if (secret := await get_or_none(kube, SECRETS, settings.namespace, settings.server_ca_secret)) is None:
        return
    try:
        shared = same_key(pair_of(secret).certificate, keys.state.ca.certificate)
    except (KeySecretError, CertificateError):
        return  # a server CA that cannot be parsed issues nothing
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
    registry, state = keys.registry, keys.state
    grace = trust.retired_ca_grace(registry.access_token_lifetime)
    bundle = trust.trusted(state.trusted, state.wanted, now, grace=grace, distrust=distrust)
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
    return replace(keys, state=replace(state, trusted=bundle), trust_map=written)


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
    return replace(keys, state=replace(keys.state, leaf=leaf, issuer=issuer), leaf_secret=written)
