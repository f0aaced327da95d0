"""Builds what registries mount: the trust bundle and the JWKS, as the contents of one ConfigMap.

A registry reads the bundle when it starts, and that is at any time. So a CA is in it before anything is signed under
it, and stays until no access token that was signed under it is valid any more.
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
"""Since and until when each CA of the bundle is in it, for us and for people who look."""
REPLACED_KEYS = 4
"""At most so many replaced keys stay in the JWKS: far more than a regular renewal ever leaves."""
RETIRED_CA_GRACE = timedelta(hours=1)
"""How long a CA stays in the bundle that signs no more: longer than a token server takes to hear of its new leaf."""
_MARGIN = timedelta(minutes=10)
"""Between the end of the last access token of a CA and the CA's leaving: clocks differ, and registries are lenient."""


@dataclass(frozen=True)
class Authority:
    """A CA in the bundle."""

    certificate: x509.Certificate
    since: datetime
    """When it was first published."""
    until: datetime | None = None
    """When it leaves the bundle; None while something wants it."""

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
    """Reads the CAs of the bundle in the ConfigMap.

    One without a known date counts as published just now, and so does one with a date in the future: a clock was
    wrong, or somebody wrote there.
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
    stays: timedelta = RETIRED_CA_GRACE,
    distrust: bool = False,
) -> tuple[Authority, ...]:
    """Returns the CAs that the bundle is to have: those that are wanted, and the others for as long as they `stay`,
    whatever is written there.

    One that was renewed over its key stays as long: a registry with a slow clock takes its successor for one that is
    not valid yet. `distrust` makes all others go at once.
    """
    known = {authority.fingerprint: authority for authority in before}
    kept = {}
    for certificate in wanted:
        since = known[fingerprint(certificate)].since if fingerprint(certificate) in known else now
        kept[fingerprint(certificate)] = Authority(certificate, since)
    for one, authority in known.items():
        if one in kept or distrust:
            continue
        until = min(authority.until or now + stays, now + stays)
        if now < min(until, authority.certificate.not_valid_after_utc):
            kept[one] = replace(authority, until=until)
    return tuple(kept.values())


def contents(
    bundle: Sequence[Authority],
    leaves: Sequence[x509.Certificate],
    published: Mapping[str, str],
    now: datetime,
) -> dict[str, str]:
    """Returns the ConfigMap's data, given what it holds now.

    The bundle is the CAs that issue leaves and nothing above them: what else their roots certified must not sign access
    tokens. The JWKS has the keys of `leaves` first, which are in use or about to be, and keeps those they replaced
    until their certificates end, as long as they are of a CA in the bundle.
    """
    replaced = [
        certificate
        for certificate in jwks.certificates(published.get(JWKS_KEY, ""))
        if certificate not in leaves and _counts(certificate, bundle, now)
    ]
    replaced.sort(key=lambda certificate: certificate.not_valid_before_utc, reverse=True)
    return {
        BUNDLE_KEY: "".join(one.certificate.public_bytes(Encoding.PEM).decode() for one in bundle),
        JWKS_KEY: jwks.document([*leaves, *replaced[:REPLACED_KEYS]]),
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
    """Parses the dates of CAs, by fingerprint. What cannot be parsed is left out."""
    try:
        told = json.loads(text)
    except ValueError:
        return {}
    dates = {}
    for one in told if isinstance(told, list) else []:
        try:
            since = datetime.fromisoformat(one["since"])
            until = datetime.fromisoformat(one["until"]) if "until" in one else None
            # Without a zone a date cannot be compared with the clock.
            if since.tzinfo and (until is None or until.tzinfo):
                dates[str(one["sha256"])] = (since, until)
        except (KeyError, TypeError, ValueError):
            continue
    return dates
