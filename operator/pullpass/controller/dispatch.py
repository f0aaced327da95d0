"""Works the queue: which pass is for which kind of key, and what becomes of a key after its pass.

Whatever goes wrong in a pass brings its key again, and stops nothing else.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import NoReturn

from pullpass.api.times import utcnow
from pullpass.controller import metrics
from pullpass.controller.cache import Cache
from pullpass.controller.facts import Gatherer
from pullpass.controller.keys import serving, signing
from pullpass.controller.keys.availability import Availability
from pullpass.controller.keys.known import KnownCAs
from pullpass.controller.keys.storage import KeySecretError
from pullpass.controller.outcome import Outcome
from pullpass.controller.places.reconcile import PlaceReconciler
from pullpass.controller.places.report import Reports
from pullpass.controller.queue import Key, Kind, WorkQueue
from pullpass.controller.records import Records
from pullpass.controller.replicas import Replicas
from pullpass.controller.settings import OperatorSettings
from pullpass.controller.tokens.cleanup import Cleanup
from pullpass.controller.tokens.reconcile import TokenReconciler
from pullpass.controller.tokens.report import Reporter
from pullpass.kube.client import Conflict, Kube, KubeError
from pullpass.kube.events import EventSender

log = logging.getLogger(__name__)

Pass = Callable[[Key], Awaitable[Outcome]]
"""Works on one key. May raise a KubeError or KeySecretError: the key then comes again."""


def passes(
    kube: Kube,
    cache: Cache,
    settings: OperatorSettings,
    seed: bytes,
    replicas: Replicas,
    wake: Callable[[Key], None],
    events: EventSender,
    *,
    now: Callable[[], datetime] = utcnow,
    monotonic: Callable[[], float] = time.monotonic,
) -> dict[Kind, Pass]:
    """Makes what works on the keys of each kind. `wake` queues keys that an answer to a write concerns; `events` posts
    what is to be told."""
    gatherer = Gatherer(cache, settings, seed, now)
    records = Records(kube, cache, settings.credentials_namespace, wake)
    reports = Reports()
    places = PlaceReconciler(kube, cache, settings, gatherer, records, reports, wake, now=now, monotonic=monotonic)
    reporter = Reporter(kube, cache, events, wake, now)
    tokens = TokenReconciler(cache, settings, gatherer, records, reports, replicas, places, reporter, wake, now=now)
    known_cas = KnownCAs(kube, settings)
    availability = Availability(cache, settings, replicas)
    cleanup = Cleanup(kube, cache, records, tokens.forget)

    async def sign(key: Key) -> Outcome:
        registry = settings.registries.of_signing_secret(key.name)
        # What registries of former days left behind stays as it is.
        return Outcome(due=await signing.reconcile(kube, settings, registry, now(), known_cas) if registry else None)

    async def ask(_: Key) -> Outcome:
        return await availability.check(now())

    async def serve(_: Key) -> Outcome:
        return Outcome(due=await serving.reconcile(kube, settings, now(), known_cas))

    return {
        "token": tokens.reconcile,
        "place": places.reconcile,
        "status": reporter.write,
        "cleanup": cleanup.reconcile,
        "signing-keys": sign,
        "availability": ask,
        "server-keys": serve,
    }


async def dispatch(queue: WorkQueue, passes: Mapping[Kind, Pass], statuses: WorkQueue | None = None) -> NoReturn:
    """Works on key after key, each as soon as the queue lets it begin.

    Keys of kind `status` that follow go to the queue `statuses`, which is worked on apart: however many writes of
    statuses hang or fail, they take neither a turn nor a retry of what passwords depend on.
    """
    statuses = queue if statuses is None else statuses
    async with asyncio.TaskGroup() as group:
        while True:
            key = await queue.get()
            group.create_task(_pass(queue, key, passes[key.kind], statuses))
            # One pass begins in each turn of the event loop. With little processor time a turn of many would take
            # seconds, and the renewal of the Lease, which needs several, would come too late.
            await asyncio.sleep(0)


async def _pass(queue: WorkQueue, key: Key, work_on: Pass, statuses: WorkQueue) -> None:
    """Works on one key. Whatever goes wrong brings the key again, and stops nothing else."""
    start = time.monotonic()
    try:
        found = await work_on(key)
    except (KubeError, KeySecretError) as error:
        outcome, delay = "failed", queue.failed(key, getattr(error, "retry_after", 0))
        level = logging.INFO if isinstance(error, Conflict) else logging.WARNING
        log.log(level, "%s comes again in %.1f s: %s", key, delay, error)
    except Exception:
        outcome, delay = "defect", queue.failed(key)
        log.exception("%s comes again in %.1f s: a defect", key, delay)
    else:
        queue.set_due(key, found.due)
        for follower in found.follow:
            if follower.kind == "status":
                statuses.add(follower, urgent=queue.is_urgent(key))
            else:
                queue.add_beside(follower, key)
        if found.recovered:
            queue.recovered(key.namespace)
        if found.retry is None:
            outcome = "done"
            queue.done(key)
        else:
            outcome, delay = "defect" if found.defect else "again", queue.failed(key, found.retry_after)
            log.debug("%s comes again in %.1f s: %s", key, delay, found.retry)
    metrics.RECONCILES.labels(key.kind, outcome).inc()
    metrics.DURATION.labels(key.kind).observe(time.monotonic() - start)
