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


@dataclass(slots=True)
class Granted:
    """What there is to say of an access token that was issued, whoever it goes to."""

    decision: str
    """`granted`: all that was asked for, `reduced`: a part of it, `denied`: none of it. Also the metric's label."""
    registry: Registry
    user: str
    asked: tuple[Scope, ...]
    granted: str
    """Scopes."""
    password: str
    """Public id."""
    token_id: str


class Entry(dict[str, Any]):
    """The fields of a line. In the JSON form of the log they stand beside time and level; as text they are JSON."""

    def __str__(self) -> str:
        return json.dumps(self)


@dataclass(slots=True)
class _Line:
    entry: Entry
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
        """Logs that an access token was given to a client."""
        client = client[:CLIENT_LENGTH]
        key = (granted.token_id, remote, client)
        line = self._granted.get(key)
        if line is not None:
            line.again += 1
            return
        if not log.isEnabledFor(logging.INFO):
            return
        self._flush_later()
        if len(self._granted) >= GRANTED:
            self._flush_granted()
        entry = _entry(granted.decision, granted.registry, granted.user, remote, client)
        entry["asked"] = _scopes(granted.asked, GRANTED_SCOPES_LENGTH)
        entry["granted"] = _cut(granted.granted, GRANTED_SCOPES_LENGTH)
        entry["password"] = granted.password
        entry["jti"] = granted.token_id
        self._granted[key] = _Line(entry)
        _write(entry)

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
        """Logs that no access token was issued. The registry is None where the request does not say which, or cannot be
        read."""
        if not log.isEnabledFor(logging.INFO):
            return
        self._flush_later()
        if self._written >= REFUSALS or self._refused[remote] >= REFUSALS_OF_SENDER:
            self.left_out += 1
            known = remote in self._left_out or len(self._left_out) < REFUSALS
            self._left_out[remote if known else None] += 1
            return
        self._written += 1
        self._refused[remote] += 1
        shown = user if user is not None and _USER.fullmatch(user) else None
        entry = _entry("refused", registry, shown, remote, client[:CLIENT_LENGTH])
        entry["asked"] = _scopes(asked, REFUSED_SCOPES_LENGTH)
        entry["password"] = password
        entry["outcome"] = error.outcome
        entry["reason"] = error.reason if isinstance(error, UnauthenticatedError) else str(error)
        _write(entry)

    def _flush_later(self) -> None:
        if self._due is None:
            self._due = asyncio.get_running_loop().call_later(SECONDS, self.flush)

    def flush(self) -> None:
        """Writes the lines that stand for several decisions."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._flush_granted()
        for remote, times in self._left_out.items():
            _write(Entry(decision="refused", remote=remote, not_shown=times))
        self._left_out.clear()
        self._refused.clear()
        self._written = 0

    def _flush_granted(self) -> None:
        for line in self._granted.values():
            if line.again:
                _write(Entry(line.entry, repeated=line.again))
        self._granted.clear()


def _write(entry: Entry) -> None:
    # As log.info does it, but for looking up the line of code that called.
    if log.isEnabledFor(logging.INFO):
        log.handle(logging.LogRecord(log.name, logging.INFO, "", 0, entry, None, None))


def _entry(decision: str, registry: Registry | None, user: str | None, remote: str, client: str) -> Entry:
    entry = Entry()
    entry["decision"] = decision
    entry["user"] = user
    entry["remote"] = remote
    entry["client"] = client
    entry["registry"] = registry.name if registry is not None else None
    entry["service"] = registry.service if registry is not None else None
    return entry


def _scopes(scopes: Iterable[Scope], most: int) -> str:
    return _cut(" ".join(map(str, scopes)), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}…"
