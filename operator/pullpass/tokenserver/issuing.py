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
from pullpass.tokenserver.http.answers import rendered


@dataclass(slots=True)
class Issued:
    """An access token and the answer around it."""

    token_id: str
    second: int
    """When it was issued, in seconds since 1970."""
    ends: int
    """When it ends."""
    _opening: bytes = field(repr=False)
    """The answer up to the value of `expires_in`."""
    _answer: tuple[int, bytes] = field(default=(-1, b""), repr=False)
    """The last second that it was rendered for, and the answer then: many ask in the same one."""

    @property
    def length(self) -> int:
        """About as many bytes as the body has."""
        return len(self._opening)

    def body(self, second: int) -> bytes:
        """Renders the answer in that second. `expires_in` is what is left of the token by then: some clients count it
        from `issued_at`, as the registry token specification says, others from the answer, as RFC 6749 says, and none
        may come to a later end than the token's.
        """
        return b"%b%d}" % (self._opening, max(self.ends - second, 1))

    def answer(self, second: int) -> bytes:
        """Renders it with its headers, as it goes over the wire."""
        if self._answer[0] != second:
            self._answer = second, rendered(second, self.body(second))
        return self._answer[1]


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
        # Both names, equal: old clients read `token`, OAuth2 ones only `access_token`. Neither a JWT nor a time has
        # anything in it that JSON escapes.
        opening = f'{{"token":"{jwt}","access_token":"{jwt}","issued_at":"{format_time(now)}",'
        if oauth:
            opening += f'"scope":{json.dumps(scope_text(access))},"token_type":"Bearer",'
        return Issued(token_id, int(now.timestamp()), claims["exp"], f'{opening}"expires_in":'.encode())


def credential_end(*ends: datetime | None) -> datetime | None:
    """Returns the earliest of some ends, None where there is none."""
    return min((end.astimezone(UTC) for end in ends if end is not None), default=None)
