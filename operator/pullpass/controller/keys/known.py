"""Remembers which CAs each registry has, for all passes over keys together.

Two registries that trust one key would take each other's access tokens, so a new key is compared with those of all
other registries. To read them in each pass would mean 64 times 63 ConfigMaps for 64 registries. So each pass notes the
CAs of its own registry; those of others are read only when a new key is to be published, or nothing is known of them.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from cryptography import x509

from pullpass.api.registries import Registry
from pullpass.controller.keys.storage import KeySecretError, get_or_none, pair_of
from pullpass.controller.settings import KeyLocations
from pullpass.kube.client import Kube, KubeError, Object
from pullpass.kube.resources import CONFIG_MAPS, SECRETS
from pullpass.signing import trust
from pullpass.signing.certificates import CertificateError

FRESH_SECONDS = 30.0
"""Maximum age of what is known of a registry when another registry's new key is compared with it."""
READ_SECONDS = 5.0
"""Time limit for reading another registry's objects: if that hangs, this registry must not wait for it."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RegistryCAs:
    """The CAs of one registry: public parts only."""

    trusted: tuple[x509.Certificate, ...] = ()
    """Those in its trust ConfigMap."""
    stored: x509.Certificate | None = None
    """The one in its CA Secret, None where there is none that can be parsed (and that could sign)."""
    error: str = ""
    """Why the last attempt to read them failed, empty where it did not. The rest is then older."""


class KnownCAs:
    """Caches the CAs of all registries."""

    def __init__(self, kube: Kube, locations: KeyLocations, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._kube = kube
        self._locations = locations
        self._monotonic = monotonic
        self._known: dict[str, tuple[float, RegistryCAs]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def note(self, registry: Registry, ca_secret: Object | None, trusted: Sequence[x509.Certificate]) -> None:
        """Stores a registry's CA Secret and bundle, which were read or written just now."""
        self._note(registry, RegistryCAs(tuple(trusted), _certificate(ca_secret)))

    def claim(self, registry: Registry, ca: x509.Certificate) -> None:
        """Adds a CA to those that a registry trusts, because its pass is about to publish it."""
        cas = self[registry]
        self._note(registry, replace(cas, trusted=(*cas.trusted, ca)))

    def __getitem__(self, registry: Registry) -> RegistryCAs:
        """Returns what is known of a registry, without reading anything."""
        _, cas = self._known.get(registry.name, (0.0, RegistryCAs()))
        return cas

    async def refresh(self, registry: Registry, now: datetime, *, max_age: float = math.inf) -> None:
        """Reads a registry's CAs, unless the last attempt was less than `max_age` seconds ago.

        Never raises: what goes wrong is stored as `error` of that registry.
        """
        async with self._locks.setdefault(registry.name, asyncio.Lock()):
            at, _ = self._known.get(registry.name, (-math.inf, None))
            if self._monotonic() - at <= max_age and at != -math.inf:
                return
            namespace = self._locations.namespace
            try:
                async with asyncio.timeout(READ_SECONDS):
                    trust_map = await get_or_none(self._kube, CONFIG_MAPS, namespace, registry.trust_config_map)
                    ca_secret = await get_or_none(self._kube, SECRETS, namespace, registry.ca_secret)
            except (KubeError, TimeoutError) as error:
                said = str(error) or f"no answer within {READ_SECONDS:.0f} s"
                self._note(registry, replace(self[registry], error=said))
                logger.warning(
                    "cannot read the CAs of registry %s to compare them with those of others: %s", registry.name, said
                )
            else:
                bundle = trust.authorities((trust_map or {}).get("data") or {}, now)
                self.note(registry, ca_secret, [one.certificate for one in bundle])

    def _note(self, registry: Registry, cas: RegistryCAs) -> None:
        self._known[registry.name] = (self._monotonic(), cas)


def _certificate(ca_secret: Object | None) -> x509.Certificate | None:
    try:
        return pair_of(ca_secret).certificate if ca_secret else None
    except (KeySecretError, CertificateError):
        return None
