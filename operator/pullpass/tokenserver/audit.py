"""One line for each decision: who asked for what from where, what was granted, with which password, or
why not.

Names the password by its public id only. What came from the client is JSON-escaped, so that nobody can write
lines of their own. A repeated answer (see repeats.py) is no new decision: its line is that of the first.
"""

import json
import logging
import re
from collections.abc import Iterable

from pullpass.access.grants import Access, scope_text
from pullpass.access.scopes import Scope
from pullpass.tokenserver.errors import TokenRequestError, UnauthenticatedError

log = logging.getLogger("pullpass.audit")

_USER = re.compile(r"[a-z0-9-]{1,63}\.[a-z0-9.-]{1,253}")
"""What a user name of ours looks like. Anything else is not written: people type passwords into the wrong field."""


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
            "user": user if user is not None and _USER.fullmatch(user) else None,
            "remote": remote,
            "asked": " ".join(map(str, asked)),
            "password": password,
            "reason": error.reason if isinstance(error, UnauthenticatedError) else str(error),
        }
        log.info(json.dumps(line))
