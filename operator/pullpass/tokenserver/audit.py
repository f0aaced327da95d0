"""One line for each decision: who asked for what from where, what was granted, with which password, or why not.

Names the password by its public id only. What came from the client is JSON-escaped and bounded, so that nobody can
write lines of their own, nor long ones.

Two kinds of lines are put together, so that a flood of requests is no flood of lines. A granted request that was
repeated (see repeats.py) gets a line at once and, when a second has passed, another one that says how many times it was
answered alike. Of refusals a bounded number is written in a second, and then a line for each sender that says how many
more there were.
"""

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from pullpass.access.grants import Access, scope_text
from pullpass.access.scopes import Scope
from pullpass.api.registries import Registry
from pullpass.tokenserver.errors import TokenRequestError, UnauthenticatedError

log = logging.getLogger("pullpass.audit")

SECONDS = 1.0
REFUSALS = 200
"""Refusals written in a second."""
REFUSALS_OF_SENDER = 20
CLIENT_LENGTH = 128
"""Characters of a User-Agent."""

_USER = re.compile(r"[a-z0-9-]{1,63}\.[a-z0-9.-]{1,253}")
"""What a user name of ours looks like. Anything else is not written: people type passwords into the wrong field."""


class Audit:
    """The audit log."""

    def __init__(self) -> None:
        self._written = 0
        self._refused: Counter[str] = Counter()
        self._left_out: Counter[str | None] = Counter()
        self._repeated: Counter[str] = Counter()
        self._due: asyncio.TimerHandle | None = None
        self.left_out = 0
        """Refusals since start that have no line of their own."""

    def granted(
        self,
        registry: Registry,
        user: str,
        remote: str,
        client: str,
        asked: Iterable[Scope],
        access: list[Access],
        password: str,
        token_id: str,
    ) -> str:
        """An access token was issued. Returns the line, for `repeated`; an empty one if none is written."""
        if not log.isEnabledFor(logging.INFO):
            return ""
        line = self._line("granted", registry, user, remote, client, asked)
        line |= {"granted": scope_text(access), "password": password, "jti": token_id}
        text = json.dumps(line)
        log.info(text)
        return text

    def repeated(self, line: str) -> None:
        """The answer of that line was given once more."""
        if line:
            self._repeated[line] += 1
            self._put_together()

    def refused(
        self,
        registry: Registry | None,
        user: str | None,
        remote: str,
        client: str,
        asked: Iterable[Scope],
        error: TokenRequestError,
        password: str | None,
    ) -> None:
        """No access token was issued. The registry is None where the request does not say which, or cannot be read."""
        if not log.isEnabledFor(logging.INFO):
            return
        self._put_together()
        if self._written >= REFUSALS or self._refused[remote] >= REFUSALS_OF_SENDER:
            self.left_out += 1
            known = remote in self._left_out or len(self._left_out) < REFUSALS
            self._left_out[remote if known else None] += 1
            return
        self._written += 1
        self._refused[remote] += 1
        shown = user if user is not None and _USER.fullmatch(user) else None
        line = self._line("refused", registry, shown, remote, client, asked)
        reason = error.reason if isinstance(error, UnauthenticatedError) else str(error)
        log.info(json.dumps(line | {"password": password, "outcome": error.outcome, "reason": reason}))

    def _line(
        self,
        decision: str,
        registry: Registry | None,
        user: str | None,
        remote: str,
        client: str,
        asked: Iterable[Scope],
    ) -> dict[str, Any]:
        return {
            "decision": decision,
            "user": user,
            "remote": remote,
            "client": client[:CLIENT_LENGTH],
            "registry": registry.name if registry is not None else None,
            "service": registry.service if registry is not None else None,
            "asked": " ".join(map(str, asked)),
        }

    def _put_together(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(SECONDS, self.flush)

    def flush(self) -> None:
        """Writes what was put together."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        for line, times in self._repeated.items():
            log.info('%s, "repeated": %d}', line.removesuffix("}"), times)
        for remote, times in self._left_out.items():
            log.info(json.dumps({"decision": "refused", "remote": remote, "not_shown": times}))
        self._repeated.clear()
        self._left_out.clear()
        self._refused.clear()
        self._written = 0
