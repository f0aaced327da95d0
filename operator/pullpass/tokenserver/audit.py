"""One line for each decision: who asked for what from where, what was granted, with which password, or why not.

Names the password by its public id only. What came from the client is JSON-escaped and bounded, so that nobody can
write lines of their own, nor long ones.

Two kinds of lines are put together, so that a flood of requests is no flood of lines. Who gets the same access token
again (see reuse.py) has a line at once and, when a second has passed, another one that says how many times more. Of
refusals a bounded number is written in a second, and then a line for each sender that says how many more there were.
"""

import asyncio
import json
import logging
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pullpass.access.scopes import Scope
from pullpass.api.registries import Registry
from pullpass.tokenserver.errors import TokenRequestError, UnauthenticatedError

log = logging.getLogger("pullpass.audit")

SECONDS = 1.0
GRANTED = 4096
"""Lines remembered within a second, each of which can come to stand for more than one decision."""
REFUSALS = 200
"""Refusals written in a second."""
REFUSALS_OF_SENDER = 20
CLIENT_LENGTH = 128
"""Characters of a User-Agent."""
REFUSED_SCOPES_LENGTH = 1024
"""Characters of what was asked for in a refusal: anybody can ask for 16 KiB."""
GRANTED_SCOPES_LENGTH = 4096
"""Characters of what was asked for, and of what was granted."""

_USER = re.compile(r"[a-z0-9-]{1,63}\.[a-z0-9.-]{1,253}")
"""What a user name of ours looks like. Anything else is not written: people type passwords into the wrong field."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What there is to say of an access token that was issued, whoever it goes to."""

    registry: Registry
    user: str
    asked: tuple[Scope, ...]
    granted: str
    """Scopes."""
    password: str
    """Public id."""
    token_id: str


@dataclass(slots=True)
class _Line:
    text: str
    again: int = 0
    """How many decisions it stands for beside the first."""


class Audit:
    """The audit log."""

    def __init__(self) -> None:
        self._written = 0
        self._refused: Counter[str] = Counter()
        self._left_out: Counter[str | None] = Counter()
        self._granted: dict[tuple[str, str, str], _Line] = {}
        self._due: asyncio.TimerHandle | None = None
        self.left_out = 0
        """Refusals since start that have no line of their own."""

    def granted(self, granted: Granted, remote: str, client: str) -> None:
        """An access token was given to a client."""
        client = client[:CLIENT_LENGTH]
        key = (granted.token_id, remote, client)
        line = self._granted.get(key)
        if line is not None:
            line.again += 1
            return
        if not log.isEnabledFor(logging.INFO):
            return
        self._put_together()
        if len(self._granted) >= GRANTED:
            self._flush_granted()
        content = self._line("granted", granted.registry, granted.user, remote, client)
        content |= {
            "asked": _scopes(granted.asked, GRANTED_SCOPES_LENGTH),
            "granted": _cut(granted.granted, GRANTED_SCOPES_LENGTH),
        }
        content |= {"password": granted.password, "jti": granted.token_id}
        line = self._granted[key] = _Line(json.dumps(content))
        log.info(line.text)

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
        line = self._line("refused", registry, shown, remote, client[:CLIENT_LENGTH])
        line |= {"asked": _scopes(asked, REFUSED_SCOPES_LENGTH)}
        reason = error.reason if isinstance(error, UnauthenticatedError) else str(error)
        log.info(json.dumps(line | {"password": password, "outcome": error.outcome, "reason": reason}))

    def _line(
        self,
        decision: str,
        registry: Registry | None,
        user: str | None,
        remote: str,
        client: str,
    ) -> dict[str, Any]:
        return {
            "decision": decision,
            "user": user,
            "remote": remote,
            "client": client,
            "registry": registry.name if registry is not None else None,
            "service": registry.service if registry is not None else None,
        }

    def _put_together(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(SECONDS, self.flush)

    def flush(self) -> None:
        """Writes what was put together."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._flush_granted()
        for remote, times in self._left_out.items():
            log.info(json.dumps({"decision": "refused", "remote": remote, "not_shown": times}))
        self._left_out.clear()
        self._refused.clear()
        self._written = 0

    def _flush_granted(self) -> None:
        for line in self._granted.values():
            if line.again:
                log.info('%s, "repeated": %d}', line.text.removesuffix("}"), line.again)
        self._granted.clear()


def _scopes(scopes: Iterable[Scope], most: int) -> str:
    return _cut(" ".join(map(str, scopes)), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
