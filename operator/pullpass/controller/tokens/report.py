"""Tells people how a RegistryToken stands: status, events and log lines, which agree.

The pass of a token only says what its status should be. That is kept here until it is written, by a pass of its own
(`status`) with a back-off of its own: where statuses cannot be written, or writes of them hang, passwords go on. Events
are posted in the background (see `kube/events.py`).
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from pullpass.api import conditions as c
from pullpass.api import names
from pullpass.api.conditions import Reason
from pullpass.controller import metrics
from pullpass.controller.cache import Cache, StoredToken
from pullpass.controller.document import Document
from pullpass.controller.facts import Facts
from pullpass.controller.outcome import Outcome
from pullpass.controller.queue import Key
from pullpass.controller.tokens import status
from pullpass.controller.tokens.plan import PlaceState, TokenPlan
from pullpass.controller.tokens.status import Obstacle
from pullpass.credentials.record import Record
from pullpass.kube.client import Conflict, Kube, KubeError, NotFound, Refused, Unavailable
from pullpass.kube.events import EventSender
from pullpass.kube.resources import REGISTRY_TOKENS

log = logging.getLogger(__name__)

STATUS_SECONDS = 10.0
"""Time limit of one write of a status."""
TOLD_AT = 5
"""Attempts in a row that fail before anybody is told, within 8 seconds if each fails at once: an API server restarts in
less. A refusal is told at once."""
CHANGED_FIRST, CHANGED_LONGEST = 15.0, 300.0
"""Seconds between two writes of a status that the API server takes and stores otherwise, each of which is a write: the
first wait, twice as long each time, and the longest."""


@dataclass
class _Unwritten:
    """A status that is to be written."""

    status: Document
    announced: Document
    """The last status that events have told of."""
    attempts: int = 0
    """Failed ones in a row."""
    changed: int = 0
    """How often in a row it was stored otherwise than written."""
    told: str = ""
    """What was said to be in the way."""


class Reporter:
    """Tells what is to be read by people. Statuses wait here until `write` has written them."""

    def __init__(
        self, kube: Kube, cache: Cache, events: EventSender, wake: Callable[[Key], None], now: Callable[[], datetime]
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._events = events
        self._wake = wake
        self._now = now
        self._unwritten: dict[str, _Unwritten] = {}
        """By UID of the token; nothing of those whose status is as it should be."""
        self._unsettled: dict[str, str] = {}
        """What is in the way of a token, as a reason, by its UID."""

    def status(
        self, facts: Facts, plan: TokenPlan, states: Sequence[PlaceState], obstacle: Obstacle | None
    ) -> frozenset[Key]:
        """Takes note of what the status should be; returns the key that has it written, none where it is so already."""
        token = facts.token
        unwritten = self._unwritten.get(token.uid)
        if unwritten is not None:
            # Conditions are as old as they are in what was not written yet.
            facts = replace(facts, token=replace(token, status=unwritten.status))
        built = status.build(facts, plan, states, obstacle, self._now().replace(microsecond=0))
        wanted = Document.of(built)
        if wanted == token.status:
            self._unwritten.pop(token.uid, None)
            self._count(token.uid, built)
            return frozenset()
        if unwritten is None:
            unwritten = self._unwritten[token.uid] = _Unwritten(wanted, token.status)
        elif unwritten.status == wanted:
            return frozenset()  # it comes again by itself
        unwritten.status = wanted
        self._count(token.uid, built)
        return frozenset({Key("status", token.namespace, token.name)})

    async def write(self, key: Key) -> Outcome:
        """One pass over the status of one token: writes it, and posts an event where it says something else."""
        token = self._cache.tokens.get(Key("token", key.namespace, key.name))
        unwritten = self._unwritten.get(token.uid) if token is not None else None
        if token is None or unwritten is None:
            return Outcome()
        wanted = unwritten.status
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "RegistryToken",
            "metadata": {"name": token.name, "namespace": token.namespace, "uid": token.uid},
            "status": wanted.read(),
        }
        try:
            answer = await self._kube.apply(
                REGISTRY_TOKENS, token.namespace, token.name, body, subresource="status", time_limit=STATUS_SECONDS
            )
        except (NotFound, Conflict) as error:
            return await self._missed(token, unwritten, error)
        except KubeError as error:
            return self._failed(token, unwritten, error)
        self._cache.observe_token("MODIFIED", answer)
        seen = self._cache.tokens.get(token.key, token)
        if (seen.generation, seen.requests) != (token.generation, token.requests):
            self._wake(token.key)
        self._announce(token, unwritten.announced.read(), body["status"])
        unwritten.announced = wanted
        if not _holds(answer.get("status") or {}, body["status"]):
            return self._changed(token, unwritten)
        if self._unwritten.get(token.uid) is not unwritten:
            self._wake(token.key)  # meanwhile another status was the right one, and this one is stored now
        unwritten.attempts = unwritten.changed = 0
        if unwritten.told:
            log.info("the status of token %s/%s is written again", token.namespace, token.name)
            unwritten.told = ""
        if unwritten.status == wanted and self._unwritten.get(token.uid) is unwritten:
            del self._unwritten[token.uid]
        self._count(token.uid, unwritten.status.read())
        return Outcome()

    async def _missed(self, token: StoredToken, unwritten: _Unwritten, error: KubeError) -> Outcome:
        """The token may be gone, or another one have its name; or somebody answers so although it is there."""
        try:
            found = await self._kube.get(REGISTRY_TOKENS, token.namespace, token.name)
        except NotFound:
            # The watch tells if it is deleted, and nothing is written then. But while an API server starts, it says
            # the same of every token.
            return Outcome(retry=f"the token is not found: {error}")
        except KubeError as unread:
            return self._failed(token, unwritten, unread)
        self._cache.observe_token("MODIFIED", found)
        if found["metadata"]["uid"] != token.uid:
            self._unwritten.pop(token.uid, None)
            self._wake(token.key)
            return Outcome()
        return self._failed(token, unwritten, error)

    def _failed(self, token: StoredToken, unwritten: _Unwritten, error: KubeError) -> Outcome:
        unwritten.attempts += 1
        if unwritten.attempts >= TOLD_AT or isinstance(error, Refused):
            self._tell(token, unwritten, str(error))
        retry_after = error.retry_after if isinstance(error, Unavailable) else 0
        return Outcome(retry=f"the status is not written: {error}", retry_after=retry_after)

    def _changed(self, token: StoredToken, unwritten: _Unwritten) -> Outcome:
        unwritten.changed += 1
        why = (
            "it is stored otherwise than written: something changes it on the way, or the CRDs are older than pullpass"
        )
        if unwritten.changed > 1:
            self._tell(token, unwritten, why)
        wait = min(CHANGED_FIRST * 2 ** min(unwritten.changed - 1, 10), CHANGED_LONGEST)
        return Outcome(retry=f"the status is not written: {why}", retry_after=wait)

    def _tell(self, token: StoredToken, unwritten: _Unwritten, why: str) -> None:
        """A log line each time, which the back-off makes rare, and an event for the first."""
        ready = status.condition(unwritten.status.read(), c.READY)
        note = (
            f"the status cannot be written, and is tried again: {why}; look for policies and webhooks that concern "
            f"registrytokens/status, and at the operator's rights; passwords go on, and Ready would be {ready[0]} "
            f"({ready[1]})"
        )
        if unwritten.told:
            _log(token, "Warning", Reason.STATUS_NOT_WRITTEN, note)
        else:
            self.event(token, "Warning", Reason.STATUS_NOT_WRITTEN, note)
        unwritten.told = why
        self._count(token.uid, unwritten.status.read())

    def _announce(self, token: StoredToken, old: Any, new: Any) -> None:
        """An event where Ready has another status or reason, and one where it is not false and something else is in the
        way."""
        before, after = status.condition(old, c.READY), status.condition(new, c.READY)
        if before[:2] != after[:2] and after[0] != "Unknown":
            self.event(token, "Normal" if after[0] == "True" else "Warning", after[1], after[2])
        if after[0] != "False":
            before, after = (status.condition(one, c.STALLED, c.RECONCILING) for one in (old, new))
            if before[:2] != after[:2] and after[0]:
                self.event(token, "Warning", after[1], after[2])

    def forget(self, token_uid: str) -> None:
        """Forgets, and counts no more, a token that is gone."""
        self._unwritten.pop(token_uid, None)
        self._count(token_uid, None)

    def _count(self, token_uid: str, wanted: Any) -> None:
        """Counts a token by what is in the way of it. Where the conditions do not come to people, that comes first."""
        before = self._unsettled.pop(token_uid, None)
        unwritten = self._unwritten.get(token_uid)
        _, after, _ = status.condition(wanted, c.STALLED, c.RECONCILING)
        if unwritten is not None and unwritten.told:
            after = Reason.STATUS_NOT_WRITTEN
        if after:
            self._unsettled[token_uid] = after
        if before != after:
            if before:
                metrics.UNSETTLED.labels(before).dec()
            if after:
                metrics.UNSETTLED.labels(after).inc()

    def revoked(self, facts: Facts, record: Record) -> None:
        """An event for each revoked password that this record, which was just written, has no more."""
        revoked = facts.spec.passwords.revoked if facts.spec is not None else ()
        left = {slot.id for slot in record.slots.values()}
        for name, slot in facts.record.slots.items():
            if slot.id in revoked and slot.id not in left:
                new = record.slots.get(name)
                note = f"password {slot.id} in {name} is revoked and " + (
                    "gone from the record" if new is None else f"replaced by {new.id}"
                )
                self.event(facts.token, "Normal", Reason.PASSWORD_REVOKED, note)

    def event(self, token: StoredToken, type_: Literal["Normal", "Warning"], reason: str, note: str) -> None:
        """A log line and an event that agree."""
        _log(token, type_, reason, note)
        self._events.send(
            regarding={
                "apiVersion": names.API_VERSION,
                "kind": "RegistryToken",
                "namespace": token.namespace,
                "name": token.name,
                "uid": token.uid,
            },
            type_=type_,
            reason=reason,
            action="Reconcile",
            note=note,
        )


def _holds(stored: Any, written: Any) -> bool:
    """Whether all of what was written is in what is stored, whatever others have added."""
    if isinstance(written, dict):
        return isinstance(stored, dict) and all(
            key in stored and _holds(stored[key], value) for key, value in written.items()
        )
    if isinstance(written, list):
        return isinstance(stored, list) and all(any(_holds(one, item) for one in stored) for item in written)
    return bool(stored == written)


def _log(token: StoredToken, type_: Literal["Normal", "Warning"], reason: str, note: str) -> None:
    level = logging.INFO if type_ == "Normal" else logging.WARNING
    log.log(level, "%s: token %s/%s: %s", reason, token.namespace, token.name, note)
