"""Builds what registries mount: the trust bundle and the JWKS, as the contents of one ConfigMap.

A registry reads the bundle when it starts, which may be at any time. So a CA is added before its first leaf signs, and
removed only when no access token that its leaves signed is valid any more.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from pullpass.signing import jwks
from pullpass.signing.certificates import CertificateError, issued_by, load_certificates

BUNDLE_KEY = "ca.crt"
JWKS_KEY = "jwks.json"
AUTHORITIES_KEY = "authorities.json"
"""Since when and until when each CA is in the bundle, for the operator and for people."""
MAX_REPLACED_KEYS = 4
"""Replaced keys in the JWKS: far more than regular renewals leave."""
RETIRED_CA_GRACE = timedelta(hours=1)
"""How long a CA that no longer signs stays in the bundle: longer than token servers take to get the new leaf."""
_MARGIN = timedelta(minutes=10)
"""Between the expiry of a CA's last access token and its removal, for clock skew and the registries' leeway."""


@dataclass(frozen=True)
class Authority:
    """A CA in the bundle."""

    certificate: x509.Certificate
    since: datetime
    """When it was first published."""
    until: datetime | None = None
    """When it is removed from the bundle, None while it is needed."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hexadecimal."""
        return fingerprint(self.certificate)


def fingerprint(certificate: x509.Certificate) -> str:
    """Returns the SHA-256 of a certificate, in hexadecimal."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def retired_ca_grace(access_token_lifetime: timedelta) -> timedelta:
    """Returns how long a CA that no longer signs stays in the bundle."""
    return max(RETIRED_CA_GRACE, access_token_lifetime + _MARGIN)


def authorities(published: Mapping[str, str], now: datetime) -> tuple[Authority, ...]:
    """Reads the CAs of the bundle from the data of the ConfigMap; empty where it cannot be parsed.

    A CA without a date, or with one in the future (by a wrong clock, or an edit), counts as published now.
    """
    try:
        certificates = load_certificates(published.get(BUNDLE_KEY, "").encode())
    except CertificateError:
        return ()
    dates = _dates(published.get(AUTHORITIES_KEY, ""))
    found = []
    for one in certificates:
        since, until = dates.get(fingerprint(one), (now, None))
        found.append(Authority(one, min(since, now), until))
    return tuple(found)


def trusted(
    before: Iterable[Authority],
    wanted: Sequence[x509.Certificate],
    now: datetime,
    *,
    grace: timedelta = RETIRED_CA_GRACE,
    distrust: bool = False,
) -> tuple[Authority, ...]:
    """Returns the CAs that the bundle must have: those `wanted`, and the others of `before` for `grace`.

    A date in the ConfigMap cannot extend that. It also holds for a CA that was renewed with the same key: to a registry
    whose clock is behind, the new certificate is not valid yet. `distrust` removes all others at once.
    """
    known = {authority.fingerprint: authority for authority in before}
    kept = {}
    for certificate in wanted:
        since = known[fingerprint(certificate)].since if fingerprint(certificate) in known else now
        kept[fingerprint(certificate)] = Authority(certificate, since)
    for one, authority in known.items():
        if one in kept or distrust:
            continue
        until = min(authority.until or now + grace, now + grace)
        if now < min(until, authority.certificate.not_valid_after_utc):
            kept[one] = replace(authority, until=until)
    return tuple(kept.values())


def contents(
    bundle: Sequence[Authority],
    leaves: Sequence[x509.Certificate],
    published: Mapping[str, str],
    now: datetime,
) -> dict[str, str]:
    """Returns the new data of the ConfigMap, given its present data, `published`.

    The bundle has the CAs that issue leaves but none above them: other certificates of those must not sign access
    tokens. The JWKS has the keys of `leaves` first, which are in use or will be, and then replaced keys until their
    certificates expire, as long as their CA is in the bundle.
    """
    replaced = [
        certificate
        for certificate in jwks.certificates(published.get(JWKS_KEY, ""))
        if certificate not in leaves and _counts(certificate, bundle, now)
    ]
    replaced.sort(key=lambda certificate: certificate.not_valid_before_utc, reverse=True)
    return {
        BUNDLE_KEY: "".join(one.certificate.public_bytes(Encoding.PEM).decode() for one in bundle),
        JWKS_KEY: jwks.document([*leaves, *replaced[:MAX_REPLACED_KEYS]]),
        AUTHORITIES_KEY: json.dumps([_describe(authority) for authority in bundle], indent=2) + "\n",
    }


def _counts(certificate: x509.Certificate, bundle: Iterable[Authority], now: datetime) -> bool:
    return jwks.valid_at(certificate, now) and any(issued_by(certificate, one.certificate) for one in bundle)


def _describe(authority: Authority) -> dict[str, Any]:
    until = {} if authority.until is None else {"until": authority.until.astimezone(UTC).isoformat()}
    return {
        "sha256": authority.fingerprint,
        "subject": authority.certificate.subject.rfc4514_string(),
        "notAfter": authority.certificate.not_valid_after_utc.isoformat(),
        "since": authority.since.astimezone(UTC).isoformat(),
        **until,
    }


def _dates(text: str) -> dict[str, tuple[datetime, datetime | None]]:
    """Parses the dates of CAs, by fingerprint. Skips entries that cannot be parsed."""
    try:
        entries = json.loads(text)
    except ValueError:
        return {}
    dates = {}
    for one in entries if isinstance(entries, list) else []:
        try:
            since = datetime.fromisoformat(one["since"])
            until = datetime.fromisoformat(one["until"]) if "until" in one else None
            # Without a zone a date cannot be compared with the clock.
            if since.tzinfo and (until is None or until.tzinfo):
                dates[str(one["sha256"])] = (since, until)
        except (KeyError, TypeError, ValueError):
            continue
    return dates
