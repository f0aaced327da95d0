"""The operator process: what it starts, in which order, and what ends it.

Kopf fills the mirror from the first moment, also in a standby replica, which so can begin at once when its turn
comes. Only the holder of the Lease works the queue, and only once everything that the API server lists has been seen:
a decision on half of the facts would be a write too many. If any part ends, the process ends, and its Deployment
starts it anew.
"""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime, timedelta
from functools import partial

import kopf
from prometheus_client import start_http_server

from pullpass.api.registries import Registries
from pullpass.controller import metrics
from pullpass.controller import watch as handlers
from pullpass.controller.cache import Cache
from pullpass.controller.keys import serving as serverkeys
from pullpass.controller.keys import signing as signingkeys
from pullpass.controller.keys.storage import KeySecretError
from pullpass.controller.places.entries import Entries
from pullpass.controller.queue import Key, WorkQueue
from pullpass.controller.replicas import TokenServers
from pullpass.controller.resync import resync
from pullpass.controller.settings import OperatorSettings
from pullpass.controller.tokens.cleanup import Orphans
from pullpass.controller.tokens.reconcile import TokenReconciler
from pullpass.kube.client import Conflict, Gone, Kube, KubeError, Unavailable
from pullpass.kube.lease import lead
from pullpass.kube.pace import Pace

log = logging.getLogger(__name__)

LEASE_NAME = "pullpass-operator"
RETRY_SECONDS = 1.0
KOPF_SECONDS = 10.0
"""How long Kopf may take to end."""
RESYNC = timedelta(minutes=10)
"""How long a deletion that Kopf's watch has lost goes unnoticed."""
SERVER_KEYS = Key("server-keys")


class OperatorEndedError(Exception):
    """A part of the operator ended that must not; the text says which."""


class OperatorState:
    """What the parts of the process have in common: the mirror, and the work queue while this replica is in charge.

    A standby has no queue, and whoever begins looks at everything.
    """

    def __init__(self) -> None:
        self.mirror = Cache()
        self.queue: WorkQueue | None = None
        self.synced = asyncio.Event()
        """Set once the mirror has everything that the API server lists."""

    def wake(self, keys: Iterable[Key], urgent: bool) -> None:
        """Queues keys that the watches have told of."""
        if self.queue is not None:
            for key in keys:
                self.queue.add(key, urgent=urgent)


async def run(settings: OperatorSettings) -> None:
    """Runs the operator until SIGTERM or SIGINT. Raises OperatorEndedError or KubeError where it cannot go on."""
    state = OperatorState()
    server, thread = start_http_server(settings.metrics_port)
    metrics.QUEUE.set_function(lambda: len(state.queue or ()))
    metrics.TOKENS.set_function(lambda: len(state.mirror.tokens))
    try:
        async with Kube.connect(settings.kubeconfig) as kube:
            stop, blind, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
            watching = asyncio.create_task(_watch(state, settings, stop, blind, stopped))
            comparing = asyncio.create_task(_compare(kube, state, settings))
            leading = asyncio.create_task(_lead(kube, state, settings))
            stopping = asyncio.create_task(stop.wait())
            going_blind = asyncio.create_task(blind.wait())
            await asyncio.wait(
                {watching, comparing, leading, stopping, going_blind}, return_when=asyncio.FIRST_COMPLETED
            )
            going_blind.cancel()
            # Work ends first, and the Lease is given back; Kopf would cancel both as tasks that it does not know.
            leading.cancel()
            comparing.cancel()
            led, compared = await asyncio.gather(leading, comparing, return_exceptions=True)
            stopped.set()
            await asyncio.wait({watching}, timeout=KOPF_SECONDS)
            if not watching.done():
                # Where a watch has failed for good, Kopf may wait for its own end for ever, and the event loop for it.
                log.warning("Kopf does not end; the process ends without it")
                logging.shutdown()
                os._exit(0 if stopping.done() else 1)
            watched, *_ = await asyncio.gather(watching, return_exceptions=True)
            if stopping.done():
                log.info("stopped")
                return
            stopping.cancel()
            for result in (led, compared, watched):
                if isinstance(result, Exception):
                    raise result
            raise OperatorEndedError("Kopf ended without a reason")
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def _watch(
    state: OperatorState, settings: OperatorSettings, stop: asyncio.Event, blind: asyncio.Event, stopped: asyncio.Event
) -> None:
    """Kopf, which also answers the liveness probe, until `stopped`. A signal to stop sets `stop`, and the first of
    Kopf's own tasks to end sets `blind`: it watches no more from then on, but may wait for the rest of itself for ever.
    """
    ready = asyncio.Event()
    others = asyncio.all_tasks()
    kopf_tasks = await kopf.spawn_tasks(
        registry=handlers.make_registry(state.mirror, state.wake, settings),
        settings=handlers.make_kopf_settings(),
        memories=handlers.Memories(),
        standalone=True,
        clusterwide=True,
        # Otherwise Kopf looks up the name of its user, and in the container that user has none.
        identity=settings.identity,  # type: ignore[arg-type]
        liveness_endpoint=f"http://0.0.0.0:{settings.health_port}/healthz",
        ready_flag=ready,
        stop_flag=stopped,
    )
    for task in kopf_tasks:
        task.add_done_callback(lambda _: blind.set())
    kopf_running = asyncio.create_task(kopf.run_tasks(kopf_tasks, ignored=others))
    getting_ready = asyncio.create_task(ready.wait())
    await asyncio.wait({kopf_running, getting_ready}, return_when=asyncio.FIRST_COMPLETED)
    getting_ready.cancel()
    # Kopf has put its own handlers there, which know nothing of the Lease.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await kopf_running


async def _compare(kube: Kube, state: OperatorState, settings: OperatorSettings) -> None:
    """Brings the mirror to what the API server lists, at the start and every ten minutes; a standby's as well."""
    while True:
        try:
            state.wake(await resync(kube, state.mirror, settings.credentials_namespace), False)
        except KubeError as error:
            if not state.synced.is_set() and not isinstance(error, Gone | Unavailable):
                raise
            log.warning("comparing with the API server: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
        else:
            state.synced.set()
            await asyncio.sleep(RESYNC.total_seconds())


async def _lead(kube: Kube, state: OperatorState, settings: OperatorSettings) -> None:
    async def work(kube: Kube) -> None:
        metrics.LEADER.set(1)
        await _work(kube, state, settings)

    # First its turn, then the Lease: what waits for its turn may have lost the Lease meanwhile.
    paced = kube.guarded(Pace(settings.writes_per_second).wait)
    end = await lead(paced, namespace=settings.namespace, name=LEASE_NAME, identity=settings.identity, work=work)
    metrics.LEADER.set(0)
    raise OperatorEndedError(
        "the Lease could not be renewed in time; another replica may hold it by now"
        if end == "lost"
        else "the work queue ended"
    )


def signing_keys(registries: Registries) -> list[Key]:
    """One key for each registry, so that trouble with the keys of one does not hold up those of another."""
    return [Key("signing-keys", name=registry.signing_secret) for registry in registries]


async def _work(kube: Kube, state: OperatorState, settings: OperatorSettings) -> None:
    mirror = state.mirror
    seed = await _seed(kube, settings)
    await state.synced.wait()
    log.info("in charge of %d tokens", len(mirror.tokens))
    queue = state.queue = WorkQueue()
    async with TokenServers.connect(kube, settings) as token_servers:
        wake = partial(queue.add, urgent=True)
        entries = Entries(kube, mirror, wake)
        tokens = TokenReconciler(kube, mirror, settings, token_servers, entries, seed, wake)
        orphans = Orphans(kube, mirror, settings, entries)
        # Registries and token servers wait for them.
        for key in signing_keys(settings.registries):
            queue.add(key, urgent=True)
        if settings.server_certificates:
            queue.add(SERVER_KEYS, urgent=True)
        for key in list(mirror.every_key()):
            queue.add(key)

        async def one(key: Key) -> None:
            if key.kind == "token":
                outcome = await tokens.reconcile(key)
                queue.set_due(key, outcome.due)
                if outcome.retry is not None:
                    raise _AgainError(outcome.retry)
            elif key.kind == "orphan":
                queue.set_due(key, await orphans.sweep(key.name))
            elif key == SERVER_KEYS:
                queue.set_due(key, await serverkeys.reconcile(kube, settings, datetime.now(UTC)))
            else:
                registry = settings.registries.of_signing_secret(key.name)
                if registry is not None:  # what registries of former days left behind stays as it is
                    queue.set_due(key, await signingkeys.reconcile(kube, settings, registry, datetime.now(UTC)))

        async with asyncio.TaskGroup() as group:
            for _ in range(settings.workers):
                group.create_task(_worker(queue, one))


class _AgainError(Exception):
    """A key has to come again; the reason stands in its status already."""


async def _worker(queue: WorkQueue, work_on: Callable[[Key], Awaitable[None]]) -> None:
    while True:
        key = await queue.get()
        start = time.monotonic()
        try:
            await work_on(key)
        except _AgainError as error:
            outcome, delay = "again", queue.failed(key)
            log.debug("%s comes again in %.1f s: %s", key, delay, error)
        except (KubeError, KeySecretError) as error:
            outcome, delay = "failed", queue.failed(key, getattr(error, "retry_after", 0))
            log.log(
                logging.INFO if isinstance(error, Conflict) else logging.WARNING,
                "%s comes again in %.1f s: %s",
                key,
                delay,
                error,
            )
        except Exception:
            # A defect in one token's way must not stop the others.
            outcome, delay = "defect", queue.failed(key)
            log.exception("%s comes again in %.1f s: a defect", key, delay)
        else:
            outcome = "done"
            queue.done(key)
        metrics.RECONCILES.labels(key.kind, outcome).inc()
        metrics.DURATION.labels(key.kind).observe(time.monotonic() - start)


async def _seed(kube: Kube, settings: OperatorSettings) -> bytes:
    """The seed, without which no password can be made, nor told from one of another seed."""
    while True:
        try:
            return await signingkeys.load_seed(kube, settings)
        except (Conflict, Unavailable, KeySecretError) as error:
            log.warning("seed: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
