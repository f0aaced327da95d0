"""Tells people how a RegistryToken stands: status, events and log lines, which agree."""

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Literal

from pullpass.api import names
from pullpass.api.conditions import Reason
from pullpass.controller.cache import Cache, StoredToken
from pullpass.controller.document import Document
from pullpass.controller.queue import Key
from pullpass.controller.tokens import plan as d
from pullpass.controller.tokens import status
from pullpass.controller.tokens.status import Problem
from pullpass.credentials.record import Record
from pullpass.kube import events
from pullpass.kube.client import Conflict, Kube, NotFound
from pullpass.kube.resources import REGISTRY_TOKENS

log = logging.getLogger(__name__)


class Reporter:
    """Writes what is to be read by people. `identity` is the replica that speaks."""

    def __init__(
        self, kube: Kube, mirror: Cache, identity: str, wake: Callable[[Key], None], now: Callable[[], datetime]
    ) -> None:
        self._kube = kube
        self._mirror = mirror
        self._identity = identity
        self._wake = wake
        self._now = now

    async def status(self, facts: d.Facts, plan: d.Plan, problems: list[Problem], waiting: str | None) -> None:
        """Writes the status where it differs, and an event where Ready has changed."""
        token = facts.token
        wanted = status.build(facts, plan, problems, waiting, self._now().replace(microsecond=0))
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
        self._mirror.observe_token("MODIFIED", answer)
        seen = self._mirror.tokens.get(token.key, token)
        if (seen.generation, seen.requests) != (token.generation, token.requests):
            self._wake(token.key)
        old, new = status.ready_reason(token.status.read()), status.ready_reason(wanted)
        if old[:2] != new[:2]:
            type_: Literal["Normal", "Warning"] = "Normal" if new[0] == "True" else "Warning"
            if new[0] != "Unknown":
                await self.event(token, type_, new[1], new[2])

    async def revoked(self, facts: d.Facts, record: Record) -> None:
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
