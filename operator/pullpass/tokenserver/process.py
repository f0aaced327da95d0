"""The token server as a process: connects, follows the cluster, serves, and leaves without a dropped
request."""

import asyncio
import gc
import logging
import signal
import time

from pullpass.api import names
from pullpass.kube.client import Kube
from pullpass.kube.reflector import Reflector
from pullpass.kube.resources import NAMESPACES, REGISTRY_TOKENS, SCOPE_MAPS, SECRETS
from pullpass.kube.standstill import Heartbeat
from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.handler import TokenServer
from pullpass.tokenserver.http.certificate import ServedCertificate
from pullpass.tokenserver.management import Management
from pullpass.tokenserver.settings import TokenServerSettings

log = logging.getLogger(__name__)

GARBAGE_OBJECTS = 20_000
"""New objects after which Python looks for cycles; its default of 700 is a few dozen requests."""


def reflectors(kube: Kube, cache: AccessCache, credentials_namespace: str) -> list[Reflector]:
    """What keeps the cache current. Namespaces and scope maps come first: tokens mean nothing without
    them."""
    return [
        Reflector(kube, NAMESPACES, on_event=cache.on_namespace),
        Reflector(kube, SCOPE_MAPS, on_event=cache.on_scope_map),
        Reflector(kube, REGISTRY_TOKENS, on_event=cache.on_token),
        Reflector(
            kube,
            SECRETS,
            namespace=credentials_namespace,
            label_selector=names.MANAGED_SELECTOR,
            on_event=cache.on_secret,
        ),
    ]


def age_of(followed: list[Reflector]) -> float:
    """Seconds since the API server was last heard about the kind heard longest ago; infinite until all lists are
    complete."""
    heard = now = time.monotonic()
    for reflector in followed:
        if not reflector.synced.is_set():
            return float("inf")
        heard = min(heard, reflector.last_contact)
    return now - heard


def freeze_cache() -> None:
    """Keeps the garbage collector from what the cache holds by now, and from coming often.

    Nothing in the cache refers back, so a collection frees nothing there, and one over 20,000 tokens stops every
    answer for a tenth of a second. Requests leave few cycles behind.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_OBJECTS, 20, 20)


async def run(settings: TokenServerSettings) -> None:
    """Serves until SIGTERM or SIGINT. Raises KubeError without a way to the API, OSError where a port
    is taken, CertificateError where TLS is asked for and has no certificate that can be used."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_ in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_, stop.set)
    cache = AccessCache(settings.registries)
    certificate = ServedCertificate(settings.tls_directory) if settings.tls_directory else None
    async with Kube.connect(settings.kubeconfig) as kube:
        followed = reflectors(kube, cache, settings.credentials_namespace)
        heartbeat = Heartbeat(lambda: _doubt(followed))

        def age() -> float:
            heartbeat.beat()
            return age_of(followed)

        server = TokenServer(settings, cache, age=age, certificate=certificate)
        server.connections.fit_descriptors()
        management = Management(server, cache)
        tasks: list[asyncio.Task[None]] = [loop.create_task(reflector.run()) for reflector in followed]
        tasks.append(loop.create_task(heartbeat.run()))
        if certificate is not None:
            tasks.append(loop.create_task(certificate.watch()))
        tasks.append(loop.create_task(_until_told(stop, followed, cache)))
        host = settings.host or None
        try:
            async with management.serve(host, settings.management_port), server.serve(host, settings.port):
                log.info(
                    "listening on port %d, %s; management on port %d",
                    settings.port,
                    "HTTP" if certificate is None else "HTTPS",
                    settings.management_port,
                )
                # Following never ends by itself; should it, its error must end the process and not go unseen.
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                server.drain()
                log.info("stopping in %g s", settings.drain_seconds)
                await asyncio.sleep(settings.drain_seconds)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _doubt(followed: list[Reflector]) -> None:
    """While a process stands still, passwords are published that it has not been asked for: it seemed to be dead."""
    for reflector in followed:
        reflector.doubt()


async def _until_told(stop: asyncio.Event, followed: list[Reflector], cache: AccessCache) -> None:
    """Ends when the process is told to stop; on the way says when the cache is complete."""
    announcing = asyncio.create_task(_announce(followed, cache))
    try:
        await stop.wait()
    finally:
        announcing.cancel()


async def _announce(followed: list[Reflector], cache: AccessCache) -> None:
    begun = time.monotonic()
    for reflector in followed:
        await reflector.synced.wait()
    freeze_cache()
    log.info(
        "in sync after %.1f s: %d tokens, %d scope maps, %d credential records; signing leaves of %s",
        time.monotonic() - begun,
        len(cache.tokens),
        len(cache.scope_maps),
        len(cache.credentials),
        ", ".join(cache.signers) or "no registry yet",
    )
