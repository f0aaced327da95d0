"""Brings one RegistryToken to where it should be: gather facts, decide, act, and write the status.

What is learned from an answer to a write goes into the mirror at once, so the next decision knows of it. The watch
brings no news of it then, so what others changed in between wakes its keys from here. Before a password is
published, the record is read again from the API server: a mirror that lags must not publish an old one.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pullpass.api import names
from pullpass.api.conditions import Reason
from pullpass.api.registrytoken import SlotName
from pullpass.controller import decide as d
from pullpass.controller import serviceaccounts
from pullpass.controller.acceptance import NotAcceptedError, TokenServers
from pullpass.controller.gather import Gatherer
from pullpass.controller.mirror import Mirror, Token
from pullpass.controller.pullsecrets import PullSecret, Wanted
from pullpass.controller.queue import Key
from pullpass.controller.report import Reporter
from pullpass.controller.serviceaccounts import ServiceAccount
from pullpass.controller.settings import Settings
from pullpass.controller.status import Problem
from pullpass.credentials import hashing, rotation
from pullpass.credentials import password as passwords
from pullpass.credentials.record import Record, Slot
from pullpass.kube.client import Conflict, Kube, NotFound, Refused
from pullpass.kube.resources import SECRETS, SERVICE_ACCOUNTS

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
        mirror: Mirror,
        settings: Settings,
        token_servers: TokenServers,
        seed: bytes,
        wake: Callable[[Key], None],
        *,
        now: Callable[[], datetime] = _utcnow,
    ) -> None:
        self._kube = kube
        self._mirror = mirror
        self._settings = settings
        self._token_servers = token_servers
        self._seed = seed
        self._gatherer = Gatherer(mirror, settings, seed)
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
            try:
                for action in plan.actions:
                    await self._act(facts, action, problems)
            except NotAcceptedError as error:
                await self._reporter.status(facts, plan, problems, str(error))
                return Outcome(due=self._now() + ASK_AGAIN, retry=str(error))
            if not plan.again:
                await self._reporter.status(
                    facts if not plan.actions else self._gatherer.facts(token), plan, problems, None
                )
                retry = problems[0].message if problems else None
                return Outcome(due=plan.due, retry=retry)
            if problems:
                await self._reporter.status(self._gatherer.facts(token), plan, problems, None)
                return Outcome(retry=problems[0].message)
        return Outcome(retry="the token does not settle")

    # act

    async def _act(self, facts: d.Facts, action: d.Action, problems: list[Problem]) -> None:
        token = facts.token
        match action:
            case d.AddEntry(account, secret):
                await self._patch_account(account, serviceaccounts.add_entry(account, secret, token.uid))
            case d.RemoveEntry(account, keep):
                await self._patch_account(account, serviceaccounts.remove_entries(account, token.uid, keep))
            case d.MakePassword(slot):
                await self._make_password(facts, slot)
            case d.WriteRecord(record):
                await self._write_record(record)
            case d.AwaitAcceptance(slot):
                await self._confirm_record(token)
                username = names.username(token.namespace, token.name)
                await self._token_servers.accept(username, self._gatherer.password(token, facts.record.slots[slot]))
            case d.WritePullSecret(wanted, slot):
                await self._write_pull_secret(facts, wanted, slot, problems)
            case d.MarkPublished(slot):
                await self._mark_published(facts, slot, problems)
            case d.DeletePullSecret(secret):
                await self._kube.delete(SECRETS, secret.namespace, secret.name, uid=secret.uid)
                self._mirror.observe_secret("DELETED", _body_of(secret), self._settings.credentials_namespace)
                log.info("pull secret deleted: %s/%s", secret.namespace, secret.name)

    async def _patch_account(self, account: ServiceAccount, operations: list[dict[str, Any]]) -> None:
        if not operations:
            return
        try:
            body = await self._kube.json_patch(SERVICE_ACCOUNTS, account.namespace, account.name, operations)
        except NotFound:
            return  # its deletion is on its way through the watch
        except Refused as error:
            if error.status != 422:
                raise
            # The test of the patch did not hold: somebody else changed the ServiceAccount.
            body = await self._kube.get(SERVICE_ACCOUNTS, account.namespace, account.name)
            for key in self._mirror.observe_service_account("MODIFIED", body):
                self._wake(key)
            raise Conflict(f"ServiceAccount {account.namespace}/{account.name} changed meanwhile", 409) from None
        self._mirror.observe_service_account("MODIFIED", body)

    async def _make_password(self, facts: d.Facts, slot: SlotName) -> None:
        assert facts.spec is not None
        taken = {other.id for other in facts.record.slots.values()}
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
        await self._write_record(facts.record.with_slot(slot, made))
        log.info("password made: token %s/%s, id %s", facts.token.namespace, facts.token.name, id_)

    async def _write_record(self, record: Record) -> None:
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
        self._mirror.observe_secret("MODIFIED", answer, namespace)

    async def _refresh_record(self, token_uid: str, name: str) -> None:
        namespace = self._settings.credentials_namespace
        try:
            body = await self._kube.get(SECRETS, namespace, name)
        except NotFound:
            self._mirror.records.pop(token_uid, None)
            return
        self._mirror.observe_secret("MODIFIED", body, namespace)

    async def _confirm_record(self, token: Token) -> None:
        known = self._mirror.records.get(token.uid)
        await self._refresh_record(token.uid, names.record_name(token.uid))
        if self._mirror.records.get(token.uid) != known:
            raise Conflict(f"the credential record of {token.namespace}/{token.name} changed meanwhile", 409)

    async def _write_pull_secret(self, facts: d.Facts, wanted: Wanted, slot: SlotName, problems: list[Problem]) -> None:
        await self._confirm_record(facts.token)
        place = f"{wanted.namespace}/{wanted.name}"
        try:
            live = await self._kube.get(SECRETS, wanted.namespace, wanted.name)
        except NotFound:
            live = None
        if live is not None:
            secret = PullSecret.read(live)
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
                return
        body = wanted.body(self._gatherer.content(facts.token, facts.record.slots[slot]))
        if live is not None:
            # The same object is changed in place: to a node, a Secret made anew is a stranger.
            body["metadata"] |= {
                "uid": live["metadata"]["uid"],
                "resourceVersion": live["metadata"]["resourceVersion"],
            }
        try:
            answer = await self._kube.apply(SECRETS, wanted.namespace, wanted.name, body, force=live is not None)
        except (Refused, NotFound) as error:
            problems.append(Problem(wanted.namespace, Reason.WRITE_REFUSED, f"Secret {place}: {error}"))
            return
        self._mirror.observe_secret("MODIFIED", answer, self._settings.credentials_namespace)
        log.info(
            "pull secret written: %s, token %s/%s, password id %s",
            place,
            facts.token.namespace,
            facts.token.name,
            facts.record.slots[slot].id,
        )

    async def _mark_published(self, facts: d.Facts, slot: SlotName, problems: list[Problem]) -> None:
        assert facts.spec is not None
        before = facts.record.published
        refused = any(problem.reason is Reason.WRITE_REFUSED for problem in problems)
        if refused and before is not None and facts.record.slots[before].valid_at(self._now()):
            return  # somewhere the old password is still in use, so it must not start to retire
        now = self._now().replace(microsecond=0)
        await self._write_record(rotation.published(facts.record, slot, facts.spec.passwords, now))
        # A foreign Secret in one place does not keep the rest from settling; it is met again then.
        problems[:] = [problem for problem in problems if problem.reason is Reason.WRITE_REFUSED and refused]
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
                f"password {id_} in {slot} replaces {old} in {before}",
            )


def _body_of(secret: PullSecret) -> dict[str, Any]:
    metadata = {"namespace": secret.namespace, "name": secret.name, "uid": secret.uid}
    return {"metadata": {**metadata, "resourceVersion": secret.resource_version}}
