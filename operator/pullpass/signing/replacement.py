"""The replacement of a CA: at which step it is, and when a leaf of the new one is due.

A new CA is published beside the old one, registries load both, then the new one signs, and in the end the old one
leaves. Nobody can see which bundle a registry has loaded, so people say when to switch. Where the new CA has taken the
place of the old one in its Secret, whose key is gone with it, it switches by itself before the old leaf ends.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from cryptography import x509

from pullpass.signing.certificates import KeyPair, issued_by, leaf_due, same_authority, usable
from pullpass.signing.trust import Authority, fingerprint

SPREAD = timedelta(minutes=2)
"""How long a change of the ConfigMap may take to reach the files of every pod that mounts it: the kubelet looks once a
minute, at what it has read at most a minute ago."""
GRACE = timedelta(days=14)
"""How long the operator waits for people to have registries load a CA that took the place of another."""
RESERVE = timedelta(days=7)
"""It waits less long where the old leaf ends: so much of its life is kept for what may go wrong."""


class ReplacementStep(StrEnum):
    """Where the replacement of a CA is."""

    NONE = "none"
    """One CA, which signs."""
    PREPARED = "prepared"
    """The next CA is published beside the one that signs, and waits for `switch-ca`."""
    REPLACED = "replaced"
    """The CA's Secret has another CA, which is published and signs from a date on, or from `switch-ca`."""
    LEAVING = "leaving"
    """The new CA signs; the old one leaves the bundle at a date."""


@dataclass(frozen=True)
class KeyState:
    """What there is of one registry's keys; `leaf` is the one in use."""

    ca: KeyPair
    next: KeyPair | None
    leaf: KeyPair | None
    issuer: x509.Certificate | None
    """The CA that issued the leaf, where it is known."""
    trusted: tuple[Authority, ...]
    """What is published."""

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
        """Whether the leaf in use is of the CA in the Secret."""
        return self.issuer is not None and same_authority(self.issuer, self.ca.certificate)

    @property
    def step(self) -> ReplacementStep:
        """Where the replacement is; a new one that has begun counts before an old one that has not ended."""
        if self.issuer and not self.switched:
            return ReplacementStep.REPLACED
        if self.next:
            return ReplacementStep.PREPARED
        return ReplacementStep.LEAVING if any(authority.until for authority in self.trusted) else ReplacementStep.NONE

    def published(self, certificate: x509.Certificate) -> datetime | None:
        """Returns since when the bundle has a certificate; None where it has not."""
        return next((one.since for one in self.trusted if one.fingerprint == fingerprint(certificate)), None)

    def leaf_due(self, now: datetime) -> datetime:
        """Returns when a new leaf is to be issued unless somebody asks for one before: `now` where none works."""
        if self.leaf is None or self.issuer is None or not usable(self.leaf, self.issuer, now):
            return now
        if self.switched:
            return leaf_due(self.leaf, self.ca.certificate, now)
        since = self.published(self.ca.certificate) or now
        ends = min(self.leaf.not_after, self.issuer.not_valid_after_utc)
        return min(max(min(since + GRACE, ends - RESERVE), since + SPREAD), ends)


def issuer_of(leaf: x509.Certificate, candidates: Iterable[x509.Certificate]) -> x509.Certificate | None:
    """Returns which CA issued the leaf. Of one that was renewed over its key, the certificate that ends last."""
    issuers = [one for one in candidates if issued_by(leaf, one)]
    return max(issuers, key=lambda one: one.not_valid_after_utc, default=None)
