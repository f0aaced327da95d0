"""The refusals of the token server, and the error body that they share.

The body is the error list of the OCI distribution specification, which docker, crane and skopeo print. Answers to POST
also have the keys of RFC 6749, in the same object.
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
    """Value of the label `outcome` in metrics and of `decision` in audit lines."""

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
    """400: the request is malformed."""


class InvalidScopeError(TokenRequestError):
    """400: a scope cannot be parsed."""

    oauth = "invalid_scope"


class UnsupportedGrantError(TokenRequestError):
    """400: a grant type other than password."""

    oauth = "unsupported_grant_type"


class TooLargeError(TokenRequestError):
    """413: the body is longer than that of any real client."""

    status = 413
    code = "SIZE_INVALID"


class HeadersTooLargeError(TokenRequestError):
    """431: the request line or the headers are longer than those of any real client."""

    status = 431
    code = "SIZE_INVALID"


class PageNotFound(TokenRequestError):
    """404: there is nothing under this path."""

    status = 404


class ExpectationFailed(TokenRequestError):
    """417: an Expect header other than 100-continue."""

    status = 417

    def __init__(self) -> None:
        super().__init__("cannot meet the Expect header: only 100-continue is supported")


class MethodNotAllowed(TokenRequestError):
    """405: a method other than GET and POST."""

    status = 405

    def headers(self) -> dict[str, str]:
        """Returns the allowed methods (RFC 9110, 15.5.6)."""
        return {"Allow": "GET, POST"}


class UnauthenticatedError(TokenRequestError):
    """401: the credentials do not work. The client always gets the same text; `reason` is for the audit line only."""

    status = 401
    code = "UNAUTHORIZED"
    oauth = "invalid_grant"
    outcome = "unauthorized"

    def __init__(self, reason: str) -> None:
        super().__init__("authentication required: wrong or missing user name or password, or no access any more")
        self.reason = reason

    def headers(self) -> dict[str, str]:
        """Returns the challenge for Basic credentials (RFC 7617)."""
        return {"WWW-Authenticate": REALM}


class LimitedError(TokenRequestError):
    """429: another failed login after too many; `retry_after` is in seconds.

    The client is not told whether its address or the user name is over the limit.
    """

    status = 429
    code = "TOOMANYREQUESTS"
    oauth = "slow_down"
    outcome = "limited"

    def __init__(self, retry_after: int) -> None:
        super().__init__("too many failed logins, try again later")
        self.retry_after = retry_after

    def headers(self) -> dict[str, str]:
        """Returns after how many seconds to try again (RFC 6585, 4)."""
        return {"Retry-After": str(self.retry_after)}


class UnavailableError(TokenRequestError):
    """503: the server cannot answer now. The client may try again after `retry_after` seconds."""

    status = 503
    code = "UNAVAILABLE"
    oauth = "temporarily_unavailable"
    outcome = "unavailable"
    retry_after = 2

    def headers(self) -> dict[str, str]:
        """Returns after how many seconds to try again."""
        return {"Retry-After": str(self.retry_after)}


class BusyError(UnavailableError):
    """503: too many passwords wait to be checked, or there are too many connections."""

    outcome = "busy"
    retry_after = 1


class FailedError(TokenRequestError):
    """500: a bug in the token server."""

    status = 500
    code = "UNKNOWN"
    oauth = "server_error"
    outcome = "error"

    def __init__(self) -> None:
        super().__init__("internal error: see the log of the token server")
