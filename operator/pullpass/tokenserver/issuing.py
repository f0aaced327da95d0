"""Issues access tokens and writes the answer that clients read (registry token specification and its
OAuth2 page)."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pullpass.access.grants import Access, scope_text
from pullpass.api.registries import Registry
from pullpass.api.times import format_time
from pullpass.signing.tokens import Signer, access_claims, new_token_id
from pullpass.tokenserver.errors import UnavailableError


@dataclass(frozen=True, slots=True)
class Issued:
    """An access token and the answer around it."""

    token_id: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Issues for one registry."""

    registry: Registry

    def issue(
        self,
        signer: Signer,
        subject: str,
        access: list[Access],
        now: datetime,
        *,
        ends_at: datetime | None,
        oauth: bool,
    ) -> Issued:
        """Signs an access token that ends with `ends_at`, the credential's own end, at the latest.

        `oauth` adds the granted scope, as an answer to POST must. Raises UnavailableError when the signing
        leaf is over.
        """
        if signer.not_after <= now:
            raise UnavailableError("the signing certificate has expired")
        token_id = new_token_id()
        claims = access_claims(
            issuer=self.registry.issuer,
            service=self.registry.service,
            subject=subject,
            access=access,
            now=now,
            lifetime=self.registry.access_token_lifetime,
            # A registry checks the certificate each time, so a token cannot outlive it anyway.
            not_after=signer.not_after if ends_at is None else min(ends_at, signer.not_after),
            token_id=token_id,
        )
        jwt = signer.sign(claims)
        # Both names, equal: old clients read `token`, OAuth2 ones only `access_token`.
        answer: dict[str, str | int] = {
            "token": jwt,
            "access_token": jwt,
            "expires_in": max(claims["exp"] - int(now.timestamp()), 1),
            "issued_at": format_time(now),
        }
        if oauth:
            answer |= {"scope": scope_text(access), "token_type": "Bearer"}
        return Issued(token_id, json.dumps(answer, separators=(",", ":")).encode())


def credential_end(*ends: datetime | None) -> datetime | None:
    """The earliest of some ends, None where there is none."""
    return min((end.astimezone(UTC) for end in ends if end is not None), default=None)
