"""Everything the token server refuses, and the one body it says so with.

The body is the OCI distribution specification's error list, which docker, crane and skopeo print. Answers
to POST carry the keys of RFC 6749 as well, in the same object.
"""

import json
from typing import Any

REALM = 'Basic realm="pullpass", charset="UTF-8"'


class TokenRequestError(Exception):
    """A request that gets no access token. The text of the exception goes to the client."""

    status = 400
    code = "UNSUPPORTED"
    oauth = "invalid_request"
    outcome = "invalid"
    """Label of the metric."""

    def body(self, *, oauth: bool) -> bytes:
        """Returns the error body; `oauth` adds the keys of RFC 6749."""
        message = str(self)
        content: dict[str, Any] = {"errors": [{"code": self.code, "message": message, "detail": None}]}
        if oauth:
            content |= {"error": self.oauth, "error_description": message}
        return json.dumps(content, separators=(",", ":")).encode()

    def headers(self) -> dict[str, str]:
        """Returns the headers that belong to this refusal."""
        return {}


class InvalidRequestError(TokenRequestError):
    """400: the request cannot be understood."""


class InvalidScopeError(TokenRequestError):
    """400: a scope cannot be read."""

    oauth = "invalid_scope"


class UnsupportedGrantError(TokenRequestError):
    """400: a grant type other than password."""

    oauth = "unsupported_grant_type"


class TooLargeError(TokenRequestError):
    """413: the body is longer than any client's."""

    status = 413
    code = "SIZE_INVALID"


class HeadersTooLargeError(TokenRequestError):
    """431: request line and headers are longer than any client's."""

    status = 431
    code = "SIZE_INVALID"


class PageNotFound(TokenRequestError):
    """404: there is nothing under this path."""

    status = 404


class ExpectationFailed(TokenRequestError):
    """417: an Expect header other than 100-continue."""

    status = 417

    def __init__(self) -> None:
        super().__init__("the only expectation met is 100-continue")


class MethodNotAllowed(TokenRequestError):
    """405: a method other than GET and POST."""

    status = 405

    def headers(self) -> dict[str, str]:
        """Names the allowed methods (RFC 9110, 15.5.6)."""
        return {"Allow": "GET, POST"}


class UnauthenticatedError(TokenRequestError):
    """401. Every credential that does not work gets the same words; `reason` is for the audit line alone."""

    status = 401
    code = "UNAUTHORIZED"
    oauth = "invalid_grant"
    outcome = "unauthorized"

    def __init__(self, reason: str) -> None:
        super().__init__("authentication required: wrong or missing user name or password, or no access any more")
        self.reason = reason

    def headers(self) -> dict[str, str]:
        """Challenges for Basic credentials (RFC 7617)."""
        return {"WWW-Authenticate": REALM}


class LimitedError(TokenRequestError):
    """429: too many wrong credentials came before, and this is another one. Says neither of which sender nor of which
    user."""

    status = 429
    code = "TOOMANYREQUESTS"
    oauth = "slow_down"
    outcome = "limited"

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many wrong user names and passwords, try again later")
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        """Says when to try again, in seconds (RFC 6585, 4)."""
        return {"Retry-After": str(self.retry_after)}


class UnavailableError(TokenRequestError):
    """503: not now. The client may ask again after `retry_after` seconds."""

    status = 503
    code = "UNAVAILABLE"
    oauth = "temporarily_unavailable"
    outcome = "unavailable"
    retry_after = 2

    def headers(self) -> dict[str, str]:
        """Says when to try again, in seconds."""
        return {"Retry-After": str(self.retry_after)}


class BusyError(UnavailableError):
    """503: more passwords wait for their check than can be checked soon."""

    outcome = "busy"
    retry_after = 1


class FailedError(TokenRequestError):
    """500: a defect of ours."""

    status = 500
    code = "UNKNOWN"
    oauth = "server_error"
    outcome = "error"

    def __init__(self) -> None:
        super().__init__("the token server failed; its log says why")
