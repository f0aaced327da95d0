"""The Kopf handlers: every watched kind, and nothing else. Each updates the cache and queues what it touches.

Kopf writes nothing: no finalizers, no annotations. That keeps deletions from hanging, makes a restart free, and a
standby replica harmless.
"""

import asyncio
import logging
import signal
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from http import HTTPStatus
from typing import Any

import kopf
from kopf._cogs.clients import errors, fetching
from kopf._core.reactor import inventory

from pullpass.api import names
from pullpass.controller.cache import Cache
from pullpass.controller.queue import Key
from pullpass.controller.settings import OperatorSettings

log = logging.getLogger(__name__)

_list_objects = fetching.fetch_objs

WATCH_RETRY_SECONDS = (1, 1, 2, 3, 5, 8, 13, 21, *(30,) * 60)
"""How long a watch waits for an API server that is away before the process ends and is restarted: half an hour."""

LIST_PAGE = 50
"""Objects in a page of Kopf's lists. The largest ones make it 7 MiB, and nothing else runs while those are parsed."""


class Memories(inventory.ResourceMemories):
    """What Kopf remembers of each object for handlers that are retried: ours are not, so nothing is kept."""

    async def recall(self, raw_body: Any, **more: Any) -> inventory.ResourceMemory:
        """A memory that is forgotten after the event."""
        return await super().recall(raw_body, **{**more, "ephemeral": True})


def make_lister(cache: Cache) -> Callable[..., AsyncIterator[tuple[Collection[Any], str]]]:
    """Makes what Kopf is to list objects with: as it does itself, but only what the cache has not got yet.

    An API server forgets the version of a list after some minutes, and with little processor time a large one takes
    longer. Kopf would end the process for that. This begins anew, and comes to the end: what is known costs little.
    """

    async def fetch_objs(*, resource: Any, **more: Any) -> AsyncIterator[tuple[Collection[Any], str]]:
        while True:
            begun = False
            try:
                async for objects, version in _list_objects(resource=resource, **more):
                    begun = True
                    yield [one for one in objects if not cache.holds(resource.plural, one)], version
                return
            except errors.APIError as error:
                # Without a first page there was no version to forget: something else is wrong.
                if error.status != HTTPStatus.GONE or not begun:
                    raise
                log.info("the list of %s took so long that it begins anew", resource.plural)

    return fetch_objs


Wake = Callable[[Iterable[Key], bool], None]
"""Takes keys that may have something to do, and whether somebody waits for it."""


def make_registry(cache: Cache, wake: Wake, settings: OperatorSettings) -> kopf.OperatorRegistry:
    """Registers the handlers.

    Urgent is what concerns a token by itself. A ScopeMap or a Namespace may concern thousands, which take their turn.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def login(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(names.GROUP, names.VERSION, "registrytokens", registry=registry)
    async def registry_token(event: kopf.RawEvent, **_: Any) -> None:
        wake(cache.observe_token(event["type"], event["object"]), event["type"] is not None)

    @kopf.on.event(names.GROUP, names.VERSION, "scopemaps", registry=registry)
    async def scope_map(event: kopf.RawEvent, **_: Any) -> None:
        wake(cache.observe_scope_map(event["type"], event["object"]), False)

    @kopf.on.event("", "v1", "namespaces", registry=registry)
    async def namespace(event: kopf.RawEvent, **_: Any) -> None:
        wake(cache.observe_namespace(event["type"], event["object"]), False)

    @kopf.on.event("", "v1", "serviceaccounts", registry=registry)
    async def service_account(event: kopf.RawEvent, **_: Any) -> None:
        wake(cache.observe_service_account(event["type"], event["object"]), event["type"] is not None)

    @kopf.on.event("", "v1", "secrets", labels={names.MANAGED_BY_LABEL: names.MANAGED_BY}, registry=registry)
    async def secret(event: kopf.RawEvent, **_: Any) -> None:
        keys = cache.observe_secret(event["type"], event["object"], settings.credentials_namespace)
        wake(keys, event["type"] is not None)

    return registry


def make_kopf_settings() -> kopf.OperatorSettings:
    """Kopf as a watcher only."""
    kopf_settings = kopf.OperatorSettings()
    kopf_settings.posting.enabled = False
    kopf_settings.scanning.disabled = True
    kopf_settings.networking.error_backoffs = WATCH_RETRY_SECONDS
    kopf_settings.watching.chunk_size = LIST_PAGE
    # A task for each object of a list would be tens of thousands at once, each kept for seconds.
    kopf_settings.queueing.worker_limit = 100
    kopf_settings.queueing.idle_timeout = 0.01
    # Only Secrets of ours ever reach this process.
    kopf_settings.watching.label_selectors["", "v1", "secrets"] = names.MANAGED_SELECTOR
    # At debug level Kopf logs whole objects, Secrets among them.
    logging.getLogger("kopf").setLevel(logging.WARNING)
    # Kopf answers the probes of /healthz, and each would be a line.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    return kopf_settings


async def run(
    cache: Cache,
    wake: Wake,
    settings: OperatorSettings,
    stop: asyncio.Event,
    blind: asyncio.Event,
    stopped: asyncio.Event,
) -> None:
    """Kopf, which also answers the liveness probe, until `stopped`. A signal to stop sets `stop`, and the first of
    Kopf's own tasks to end sets `blind`: it watches no more from then on, but may wait for the rest of itself for ever.
    """
    ready = asyncio.Event()
    others = asyncio.all_tasks()
    fetching.fetch_objs = make_lister(cache)
    kopf_tasks = await kopf.spawn_tasks(
        registry=make_registry(cache, wake, settings),
        settings=make_kopf_settings(),
        memories=Memories(),
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
