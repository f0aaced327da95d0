"""Brings one RegistryToken to where it should be: gather facts, decide, act, and write the status.

What is learned from an answer to a write goes into the mirror at once, so the next decision knows of it. The watch
brings no news of it then, so what others changed in between wakes its keys from here. Before a password is
published, the record is read again from the API server: a mirror that lags must not publish an old one.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pullpass.api import names
from pullpass.api.conditions import Reason
from pullpass.api.registrytoken import SlotName
from pullpass.controller.cache import Cache, StoredToken
from pullpass.controller.places.entries import Entries
from pullpass.controller.places.pull_secret import StoredPullSecret, Wanted
from pullpass.controller.places.repairs import Repairs
from pullpass.controller.queue import Key
from pullpass.controller.replicas import NotConfirmedError, NotReadyError, Replicas
from pullpass.controller.settings import OperatorSettings
from pullpass.controller.tokens import plan as d
from pullpass.controller.tokens.facts import Gatherer
from pullpass.controller.tokens.report import Reporter
from pullpass.controller.tokens.status import Problem
from pullpass.credentials import hashing, rotation
from pullpass.credentials import password as passwords
from pullpass.credentials.record import Record, Slot
from pullpass.kube.client import Conflict, Kube, NotFound, Refused
from pullpass.kube.resources import SECRETS

log = logging.getLogger(__name__)

ASK_AGAIN = timedelta(seconds=15)
"""How long a new password waits at most for token servers to be asked again, whatever the back-off has grown to."""
MAX_ROUNDS = 10
"""Decisions in one go; a rotation takes three or four."""


def _utcnow() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Outcome:
    """When the token is next due, and whether it has to be tried again before, with back-off."""

    due: datetime | None = None
    retry: str | None = None
    """Why it has to be tried again."""


class TokenReconciler:
    """Works on the keys of RegistryTokens."""

    def __init__(
        self,
        kube: Kube,
        mirror: Cache,
        settings: OperatorSettings,
        replicas: Replicas,
        entries: Entries,
        seed: bytes,
        wake: Callable[[Key], None],
        *,
        now: Callable[[], datetime] = _utcnow,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._mirror = mirror
        self._settings = settings
        self._replicas = replicas
        self._entries = entries
        self._seed = seed
        self._contention = Repairs(monotonic=monotonic)
        self._gatherer = Gatherer(mirror, settings, seed, self._contention, now)
        self._reporter = Reporter(kube, mirror, settings.identity, wake, now)
        self._wake = wake
        self._now = now

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over one token. Raises a KubeError where the API server could not be asked or lost a race."""
        token = self._mirror.tokens.get(key)
        if token is None or token.deleting:
            return Outcome()
        for _ in range(MAX_ROUNDS):
            facts = self._gatherer.facts(token)
            plan = d.decide(facts, self._now())
            problems: list[Problem] = []
            apart: list[Problem] = []
            try:
                for action in plan.actions:
                    await self._act(facts, action, problems, apart)
            except NotConfirmedError as error:
                await self._reporter.status(facts, plan, problems, str(error))
                # One that accepts nothing at all is left alone for longer and longer.
                due = None if isinstance(error, NotReadyError) else self._now() + ASK_AGAIN
                return Outcome(due=due, retry=str(error))
            more = plan.more
            if plan.actions and not plan.again:
                # What was written changes what there is to tell: a repair that was made again may not last.
                facts = self._gatherer.facts(token)
                plan = d.decide(facts, self._now())
                if plan.again:
                    continue
            if not plan.again:
                for matter in plan.missed:
                    self._contention.missed(matter)
                problems += apart
                await self._reporter.status(facts, plan, [p for p in problems if p.told], None)
                retry = problems[0].message if problems else None
                times = (plan.due, plan.repair, self._now() if more else None)
                return Outcome(due=min((t for t in times if t), default=None), retry=retry)
            if problems:
                facts = self._gatherer.facts(token)
                await self._reporter.status(facts, plan, [p for p in problems if p.told], None)
                # The next step may be possible as soon as a password has ended; a back-off could miss it.
                ends = (slot.ends_at for slot in facts.record.slots.values() if slot.valid_at(self._now()))
                return Outcome(due=min((end for end in ends if end), default=None), retry=problems[0].message)
        return Outcome(retry="the token does not settle")

    # act

    async def _act(self, facts: d.Facts, action: d.Action, problems: list[Problem], apart: list[Problem]) -> None:
        """Carries out an action. Where somebody is in its way, nothing else of the token waits for it: `problems` are
        those with pull secrets, `apart` the others. Whoever may write in one namespace must not be able to keep a
        token from its next password in all of them.
        """
        try:
            await self._carry_out(facts, action, problems)
        except (Conflict, Refused) as error:
            if not isinstance(action, d.AddEntry | d.RemoveEntry | d.DeletePullSecret):
                raise
            (matter, *_) = d.matters(facts, action)
            told = not matter.removal and isinstance(error, Refused)
            apart.append(Problem(matter.namespace, Reason.WRITE_REFUSED, str(error), told))

    async def _carry_out(self, facts: d.Facts, action: d.Action, problems: list[Problem]) -> None:
        token = facts.token
        match action:
            case d.AddEntry(account, entry):
                if await self._entries.add(account, entry, token.uid):
                    self._did(facts, action)
            case d.RemoveEntry(account, keep):
                if await self._entries.remove(account, token.uid, keep):
                    self._did(facts, action)
            case d.MakePassword(slot):
                await self._make_password(facts, slot)
            case d.WriteRecord(record):
                await self._write_record(facts, record)
            case d.AwaitAcceptance(slot):
                version = await self._confirm_record(facts)
                await self._confirm_hash(facts, slot)
                assert facts.registry is not None  # no password is published for one that is not known
                await self._replicas.confirm(token.uid, facts.record.slots[slot].id, version, facts.registry.name)
            case d.WritePullSecret(wanted, slot):
                if await self._write_pull_secret(facts, wanted, slot, problems):
                    self._did(facts, action, facts.record.slots[slot].id)
            case d.MarkPublished(slot):
                await self._mark_published(facts, slot, problems)
            case d.DeletePullSecret(secret):
                await self._kube.delete(
                    SECRETS, secret.namespace, secret.name, uid=secret.uid, resource_version=secret.resource_version
                )
                self._mirror.observe_secret("DELETED", _body_of(secret), self._settings.credentials_namespace)
                self._did(facts, action)
                log.info("pull secret deleted: %s/%s", secret.namespace, secret.name)

    def _did(self, facts: d.Facts, action: d.Action, password_id: str = "") -> None:
        for matter in d.matters(facts, action):
            self._contention.did(matter, facts.token.generation, password_id)
            self._contention.forget(matter._replace(removal=not matter.removal))

    async def _make_password(self, facts: d.Facts, slot: SlotName) -> None:
        assert facts.spec is not None
        taken = {other.id for other in facts.record.slots.values()} | set(facts.spec.passwords.revoked)
        id_ = next(id_ for id_ in iter(passwords.new_id, "") if id_ not in taken)
        nonce = passwords.new_nonce()
        password = passwords.derive(self._seed, facts.token.uid, nonce, id_)
        hash_ = await asyncio.to_thread(hashing.hash_password, password.text, self._settings.bcrypt_cost)
        now = self._now().replace(microsecond=0)
        made = Slot(
            id=id_,
            nonce=nonce,
            seed=self._gatherer.seed_id,
            hash=hash_,
            created_at=now,
            expires_at=rotation.expiry_of_new(facts.spec.passwords, now),
        )
        await self._write_record(facts, rotation.made(facts.record, slot, made, facts.token.requests))
        log.info("password made: token %s/%s, id %s", facts.token.namespace, facts.token.name, id_)

    async def _write_record(self, facts: d.Facts, record: Record) -> None:
        self._assert_unchanged(facts)
        namespace = self._settings.credentials_namespace
        body = record.to_secret(namespace)
        name = body["metadata"]["name"]
        stored = self._mirror.records.get(record.token_uid)
        try:
            if stored is None:
                answer = await self._kube.create(SECRETS, namespace, body)
            else:
                body["metadata"] |= {"uid": stored.uid, "resourceVersion": stored.resource_version}
                answer = await self._kube.replace(SECRETS, namespace, name, body)
        except (Conflict, NotFound):
            await self._refresh_record(record.token_uid, name)
            raise
        self._observe(facts.token, answer)
        await self._reporter.revoked(facts, record)

    def _observe(self, token: StoredToken, answer: dict[str, Any]) -> None:
        """The watch brings no news of an answer, so whom else it concerns is woken here: another token, or the sweep
        where this token was deleted meanwhile."""
        for key in self._mirror.observe_secret("MODIFIED", answer, self._settings.credentials_namespace):
            if key != token.key:
                self._wake(key)

    async def _refresh_record(self, token_uid: str, name: str) -> None:
        namespace = self._settings.credentials_namespace
        try:
            body = await self._kube.get(SECRETS, namespace, name)
        except NotFound:
            self._mirror.records.pop(token_uid, None)
            return
        self._mirror.observe_secret("MODIFIED", body, namespace)

    async def _confirm_record(self, facts: d.Facts) -> str:
        """The resourceVersion of the record that the API server has, which is that of the facts."""
        await self._refresh_record(facts.token.uid, names.record_name(facts.token.uid))
        self._assert_unchanged(facts)
        return self._mirror.records[facts.token.uid].resource_version

    async def _confirm_hash(self, facts: d.Facts, slot: SlotName) -> None:
        """Checks what the token servers, which are told no password, cannot: that the stored hash fits the password.

        A new password whose hash was damaged is dropped, so that another is made. One that is published stays, as its
        end may be that of all access (`onExpiry: Revoke`).
        """
        token, stored = facts.token, facts.record.slots[slot]
        password = self._gatherer.password(token, stored)
        if await asyncio.to_thread(hashing.check, password.text, stored.hash):
            return
        text = f"the hash of password {stored.id} in the credential record is not that of the password"
        if slot != facts.record.pending:
            raise NotConfirmedError(f"{text}; annotate the token with {names.REGENERATE_ANNOTATION} to replace it")
        await self._write_record(facts, facts.record.without_slot(slot))
        raise NotConfirmedError(f"{text}; another password is made")

    def _assert_unchanged(self, facts: d.Facts) -> None:
        token, stored = facts.token, self._mirror.records.get(facts.token.uid)
        known = stored.record if stored is not None and stored.record is not None else None
        if (known or Record(token.uid, token.namespace, token.name)) != facts.record:
            raise Conflict(f"the credential record of {token.namespace}/{token.name} changed meanwhile", 409)

    async def _write_pull_secret(self, facts: d.Facts, wanted: Wanted, slot: SlotName, problems: list[Problem]) -> bool:
        """Tells whether anything was written, also where somebody was in the way of the rest."""
        place = f"{wanted.namespace}/{wanted.name}"
        try:
            live = await self._kube.get(SECRETS, wanted.namespace, wanted.name)
        except NotFound:
            live = None
        if live is not None:
            secret = StoredPullSecret.read(live)
            if secret is None or not wanted.owns(secret):
                whose = (
                    f"belongs to RegistryToken {secret.token}"
                    if secret is not None and secret.token
                    else "was not made by pullpass"
                )
                problems.append(
                    Problem(
                        wanted.namespace,
                        Reason.SECRET_NOT_OWNED,
                        f"Secret {place} {whose} and is left as it is; "
                        "delete it, or make a RegistryToken with another spec.pullSecret.name",
                    )
                )
                return False
        # After the look at what is there: whoever publishes another password from now on changes one of the two.
        await self._confirm_record(facts)
        assert facts.registry is not None
        body = wanted.body(self._gatherer.content(facts.registry, facts.token, facts.record.slots[slot]))
        if live is not None:
            # The same object is changed in place: to a node, a Secret made anew is a stranger.
            body["metadata"] |= {
                "uid": live["metadata"]["uid"],
                "resourceVersion": live["metadata"]["resourceVersion"],
            }
        made = False
        try:
            if live is None:
                # Only a creation fails where there is one by now: an apply would take over what another token's pass
                # has made meanwhile. Owners are left to the apply, as it takes away only what was applied.
                bare = {key: value for key, value in body["metadata"].items() if key != "ownerReferences"}
                live = await self._kube.create(SECRETS, wanted.namespace, {**body, "metadata": bare})
                made = True
                body["metadata"] |= {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
            answer = await self._kube.apply(SECRETS, wanted.namespace, wanted.name, body)
        except (Refused, NotFound) as error:
            problems.append(Problem(wanted.namespace, Reason.WRITE_REFUSED, f"Secret {place}: {error}"))
            return made
        except Conflict as error:
            problems.append(Problem(wanted.namespace, Reason.WRITE_REFUSED, str(error), told=False))
            return made
        self._observe(facts.token, answer)
        log.info(
            "pull secret written: %s, token %s/%s, password id %s",
            place,
            facts.token.namespace,
            facts.token.name,
            facts.record.slots[slot].id,
        )
        return True

    async def _mark_published(self, facts: d.Facts, slot: SlotName, problems: list[Problem]) -> None:
        assert facts.spec is not None
        before, policy = facts.record.published, facts.spec.passwords
        now = self._now().replace(microsecond=0)
        refused = any(problem.reason is Reason.WRITE_REFUSED for problem in problems)
        if refused and rotation.waits_for_every_place(facts.record, slot, policy, facts.token.requests, now):
            return  # somewhere the old password is still in use, so it must not start to retire
        record = rotation.published(facts.record, slot, policy, now)
        await self._write_record(facts, record)
        # What was in the way in one place does not keep the rest from settling; it is met again then.
        problems.clear()
        id_ = facts.record.slots[slot].id
        if before is None:
            await self._reporter.event(
                facts.token, "Normal", "PasswordPublished", f"password {id_} published in {slot}"
            )
        else:
            old = facts.record.slots[before].id
            await self._reporter.event(
                facts.token,
                "Normal",
                "PasswordRotated",
                f"password {id_} in {slot} replaces {old} in {before}"
                + ("" if before in record.slots else ", which is refused from now on"),
            )


def _body_of(secret: StoredPullSecret) -> dict[str, Any]:
    metadata = {"namespace": secret.namespace, "name": secret.name, "uid": secret.uid}
    return {"metadata": {**metadata, "resourceVersion": secret.resource_version}}
