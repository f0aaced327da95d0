"""Creates and renews the server CA and the certificates of our servers, and publishes that CA.

It is not the CA of access tokens. Registries trust that one to say who may pull, and clients trust this one to say who
a server is; neither may do the other's part.
"""

import logging
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.serialization import Encoding

from pullpass.controller import metrics
from pullpass.controller.keys.known import FRESH_SECONDS, KnownCAs
from pullpass.controller.keys.storage import (
    CA,
    CERTIFICATE,
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
from pullpass.controller.settings import OperatorSettings, ServerCertificate
from pullpass.kube.client import Kube, KubeError, Object
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
from pullpass.signing.certificates import (
    CertificateError,
    KeyPair,
    check_ca,
    new_server_ca,
    new_server_certificate,
    same_key,
    server_certificate_due,
)

RECHECK_AFTER = timedelta(minutes=10)
"""How soon the operator notices that somebody replaced the CA or deleted a Secret."""

logger = logging.getLogger(__name__)


async def reconcile(kube: Kube, settings: OperatorSettings, now: datetime, known: KnownCAs | None = None) -> datetime:
    """Creates, renews and publishes what is missing, due or different. Returns when to check again.

    `known` is shared with the passes over the registries' keys. Raises KeySecretError where people have to act,
    KubeError where the API server failed or refused. An error with one certificate is raised after all others were
    handled.
    """
    trust_map = await get_or_none(kube, CONFIG_MAPS, settings.namespace, settings.server_trust_configmap)
    ca = await _ca(kube, settings, trust_map, known or KnownCAs(kube, settings), now)
    # The CA is published before the certificates that it issues.
    await _publish(kube, settings, trust_map, ca)
    dues, errors = [now + RECHECK_AFTER], list[KeySecretError | KubeError]()
    for wanted in settings.server_certificates:
        try:
            dues.append(await _certificate(kube, settings, ca, wanted, now))
        except (KeySecretError, KubeError) as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise KeySecretError(" ".join(map(str, errors)))
    return min(dues)


async def _ca(
    kube: Kube, settings: OperatorSettings, trust_map: Object | None, known: KnownCAs, now: datetime
) -> KeyPair:
    name = settings.server_ca_secret
    secret = await get_or_create(kube, settings.namespace, name, lambda: files(new_server_ca(now)), kind=TLS)
    try:
        ca = pair_of(secret)
        check_ca(ca, now)
    except CertificateError as error:
        raise KeySecretError(
            f"{where(secret)} cannot be used as a CA: {error}. Put a valid CA there, or delete the Secret and pullpass "
            f"makes one; then clients must trust ConfigMap {settings.server_trust_configmap} anew."
        ) from None
    published = (trust_map or {}).get("data") == _trust_data(ca)
    for registry in settings.registries:
        await known.refresh(registry, now, max_age=FRESH_SECONDS)
        cas = known[registry]
        if any(same_key(ca.certificate, one) for one in cas.trusted):
            raise KeySecretError(
                f"{where(secret)} has a key that registry {registry.name} trusts to sign access tokens: whoever could "
                "vouch for a server could then also do that. Put another CA there, or delete the Secret and pullpass "
                f"makes one; then clients must trust ConfigMap {settings.server_trust_configmap} anew."
            )
        if cas.error and not published and not is_ours(secret):
            raise KeySecretError(
                f"cannot tell whether registry {registry.name} trusts the key in {where(secret)} to sign access "
                f"tokens, so the server CA is not published yet: {cas.error}. Make ConfigMap "
                f"{settings.namespace}/{registry.trust_config_map} readable for the operator."
            )
    return ca


async def _certificate(
    kube: Kube, settings: OperatorSettings, ca: KeyPair, wanted: ServerCertificate, now: datetime
) -> datetime:
    def make() -> dict[str, bytes]:
        try:
            made = files(new_server_certificate(ca, wanted.hosts, now))
        except CertificateError as error:
            raise KeySecretError(
                f"cannot issue the certificate for Secret {settings.namespace}/{wanted.secret}: {error}. "
                "Correct the host names that the chart was given."
            ) from None
        above = b"" if _is_root(ca) else _bundle(ca)
        return made | {CERTIFICATE: made[CERTIFICATE] + above, CA: _bundle(ca)}

    secret = await get_or_create(kube, settings.namespace, wanted.secret, make, kind=TLS)
    try:
        pair = pair_of(secret)
        due = server_certificate_due(pair, ca.certificate, wanted.hosts, now)
        if content(secret, CA) != _bundle(ca):
            due = now
        reason = "it was due, issued by another CA, or for other names"
    except (CertificateError, KeySecretError):
        due, reason = now, "it could not be parsed"
    if due <= now:
        must_be_ours(secret, "Delete it, or let the chart use it as it is: tls.secretName.")
        data = make()
        # With the resourceVersion that was examined: after a conflict the next attempt examines it again.
        secret = await kube.replace(SECRETS, settings.namespace, wanted.secret, {**secret, "data": encoded(data)})
        pair = pair_of(secret)
        due = server_certificate_due(pair, ca.certificate, wanted.hosts, now)
        logger.info(
            "%s has a new certificate until %s: %s. A server that reads it only when it starts, as the trial registry "
            "does, must be restarted.",
            where(secret),
            pair.not_after.isoformat(),
            reason,
        )
    metrics.SERVER_CERTIFICATE.labels(wanted.secret).set(pair.not_before.timestamp())
    return due


async def _publish(kube: Kube, settings: OperatorSettings, trust_map: Object | None, ca: KeyPair) -> None:
    namespace, name, data = settings.namespace, settings.server_trust_configmap, _trust_data(ca)
    if trust_map is None:
        metadata = {"name": name, "namespace": namespace, "labels": OURS}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
        await kube.create(CONFIG_MAPS, namespace, body)
    else:
        must_be_ours(trust_map, "Delete it, or choose another name (keys.serverTrustConfigMap of the chart).")
        if trust_map.get("data") == data:
            return
        await kube.replace(CONFIG_MAPS, namespace, name, {**trust_map, "data": data})
    logger.info("ConfigMap %s/%s has a new server CA: have clients trust it", namespace, name)


def _trust_data(ca: KeyPair) -> dict[str, str]:
    return {CA: _bundle(ca).decode()}


def _is_root(ca: KeyPair) -> bool:
    return ca.certificate.issuer == ca.certificate.subject


def _bundle(ca: KeyPair) -> bytes:
    """Returns the CA and, where it is an intermediate one, what its Secret has of those above it, as PEM."""
    return ca.certificate_pem + b"".join(above.public_bytes(Encoding.PEM) for above in ca.chain)
