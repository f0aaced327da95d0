"""The operator process: what it starts, in which order, and what ends it.

Kopf fills the cache from the first moment, also in a standby replica, which so can begin at once when its turn
comes. Only the holder of the Lease works the queue, and only once everything that the API server lists has been seen:
a decision on half of the facts would be a write too many. If any part ends, the process ends, and its Deployment
starts it anew.
"""

import asyncio
import gc
import logging
import os
from collections.abc import Iterable
from datetime import timedelta
from functools import partial

from prometheus_client import start_http_server

from pullpass.api.registries import Registries
from pullpass.controller import metrics, watch
from pullpass.controller.cache import Cache
from pullpass.controller.dispatch import dispatch, passes
from pullpass.controller.keys import signing
from pullpass.controller.keys.storage import KeySecretError
from pullpass.controller.queue import Key, WorkQueue
from pullpass.controller.replicas import Replicas
from pullpass.controller.resync import resync
from pullpass.controller.settings import OperatorSettings
from pullpass.kube.client import Conflict, Gone, Kube, KubeError, Unavailable
from pullpass.kube.events import EventSender
from pullpass.kube.lease import lead
from pullpass.kube.pace import Pace

log = logging.getLogger(__name__)

LEASE_NAME = "pullpass-operator"
RETRY_SECONDS = 1.0
KOPF_SECONDS = 10.0
"""How long Kopf may take to end."""
RESYNC = timedelta(minutes=10)
"""How long a deletion that Kopf's watch has lost goes unnoticed."""
SERVER_KEYS, AVAILABILITY = Key("server-keys"), Key("availability")


class OperatorEndedError(Exception):
    """A part of the operator ended that must not; the text says which."""


class OperatorState:
    """What the parts of the process have in common: the cache, and the work queue while this replica is in charge.

    A standby has no queue, and whoever begins looks at everything.
    """

    def __init__(self) -> None:
        self.cache = Cache()
        self.queue: WorkQueue | None = None
        self.statuses: WorkQueue | None = None
        """That of statuses to write, apart from all else."""
        self.synced = asyncio.Event()
        """Set once the cache has everything that the API server lists."""

    def wake(self, keys: Iterable[Key], urgent: bool) -> None:
        """Queues keys that the watches have told of."""
        if self.queue is not None:
            for key in keys:
                self.queue.add(key, urgent=urgent)


async def run(settings: OperatorSettings) -> None:
    """Runs the operator until SIGTERM or SIGINT. Raises OperatorEndedError or KubeError where it cannot go on."""
    state = OperatorState()
    server, thread = start_http_server(settings.metrics_port)
    metrics.QUEUE.set_function(lambda: len(state.queue or ()) + len(state.statuses or ()))
    metrics.TOKENS.set_function(lambda: len(state.cache.tokens))
    try:
        async with Kube.connect(settings.kubeconfig) as kube:
            stop, blind, stopped = asyncio.Event(), asyncio.Event(), asyncio.Event()
            watching = asyncio.create_task(watch.run(state.cache, state.wake, settings, stop, blind, stopped))
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


async def _compare(kube: Kube, state: OperatorState, settings: OperatorSettings) -> None:
    """Brings the cache to what the API server lists, at the start and every ten minutes; a standby's as well."""
    while True:
        try:
            state.wake(await resync(kube, state.cache, settings.credentials_namespace), False)
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

    # Reading everything may take long, and without processor time the Lease cannot be renewed meanwhile. Who lost it by
    # that would end, and begin to read everything.
    await state.synced.wait()
    # All that was read stays. Looking at it for garbage would stop everything, the renewal of the Lease as well.
    gc.collect()
    gc.freeze()
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
    cache = state.cache
    seed = await _seed(kube, settings)
    log.info("in charge of %d tokens", len(cache.tokens))
    queue = state.queue = WorkQueue(workers=settings.workers)
    statuses = state.statuses = WorkQueue(workers=settings.workers)
    events = EventSender(kube, settings.identity, metrics.EVENTS_LOST.inc)
    async with Replicas.connect(kube, settings) as replicas, asyncio.TaskGroup() as group:
        # Registries and token servers wait for them.
        for key in signing_keys(settings.registries):
            queue.add(key, urgent=True)
        if settings.server_certificates:
            queue.add(SERVER_KEYS, urgent=True)
        queue.add(AVAILABILITY, urgent=True)
        for key in list(cache.every_key()):
            queue.add(key)
        each = passes(kube, cache, settings, seed, replicas, partial(queue.add, urgent=True), events)
        group.create_task(events.run())
        group.create_task(dispatch(statuses, each))
        await dispatch(queue, each, statuses)


async def _seed(kube: Kube, settings: OperatorSettings) -> bytes:
    """The seed, without which no password can be made, nor told from one of another seed."""
    while True:
        try:
            return await signing.load_seed(kube, settings)
        except (Conflict, Unavailable, KeySecretError) as error:
            log.warning("seed: %s", error)
            await asyncio.sleep(RETRY_SECONDS)
