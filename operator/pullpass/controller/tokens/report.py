"""Tells people how a RegistryToken stands: status, events and log lines, which agree."""

import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal

from pullpass.api import conditions as c
from pullpass.api import names
from pullpass.api.conditions import Reason
from pullpass.controller import metrics
from pullpass.controller.cache import Cache, StoredToken
from pullpass.controller.document import Document
from pullpass.controller.facts import Facts
from pullpass.controller.queue import Key
from pullpass.controller.tokens import status
from pullpass.controller.tokens.plan import PlaceState, TokenPlan
from pullpass.controller.tokens.status import Obstacle
from pullpass.credentials.record import Record
from pullpass.kube import events
from pullpass.kube.client import Conflict, Kube, NotFound
from pullpass.kube.resources import REGISTRY_TOKENS

log = logging.getLogger(__name__)


class Reporter:
    """Writes what is to be read by people. `identity` is the replica that speaks."""

    def __init__(
        self, kube: Kube, cache: Cache, identity: str, wake: Callable[[Key], None], now: Callable[[], datetime]
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._identity = identity
        self._wake = wake
        self._now = now
        self._unsettled: dict[str, str] = {}
        """What is in the way of a token, as a reason, by its UID."""

    async def status(
        self, facts: Facts, plan: TokenPlan, states: Sequence[PlaceState], obstacle: Obstacle | None
    ) -> None:
        """Writes the status where it differs, and an event where it says something else. Raises a KubeError."""
        token = facts.token
        wanted = status.build(facts, plan, states, obstacle, self._now().replace(microsecond=0))
        self._count(token.uid, wanted)
        if Document.of(wanted) == token.status:
            return
        body = {
            "apiVersion": names.API_VERSION,
            "kind": "RegistryToken",
            "metadata": {"name": token.name, "namespace": token.namespace, "uid": token.uid},
            "status": wanted,
        }
        try:
            answer = await self._kube.apply(REGISTRY_TOKENS, token.namespace, token.name, body, subresource="status")
        except (NotFound, Conflict):
            return  # deleted meanwhile, or made anew: the watch brings the news
        self._cache.observe_token("MODIFIED", answer)
        seen = self._cache.tokens.get(token.key, token)
        if (seen.generation, seen.requests) != (token.generation, token.requests):
            self._wake(token.key)
        await self._announce(token, token.status.read(), wanted)

    async def _announce(self, token: StoredToken, old: Any, new: Any) -> None:
        """An event where Ready has another status or reason, and one where it is not false and something else is in the
        way."""
        before, after = status.condition(old, c.READY), status.condition(new, c.READY)
        if before[:2] != after[:2] and after[0] != "Unknown":
            await self.event(token, "Normal" if after[0] == "True" else "Warning", after[1], after[2])
        if after[0] != "False":
            before, after = (status.condition(one, c.STALLED, c.RECONCILING) for one in (old, new))
            if before[:2] != after[:2] and after[0]:
                await self.event(token, "Warning", after[1], after[2])

    def forget(self, token_uid: str) -> None:
        """Counts a token no more that is gone."""
        self._count(token_uid, None)

    def _count(self, token_uid: str, wanted: Any) -> None:
        before = self._unsettled.pop(token_uid, None)
        _, after, _ = status.condition(wanted, c.STALLED, c.RECONCILING)
        if after:
            self._unsettled[token_uid] = after
        if before != after:
            if before:
                metrics.UNSETTLED.labels(before).dec()
            if after:
                metrics.UNSETTLED.labels(after).inc()

    async def revoked(self, facts: Facts, record: Record) -> None:
        """An event for each revoked password that this record, which was just written, has no more."""
        revoked = facts.spec.passwords.revoked if facts.spec is not None else ()
        left = {slot.id for slot in record.slots.values()}
        for name, slot in facts.record.slots.items():
            if slot.id in revoked and slot.id not in left:
                new = record.slots.get(name)
                note = f"password {slot.id} in {name} is revoked and " + (
                    "gone from the record" if new is None else f"replaced by {new.id}"
                )
                await self.event(facts.token, "Normal", Reason.PASSWORD_REVOKED, note)

    async def event(self, token: StoredToken, type_: Literal["Normal", "Warning"], reason: str, note: str) -> None:
        """A log line and an event that agree."""
        log.log(
            logging.INFO if type_ == "Normal" else logging.WARNING,
            "%s: token %s/%s: %s",
            reason,
            token.namespace,
            token.name,
            note,
        )
        await events.post(
            self._kube,
            regarding={
                "apiVersion": names.API_VERSION,
                "kind": "RegistryToken",
                "namespace": token.namespace,
                "name": token.name,
                "uid": token.uid,
            },
            instance=self._identity,
            type_=type_,
            reason=reason,
            action="Reconcile",
            note=note,
            now=self._now(),
        )
