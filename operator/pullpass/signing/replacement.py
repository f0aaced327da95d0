"""Computes at which step the replacement of a CA is, and when to issue a leaf of the new CA.

The new CA is published beside the old one, registries load both, the new one signs, and at last the old one is removed
from the bundle. The operator cannot see which bundle a registry has loaded, so people say when to switch. Where
somebody overwrote the old CA in its Secret, its key is lost; then the operator switches by itself before the old leaf
expires.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from pullpass.signing.certificates import KeyPair, issued_by, leaf_due, same_authority, usable
from pullpass.signing.trust import Authority, fingerprint

PROPAGATION_DELAY = timedelta(minutes=2)
"""How long a change of the ConfigMap may take to reach the files of every pod that mounts it: the kubelet looks once a
minute, at a copy that is at most a minute old."""
GRACE = timedelta(days=14)
"""How long the operator waits for people to have registries load a CA that overwrote another."""
MIN_LEAF_REMAINING = timedelta(days=7)
"""It waits less long where the old leaf would have less than this left: time to correct what goes wrong."""


class ReplacementStep(StrEnum):
    """The steps of a CA's replacement."""

    NONE = "none"
    """There is one CA, which signs."""
    PREPARED = "prepared"
    """The next CA is published beside the one that signs, and waits for `switch-ca`."""
    REPLACED = "replaced"
    """The CA's Secret has another CA, which is published, and signs from a date on or after `switch-ca`."""
    LEAVING = "leaving"
    """The new CA signs, and the old one is removed from the bundle at a date."""


@dataclass(frozen=True)
class KeyState:
    """The keys of one registry: its CA, the prepared next CA, and the leaf in use."""

    ca: KeyPair
    next: KeyPair | None
    leaf: KeyPair | None
    issuer: x509.Certificate | None
    """The CA that issued the leaf, None where that is unknown."""
    trusted: tuple[Authority, ...]
    """The CAs in the published bundle."""

    @property
    def wanted(self) -> list[x509.Certificate]:
        """The CAs that must be in the bundle: the one that signs, the one that is to sign, and the next."""
        found = [self.ca.certificate]
        if self.issuer and not self.switched:
            found.insert(0, self.issuer)
        if self.next and not any(same_authority(self.next.certificate, one) for one in found):
            found.append(self.next.certificate)
        return found

    @property
    def switched(self) -> bool:
        """Whether the CA in the Secret issued the leaf in use."""
        return self.issuer is not None and same_authority(self.issuer, self.ca.certificate)

    @property
    def step(self) -> ReplacementStep:
        """The step of the replacement. If a second one has begun before the first has ended, that of the second."""
        if self.issuer and not self.switched:
            return ReplacementStep.REPLACED
        if self.next:
            return ReplacementStep.PREPARED
        return ReplacementStep.LEAVING if any(authority.until for authority in self.trusted) else ReplacementStep.NONE

    def published(self, certificate: x509.Certificate) -> datetime | None:
        """Returns since when a certificate is in the bundle, None where it is not."""
        return next((one.since for one in self.trusted if one.fingerprint == fingerprint(certificate)), None)

    def leaf_due(self, now: datetime) -> datetime:
        """Returns when to issue a new leaf, unless people switch earlier: `now` where no leaf is usable."""
        if self.leaf is None or self.issuer is None or not usable(self.leaf, self.issuer, now):
            return now
        if self.switched:
            return leaf_due(self.leaf, self.ca.certificate, now)
        since = self.published(self.ca.certificate) or now
        ends = min(self.leaf.not_after, self.issuer.not_valid_after_utc)
        return min(max(min(since + GRACE, ends - MIN_LEAF_REMAINING), since + PROPAGATION_DELAY), ends)


def issuer_of(leaf: x509.Certificate, candidates: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """Returns the candidate that issued the leaf; of several with the same key, the one that expires last."""
    issuers = [one for one in candidates if issued_by(leaf, one)]
    return max(issuers, key=lambda one: one.not_valid_after_utc, default=None)
