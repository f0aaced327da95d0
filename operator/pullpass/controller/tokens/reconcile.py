"""Brings the passwords of one RegistryToken to where they should be, and has its places follow.

Gather facts, decide, act, and again until nothing is left to do; then have the status written. The places are worked
on by passes of their own (see `places`), and whatever becomes of them brings the token's key again. The status is
written by a pass of its own as well (see `report`), whose failures are none of the token.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from pullpass.api import names
from pullpass.api.conditions import Reason
from pullpass.api.registrytoken import SlotName
from pullpass.api.times import utcnow
from pullpass.controller.cache import Cache
from pullpass.controller.facts import Facts, Gatherer
from pullpass.controller.outcome import Outcome
from pullpass.controller.places.plan import places as places_of
from pullpass.controller.places.reconcile import PlaceReconciler
from pullpass.controller.places.report import Aim, Reports
from pullpass.controller.queue import Key
from pullpass.controller.records import Records
from pullpass.controller.replicas import NotConfirmedError, Replicas
from pullpass.controller.settings import OperatorSettings
from pullpass.controller.tokens import plan as p
from pullpass.controller.tokens.report import Reporter
from pullpass.controller.tokens.status import Obstacle
from pullpass.credentials import hashing, rotation
from pullpass.credentials import password as passwords
from pullpass.credentials.record import Slot
from pullpass.kube.client import Conflict, KubeError, Unavailable

log = logging.getLogger(__name__)

SETTLING = timedelta(seconds=5)
"""How long the status waits for news of places that are worked on."""
MAX_LOST_RACES = 3
"""From so many conflicts in a row on it is no race with another writer that is told, but something in the way."""
MAX_ROUNDS = 10
"""Decisions in one go; a rotation takes three or four."""


class TokenReconciler:
    """Works on the keys of RegistryTokens."""

    def __init__(
        self,
        cache: Cache,
        settings: OperatorSettings,
        gatherer: Gatherer,
        records: Records,
        reports: Reports,
        replicas: Replicas,
        places: PlaceReconciler,
        reporter: Reporter,
        wake: Callable[[Key], None],
        *,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._cache = cache
        self._settings = settings
        self._gatherer = gatherer
        self._records = records
        self._reports = reports
        self._replicas = replicas
        self._places = places
        self._reporter = reporter
        self._wake = wake
        self._now = now
        self._settling: dict[str, datetime] = {}
        """Since when a token's status waits for its places, by UID."""
        self._obstructed: set[str] = set()
        """UIDs of tokens whose passwords could not have their next step the last time."""
        self._lost_races: Counter[str] = Counter()
        """Conflicts in a row that writes of a record met, by UID of the token."""

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over one token. Raises a KubeError where the API server could not be asked or lost a race."""
        token = self._cache.tokens.get(key)
        if token is None:
            return Outcome()
        for _ in range(MAX_ROUNDS):
            facts = self._gatherer.facts(token)
            states = self._states(facts)
            plan = p.plan(facts, states)
            if plan.action is None:
                return self._settle(facts, states, plan)
            # ServiceAccounts have their entries before there is a password: pods that are made in between then heal.
            for follower in _follow(facts, states):
                self._wake(follower)
            try:
                await self._act(facts, plan.action)
            except Conflict as error:
                self._lost_races[token.uid] += 1
                if self._lost_races[token.uid] < MAX_LOST_RACES:
                    raise
                text = (
                    f"the credential record is changed by another each time before it can be written: {error}; look "
                    f"for webhooks and controllers that concern Secrets in namespace "
                    f"{self._settings.credentials_namespace}"
                )
                obstacle = Obstacle(Reason.RECORD_NOT_WRITTEN, text)
                return replace(self._obstruct(facts, states, plan, obstacle, passes=False), retry=str(error))
            except NotConfirmedError as error:
                obstacle = Obstacle(Reason.WAITING_FOR_TOKEN_SERVER, str(error))
                outcome = self._obstruct(facts, states, plan, obstacle, passes=True)
                return replace(outcome, retry=str(error))
            except KubeError as error:
                text = f"the credential record cannot be read or written, and is tried again: {error}"
                obstacle = Obstacle(Reason.RECORD_NOT_WRITTEN, text)
                outcome = self._obstruct(facts, states, plan, obstacle, passes=isinstance(error, Unavailable))
                retry_after = error.retry_after if isinstance(error, Unavailable) else 0
                return replace(outcome, retry=str(error), retry_after=retry_after)
            self._obstructed.discard(token.uid)
            self._lost_races.pop(token.uid, None)
        return Outcome(retry="the token does not settle")

    def _states(self, facts: Facts) -> list[p.PlaceState]:
        found = []
        for place in places_of(self._cache, facts):
            plan = self._places.plan(facts, place)
            report = self._reports.get(place.namespace, facts.token.uid)
            current = report is not None and report.aim == Aim.of(facts, place)
            found.append(p.PlaceState(place, bool(plan.actions), report, current))
        self._reports.keep(facts.token.uid, [state.place.namespace for state in found])
        return found

    def forget(self, token_uid: str) -> None:
        """Forgets all about a token that is gone."""
        self._settling.pop(token_uid, None)
        self._obstructed.discard(token_uid)
        self._lost_races.pop(token_uid, None)
        self._gatherer.forget(token_uid)
        self._reports.keep(token_uid, ())
        self._reporter.forget(token_uid)

    def _settle(self, facts: Facts, states: list[p.PlaceState], plan: p.TokenPlan) -> Outcome:
        """Has the status written, unless there will be more to tell in a moment."""
        uid, follow = facts.token.uid, _follow(facts, states)
        if plan.settling:
            since = self._settling.setdefault(uid, self._now())
            # A wall clock that is set back must not hold the status up.
            if since <= self._now() < since + SETTLING:
                again = since + SETTLING
                return Outcome(due=min(plan.due or again, again), follow=follow)
        else:
            self._settling.pop(uid, None)
        return replace(self._report(facts, states, plan, None), due=plan.due)

    def _obstruct(
        self, facts: Facts, states: list[p.PlaceState], plan: p.TokenPlan, obstacle: Obstacle, *, passes: bool
    ) -> Outcome:
        """Tells what is in the way of the passwords: from the second time on where it may pass by itself. The places go
        on with the passwords that there are."""
        first = facts.token.uid not in self._obstructed
        self._obstructed.add(facts.token.uid)
        if first and (passes or any(state.settling for state in states)):
            return Outcome(follow=_follow(facts, states))
        return self._report(facts, states, plan, obstacle)

    def _report(
        self, facts: Facts, states: list[p.PlaceState], plan: p.TokenPlan, obstacle: Obstacle | None
    ) -> Outcome:
        """Has the status written, by a pass of its own: the passwords must not wait for it."""
        return Outcome(follow=_follow(facts, states) | self._reporter.status(facts, plan, states, obstacle))

    # act

    async def _act(self, facts: Facts, action: p.Action) -> None:
        match action:
            case rotation.MakePassword(slot):
                await self._make_password(facts, slot)
            case rotation.WriteRecord(record):
                await self._records.write(facts, record)
                self._reporter.revoked(facts, record)
            case p.Confirm(slot):
                await self._confirm(facts, slot)
            case p.MarkPublished(slot):
                await self._mark_published(facts, slot)

    async def _make_password(self, facts: Facts, slot: SlotName) -> None:
        assert facts.spec is not None
        taken = {other.id for other in facts.record.slots.values()} | set(facts.spec.passwords.revoked)
        id_ = next(id_ for id_ in iter(passwords.new_id, "") if id_ not in taken)
        nonce = passwords.new_nonce()
        now = self._now().replace(microsecond=0)
        made = Slot(
            id=id_,
            nonce=nonce,
            seed=self._gatherer.seed_id,
            hash="",
            created_at=now,
            expires_at=rotation.end_by_lifetime(facts.spec.passwords, now),
        )
        text = self._gatherer.password(facts.token, made).text
        hash_ = await asyncio.to_thread(hashing.hash_password, text, self._settings.bcrypt_cost)
        record = rotation.made(facts.record, slot, replace(made, hash=hash_), facts.token.requests)
        await self._records.write(facts, record)
        self._reporter.revoked(facts, record)
        log.info("password made: token %s/%s, id %s", facts.token.namespace, facts.token.name, id_)

    async def _confirm(self, facts: Facts, slot: SlotName) -> None:
        version = await self._records.confirm_unchanged(facts)
        await self._confirm_hash(facts, slot)
        assert facts.registry is not None  # no password is published for one that is not known
        password_id = facts.record.slots[slot].id
        try:
            await self._replicas.confirm(facts.token.uid, password_id, version, facts.registry.name)
        except KubeError as error:
            raise NotConfirmedError(f"the API server does not tell where the token servers are: {error}") from None
        self._gatherer.confirm(facts, slot)

    async def _confirm_hash(self, facts: Facts, slot: SlotName) -> None:
        """Checks what the token servers, which are told no password, cannot: that the stored hash fits the password.

        A new password whose hash was damaged is dropped, so that another is made. One that is published stays, as its
        end may be that of all access (`onExpiry: Revoke`). Raises NotConfirmedError.
        """
        stored = facts.record.slots[slot]
        password = self._gatherer.password(facts.token, stored)
        if await asyncio.to_thread(hashing.check, password.text, stored.hash):
            return
        text = f"the hash of password {stored.id} in the credential record is not that of the password"
        if slot != facts.record.pending:
            raise NotConfirmedError(f"{text}; annotate the token with {names.REGENERATE_ANNOTATION} to replace it")
        await self._records.write(facts, facts.record.without_slot(slot))
        raise NotConfirmedError(f"{text}; another password is made")

    async def _mark_published(self, facts: Facts, slot: SlotName) -> None:
        assert facts.spec is not None
        before = facts.record.published
        record = rotation.published(facts.record, slot, facts.spec.passwords, self._now().replace(microsecond=0))
        await self._records.write(facts, record)
        id_ = facts.record.slots[slot].id
        if before is None:
            note = f"password {id_} published in {slot}"
            self._reporter.event(facts.token, "Normal", "PasswordPublished", note)
            return
        old = facts.record.slots[before].id
        note = f"password {id_} in {slot} replaces {old} in {before}"
        if before not in record.slots:
            note += ", which is refused from now on"
        self._reporter.event(facts.token, "Normal", "PasswordRotated", note)


def _follow(facts: Facts, states: list[p.PlaceState]) -> frozenset[Key]:
    """The keys of the places that have something to do which was not tried yet. What failed comes by its back-off."""
    return frozenset(
        Key("place", state.place.namespace, facts.token.uid) for state in states if state.work and not state.tried
    )
