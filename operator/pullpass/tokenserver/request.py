"""Reads a token request: GET with Basic credentials (registry token specification) or a POST form (its
OAuth2 page).

Clients are many and old, so much is taken as it comes: scopes repeated or joined, empty values, missing
`client_id`, unknown parameters. What would change who is authenticated, or for which service, is not.
"""

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from pullpass.access import scopes
from pullpass.access.scopes import Scope, ScopeError
from pullpass.api.registries import Registries, Registry
from pullpass.tokenserver.errors import (
    InvalidRequestError,
    InvalidScopeError,
    UnauthenticatedError,
    UnsupportedGrantError,
)

Fields = dict[str, list[str]]
"""Parameters by name, with all values of each."""

FORM = "application/x-www-form-urlencoded"
FIELDS = 64
"""Parameters in one request; the limit of scopes is lower."""
CREDENTIAL_LENGTH = 1024
"""Characters of a user name or password; ours are far below."""


@dataclass(slots=True)
class TokenRequest:
    """Who asks, for what. `username` is None where no credentials came; the password is left out of the
    repr."""

    scopes: tuple[Scope, ...]
    username: str | None
    password: str = field(default="", repr=False)


@dataclass(slots=True)
class RawRequest:
    """A token request as it came over the wire. Not frozen only because that takes five times as long to make."""

    method: str
    query: str
    """The query string, still encoded."""
    body: bytes = field(repr=False)
    content_type: str
    authorization: tuple[str, ...] = field(repr=False)
    """All Authorization headers."""
    remote: str
    """Address of the sender."""
    client: str = ""
    """What the client calls itself (User-Agent)."""

    def parts(self) -> tuple[str, ...]:
        """Returns all that decides about the answer, as text: everything but who sent it and with which program."""
        return (self.method, self.query, self.body.decode("latin-1"), self.content_type, *self.authorization)

    def fields(self) -> Fields:
        """Decodes the parameters of a GET, or those of a POST's form. Raises InvalidRequestError."""
        if self.method != "POST":
            return _fields(self.query)
        if self.content_type and self.content_type.partition(";")[0].strip().lower() != FORM:
            raise InvalidRequestError(f"the body of a token request is {FORM}")
        try:
            return _fields(self.body.decode("ascii"))
        except UnicodeDecodeError:
            raise InvalidRequestError("the body is not a form: bytes beyond ASCII must be percent-encoded") from None

    def read(self, fields: Fields) -> TokenRequest:
        """Reads the rest of it, given its parameters.

        A form's credentials go before the header's. Raises InvalidRequestError, InvalidScopeError,
        UnsupportedGrantError, and UnauthenticatedError for credentials that cannot be decoded.
        """
        asked = _scopes(fields)
        credentials = _form(fields) if self.method == "POST" else None
        return _request(asked, credentials or _basic(self.authorization), fields)


def registry_of(fields: Fields, registries: Registries) -> Registry:
    """Finds the registry whose service is requested; a client that names none means the default one. Raises
    InvalidRequestError."""
    named: Registry | None = None
    for service in filter(None, fields.get("service", ())):
        registry = registries.of_service(service)
        if registry is None:
            shown = ascii(service if len(service) <= 64 else service[:64] + "...")
            # Which there are is for those to know who run them.
            raise InvalidRequestError(
                f"no tokens are issued for the service {shown}; compare the registry's `service` with those of pullpass"
            )
        if named not in (None, registry):
            raise InvalidRequestError("a request is for one service, and this one names two")
        named = registry
    return named or registries.default


def _form(fields: Fields) -> tuple[str, str] | None:
    grant = _single(fields, "grant_type")
    if grant == "refresh_token":
        # Not 400: no such token was ever issued here, and clients then ask for the password again.
        raise UnauthenticatedError("refresh token")
    if grant != "password":
        raise UnsupportedGrantError("grant_type must be password")
    credentials = _single(fields, "username"), _single(fields, "password")
    return credentials if credentials != ("", "") else None


def _request(asked: tuple[Scope, ...], credentials: tuple[str, str] | None, fields: Fields) -> TokenRequest:
    if credentials is None or credentials == ("", ""):
        return TokenRequest(asked, None)
    username, password = credentials
    if max(len(username), len(password)) > CREDENTIAL_LENGTH:
        raise UnauthenticatedError("oversized credentials")
    if any(account not in ("", username) for account in fields.get("account", ())):
        raise InvalidRequestError("account is not the user whose password was sent")
    return TokenRequest(asked, username, password)


def _fields(text: str) -> Fields:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS)
    except ValueError:
        raise InvalidRequestError(f"more than {FIELDS} parameters in one request") from None
    fields: Fields = {}
    for key, value in pairs:
        fields.setdefault(key, []).append(value)
    return fields


def _single(fields: Fields, key: str) -> str:
    values = fields.get(key, [""])
    if len(values) > 1:
        raise InvalidRequestError(f"{key} stands more than once in the request")
    return values[0]


def _scopes(fields: Fields) -> tuple[Scope, ...]:
    values: Iterable[str] = fields.get("scope", ())
    try:
        return scopes.parse(values)
    except ScopeError as error:
        raise InvalidScopeError(str(error)) from None


def _basic(headers: Sequence[str]) -> tuple[str, str] | None:
    """User and password of a Basic header (RFC 7617): UTF-8, split at the first colon."""
    if not headers:
        return None
    if len(headers) > 1:
        raise InvalidRequestError("more than one Authorization header")
    scheme, _, encoded = headers[0].strip().partition(" ")
    if scheme.lower() != "basic":
        raise UnauthenticatedError("not Basic credentials")
    try:
        username, colon, password = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise UnauthenticatedError("unreadable Basic credentials") from None
    if not colon:
        raise UnauthenticatedError("unreadable Basic credentials")
    return username, password
