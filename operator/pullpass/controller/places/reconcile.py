"""Brings one place of a token to where it should be: its pull secret, and its entries in ServiceAccounts.

Each place has a key of its own in the work queue, so whatever is in the way here is in nobody else's: it is reported,
and tried again with a back-off of its own. Before a password is written, the record is read again from the API server:
a cache that lags must not put an old one in the place of a new one.
"""

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from typing import Any

from pullpass.api import names
from pullpass.api.conditions import Reason
from pullpass.api.times import utcnow
from pullpass.controller.cache import Cache
from pullpass.controller.facts import Facts, Gatherer
from pullpass.controller.outcome import Outcome
from pullpass.controller.places import plan as p
from pullpass.controller.places.entries import Entries
from pullpass.controller.places.pull_secret import StoredPullSecret, Wanted, holds
from pullpass.controller.places.repairs import Item, Repairs
from pullpass.controller.places.report import Aim, Problem, Report, Reports
from pullpass.controller.queue import Key
from pullpass.controller.records import Records
from pullpass.controller.settings import OperatorSettings
from pullpass.kube.client import Kube, KubeError, NotFound, Refused, Unavailable, not_stored
from pullpass.kube.resources import SECRETS

log = logging.getLogger(__name__)

MAX_ATTEMPTS = 3
"""Failed passes in a row after which a pull secret counts as one that cannot be written, where nobody refuses it."""
HANGING_SECONDS = 5.0
"""A write that failed after so long counts for all of them."""
MAX_UNANSWERED = 2
"""Writes to ServiceAccounts without a proper answer, after which a pass is over; the others have the next one."""
QUICK_SECONDS = 0.5
"""An error of a webhook or the API server that comes sooner is a proper answer, unless there are too many requests."""
NO_SPEC = 0
"""In place of the generation of a spec: a token that is gone has none."""


class NotOwnedError(Exception):
    """A Secret of the wanted name is not that of this token; the text says whose it is and what to do."""


class ImmutableError(Exception):
    """The Secret cannot be changed any more; the text says what to do."""


@dataclass
class _Attempt:
    """What a pass has met so far."""

    written: bool = False
    problems: list[Problem] = field(default_factory=list)
    secret_failed: bool = False
    """Whether the pull secret could not be written."""
    secret_refused: bool = False
    """Whether it is no use to try that again before somebody has changed something."""
    refused: bool = False
    """Whether one of the problems does not pass by itself."""
    failed: set[Item] = field(default_factory=set)
    untried: set[Item] = field(default_factory=set)
    """What had no turn; another pass tries it."""
    unanswered: int = 0
    """Writes to ServiceAccounts that the API server gave no proper answer to."""
    retry: str | None = None
    retry_after: float = 0
    defect: bool = False
    hanging: bool = False
    """Whether a write failed only after HANGING_SECONDS."""


class PlaceReconciler:
    """Works on the keys of places. `wake` takes keys of others that an answer to a write concerns."""

    def __init__(
        self,
        kube: Kube,
        cache: Cache,
        settings: OperatorSettings,
        gatherer: Gatherer,
        records: Records,
        reports: Reports,
        wake: Callable[[Key], None],
        *,
        now: Callable[[], datetime] = utcnow,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._cache = cache
        self._settings = settings
        self._gatherer = gatherer
        self._records = records
        self._reports = reports
        self._entries = Entries(kube, cache, wake)
        self._repairs = Repairs(monotonic=monotonic)
        self._stripped: dict[tuple[str, str], str] = {}
        """UID of the Secret that lost what names its token as it was written, by UID of the token and namespace."""
        self._failed_leftovers: dict[Key, frozenset[Item]] = {}
        """What could not be taken away after tokens that are gone, which comes last the next time."""
        self._wake = wake
        self._now = now
        self._monotonic = monotonic

    def plan(self, facts: Facts, place: p.Place) -> p.PlacePlan:
        """What a pass would do now. Only reads."""
        missing = facts.token.pull_secret_name if place.secret is None else ""
        waits = self._repairs.waits(place.token_uid, place.namespace, facts.token.generation, facts.now, missing)
        return p.plan(facts, place, waits)

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over one place. Raises nothing: whatever goes wrong is reported, and a reason to try again."""
        token_key = self._cache.tokens_by_uid.get(key.name)
        if token_key is None:
            return await self._clean_up(key)
        attempt = _Attempt()
        facts = self._gatherer.facts(self._cache.tokens[token_key])
        place = p.place(self._cache, facts, key.namespace)
        before = self._reports.get(key.namespace, key.name)
        plan = self.plan(facts, place)
        aim = Aim.of(facts, place)
        actions, later = p.turns(place, plan.actions, before.failed if before is not None else frozenset())
        while actions and attempt.unanswered < MAX_UNANSWERED:
            action = actions.popleft()
            await self._attempt(facts, place, action, attempt)
            if isinstance(action, p.WritePullSecret):
                # What the token waits for is known now, however long ServiceAccounts take. People are told at the end.
                attempt.untried = _items(place, actions, later)
                report = _report(aim, before, attempt, plan.contested)
                if report is not None and (before is None or not before.told):
                    report = replace(report, told=False)
                self._reports.put(key.namespace, key.name, report)
                self._wake(token_key)
            elif attempt.unanswered:
                actions = p.entries_last(actions)
        attempt.untried = _items(place, actions, later)
        if plan.actions:
            # What was written changes what there is to report: a repair that was made again may not last.
            facts = self._gatherer.facts(facts.token)
            place = p.place(self._cache, facts, key.namespace)
            plan = self.plan(facts, place)
        for item in plan.missed:
            self._repairs.missed(item)
        changed = self._reports.put(key.namespace, key.name, _report(aim, before, attempt, plan.contested))
        follow = frozenset({token_key}) if changed or attempt.written else frozenset()
        return self._outcome(plan, attempt, follow)

    async def _clean_up(self, key: Key) -> Outcome:
        """Takes away what a token that is gone has left here, once the API server itself has said that it is gone."""
        token_uid, attempt = key.name, _Attempt()
        self._stripped.pop((token_uid, key.namespace), None)
        place = p.leftovers(self._cache, key.namespace, token_uid)
        waits = self._repairs.waits(token_uid, key.namespace, NO_SPEC, self._now())
        plan = p.plan_leftovers(place, waits)
        if plan.actions and token_uid not in self._cache.gone:
            return Outcome(follow=frozenset({Key("cleanup", name=token_uid)}))
        before = self._failed_leftovers.pop(key, frozenset())
        actions, later = p.turns(place, plan.actions, before)
        while actions and attempt.unanswered < MAX_UNANSWERED:
            await self._attempt(None, place, actions.popleft(), attempt)
        if failed := attempt.failed | (before & _items(place, actions, later)):
            self._failed_leftovers[key] = frozenset(failed)
        waits = self._repairs.waits(token_uid, key.namespace, NO_SPEC, self._now())
        plan = p.plan_leftovers(p.leftovers(self._cache, key.namespace, token_uid), waits)
        return self._outcome(plan, attempt, frozenset())

    def _outcome(self, plan: p.PlacePlan, attempt: _Attempt, follow: frozenset[Key]) -> Outcome:
        """What comes of a pass, given the plan after it. What is left of it and did not fail has the next pass: others
        have their turn in between."""
        more = self._now() if plan.actions and attempt.retry is None else None
        return Outcome(
            due=min((at for at in (plan.repair, more) if at), default=None),
            retry=attempt.retry,
            retry_after=attempt.retry_after,
            defect=attempt.defect,
            follow=follow,
            recovered=attempt.written,
        )

    # act

    async def _attempt(self, facts: Facts | None, place: p.Place, action: p.Action, attempt: _Attempt) -> None:
        """Carries out one action, and notes what goes wrong."""
        begun = self._monotonic()
        try:
            if await self._act(facts, place, action):
                attempt.written = True
                generation = facts.token.generation if facts is not None else NO_SPEC
                password_id = action.password_id if isinstance(action, p.WritePullSecret) else ""
                for item in p.items(place, action):
                    self._repairs.did(item, generation, password_id)
        except (KubeError, NotOwnedError, ImmutableError) as error:
            seconds = self._monotonic() - begun
            attempt.hanging |= seconds >= HANGING_SECONDS
            if isinstance(action, p.AddEntry | p.RemoveEntry) and isinstance(error, Unavailable):
                attempt.unanswered += seconds >= QUICK_SECONDS or error.status in (0, 429)
            self._note(place, action, attempt, error, str(error))
        except Exception as error:
            # An answer that nobody expects harms this place only. Its text could quote what it stumbled over.
            token = (
                f"{facts.token.namespace}/{facts.token.name}" if facts is not None else f"with UID {place.token_uid}"
            )
            log.exception("unexpected error over RegistryToken %s in namespace %s", token, place.namespace)
            attempt.defect = True
            self._note(place, action, attempt, error, f"a defect of pullpass ({type(error).__name__}), see the log")

    def _note(self, place: p.Place, action: p.Action, attempt: _Attempt, error: Exception, text: str) -> None:
        attempt.retry = attempt.retry or text
        if isinstance(error, Unavailable):
            attempt.retry_after = max(attempt.retry_after, error.retry_after)
        writes = isinstance(action, p.WritePullSecret)
        refused = isinstance(error, Refused | NotFound | NotOwnedError | ImmutableError)
        attempt.secret_failed |= writes
        attempt.secret_refused |= writes and refused
        if not writes:
            attempt.failed.update(p.items(place, action))
        verb = "written"
        match action:
            case p.WritePullSecret(wanted):
                what, about = f"Secret {wanted.namespace}/{wanted.name}", ""
            case p.DeletePullSecret(secret) if place.wanted is not None and secret.name == place.wanted.name:
                what, about, verb = f"Secret {secret.namespace}/{secret.name}", "", "deleted"
            case p.AddEntry(account, secret):
                what, about = (
                    f"the entry of {secret} in ServiceAccount {account.namespace}/{account.name}",
                    account.name,
                )
            case _:
                # Of what else is taken away nothing is told: everybody can write a label or an annotation that names
                # this token.
                return
        attempt.refused |= refused
        if isinstance(error, NotOwnedError):
            attempt.problems.append(Problem(place.namespace, Reason.SECRET_NOT_OWNED, text))
        elif isinstance(error, ImmutableError):
            attempt.problems.append(Problem(place.namespace, Reason.WRITE_REFUSED, text))
        else:
            reason = Reason.WRITE_REFUSED if refused else Reason.WRITE_FAILED
            text = f"{what} cannot be {verb}, and is tried again: {text}"
            attempt.problems.append(Problem(place.namespace, reason, text, about))

    async def _act(self, facts: Facts | None, place: p.Place, action: p.Action) -> bool:
        """Tells whether anything was written."""
        match action:
            case p.AddEntry(account, entry):
                return await self._entries.add(account, entry, place.token_uid)
            case p.RemoveEntry(account, keep):
                return await self._entries.remove(account, place.token_uid, keep)
            case p.WritePullSecret(wanted):
                assert facts is not None
                await self._write_pull_secret(facts, wanted, action)
                return True
            case p.DeletePullSecret(secret):
                await self._delete_pull_secret(secret)
                return True

    async def _delete_pull_secret(self, secret: StoredPullSecret) -> None:
        # In its version, too: a successor takes the object over as it is, and its owner may have made it his.
        await self._kube.delete(
            SECRETS, secret.namespace, secret.name, uid=secret.uid, resource_version=secret.resource_version
        )
        self._cache.observe_secret("DELETED", _body_of(secret), self._settings.credentials_namespace)
        log.info("pull secret deleted: %s/%s", secret.namespace, secret.name)

    async def _write_pull_secret(self, facts: Facts, wanted: Wanted, action: p.WritePullSecret) -> None:
        """Raises NotOwnedError, ImmutableError, and KubeError where the API server refuses it, fails, or the record has
        changed."""
        where = f"{wanted.namespace}/{wanted.name}"
        try:
            live = await self._kube.get(SECRETS, wanted.namespace, wanted.name)
        except NotFound:
            live = None
        if live is not None:
            self._must_be_ours(facts, wanted, live)
        # After the look at what is there: whoever publishes another password from now on changes one of the two.
        await self._records.confirm_unchanged(facts)
        assert facts.registry is not None
        slot = facts.record.slots[action.slot]
        body = wanted.body(self._gatherer.content(facts.registry, facts.token, slot))
        if live is not None and live.get("immutable") and live.get("data") != body["data"]:
            raise ImmutableError(f"Secret {where} is immutable; delete it, and it is made anew")
        if live is None:
            # Only a creation fails where there is one by now: an apply would take over what another token's pass
            # has made meanwhile. Owners are left to the apply, as it takes away only what was applied.
            bare = {key: value for key, value in body["metadata"].items() if key != "ownerReferences"}
            live = await self._kube.create(SECRETS, wanted.namespace, {**body, "metadata": bare})
        # The same object is changed in place: to a node, a Secret made anew is a stranger.
        body["metadata"] |= {key: live["metadata"][key] for key in ("uid", "resourceVersion")}
        answer = await self._kube.apply(SECRETS, wanted.namespace, wanted.name, body)
        lost = not_stored(body, answer)
        self._stripped.pop((facts.token.uid, wanted.namespace), None)
        if lost:
            self._stripped[facts.token.uid, wanted.namespace] = answer["metadata"]["uid"]
            raise Refused(
                f"the API server stored it without {', '.join(lost)}; look for the policy or webhook in namespace "
                f"{wanted.namespace} that takes them away",
                422,
            )
        # The watch brings no news of an answer, so whom else it concerns is woken here.
        for key in self._cache.observe_secret("MODIFIED", answer, self._settings.credentials_namespace):
            if key.name != facts.token.uid:
                self._wake(key)
        token = facts.token
        log.info("pull secret written: %s, token %s/%s, password id %s", where, token.namespace, token.name, slot.id)

    def _must_be_ours(self, facts: Facts, wanted: Wanted, live: dict[str, Any]) -> None:
        """Raises NotOwnedError for a Secret that is not that of the token.

        One that has lost its labels or annotations, by a policy or by hand, and names no other token, is known by the
        password in it, or as the very object that this process wrote.
        """
        secret = StoredPullSecret.read(live)
        if secret is not None and wanted.owns(secret):
            return
        named = (live["metadata"].get("annotations") or {}).get(names.TOKEN_ANNOTATION)
        nobodys = named in (None, "", f"{wanted.token_namespace}/{wanted.token_name}")
        if nobodys and (secret is None or secret.token_uid == wanted.token_uid):
            known = [slot for slot in facts.record.slots.values() if slot.seed == self._gatherer.seed_id]
            texts = [self._gatherer.password(facts.token, slot).text for slot in known]
            written = self._stripped.get((wanted.token_uid, wanted.namespace))
            if live["metadata"]["uid"] == written or holds(live, wanted.username, texts):
                return
        whose = (
            f"belongs to RegistryToken {secret.token}"
            if secret is not None and secret.token
            else "was not made by pullpass"
        )
        raise NotOwnedError(
            f"Secret {wanted.namespace}/{wanted.name} {whose} and is left as it is; "
            "delete it, or make a RegistryToken with another spec.pullSecret.name"
        )


def _items(place: p.Place, *actions: Iterable[p.Action]) -> set[Item]:
    return {item for action in chain(*actions) for item in p.items(place, action)}


def _report(aim: Aim, before: Report | None, attempt: _Attempt, contested: frozenset[Item]) -> Report | None:
    if attempt.retry is None and not contested:
        return None
    attempts = 0
    if attempt.retry is not None:
        earlier = before.attempts if before is not None else 0
        attempts = MAX_ATTEMPTS if attempt.hanging else min(earlier + 1, MAX_ATTEMPTS)
    # Of what had no turn is told what was told before, so that the message does not change with each pass.
    untried = {item.account for item in attempt.untried if item.account}
    kept = [problem for problem in before.problems if problem.account in untried] if before is not None else []
    problems = sorted([*attempt.problems, *kept], key=lambda problem: problem.account)
    return Report(
        aim=aim,
        problems=tuple(problems),
        blocked=attempt.secret_refused or (attempt.secret_failed and attempts == MAX_ATTEMPTS),
        contested=contested,
        failed=frozenset(attempt.failed | (before.failed & attempt.untried if before is not None else set())),
        attempts=attempts,
        told=not problems or attempt.refused or attempts == MAX_ATTEMPTS,
    )


def _body_of(secret: StoredPullSecret) -> dict[str, Any]:
    metadata = {"namespace": secret.namespace, "name": secret.name, "uid": secret.uid}
    return {"metadata": {**metadata, "resourceVersion": secret.resource_version}}
