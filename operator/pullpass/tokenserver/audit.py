"""One line for each decision: who asked for what from where, what was granted, with which password, or
why not.

Names the password by its public id only. What came from the client is JSON-escaped and cut, so that
nobody can write lines of their own.
"""

import json
import logging
from collections.abc import Iterable

from pullpass.access.grants import Access, scope_text
from pullpass.access.scopes import Scope
from pullpass.tokenserver.errors import TokenRequestError, UnauthenticatedError

log = logging.getLogger("pullpass.audit")

_LENGTH = 320
"""Characters of a user name that are kept: the longest of ours fits."""


def granted(
    user: str, remote: str | None, asked: Iterable[Scope], access: list[Access], password: str, token_id: str
) -> None:
    """An access token was issued."""
    if log.isEnabledFor(logging.INFO):
        line = {
            "decision": "granted",
            "user": user,
            "remote": remote,
            "asked": " ".join(map(str, asked)),
            "granted": scope_text(access),
            "password": password,
            "jti": token_id,
        }
        log.info(json.dumps(line))


def refused(
    user: str | None, remote: str | None, asked: Iterable[Scope], error: TokenRequestError, password: str | None
) -> None:
    """No access token was issued."""
    if log.isEnabledFor(logging.INFO):
        line = {
            "decision": "refused",
            "user": user[:_LENGTH] if user is not None else None,
            "remote": remote,
            "asked": " ".join(map(str, asked)),
            "password": password,
            "reason": error.reason if isinstance(error, UnauthenticatedError) else str(error),
        }
        log.info(json.dumps(line))
