"""Brings the cache to what the API server lists: once before the first decision, and from time to time after that.

Before a decision, because half of the facts make a write too many. Later, because Kopf's watch loses deletions: after
a position that got too old it lists anew and tells only of what is there.
"""

import logging
from collections.abc import Callable

from pullpass.api import names
from pullpass.controller.cache import DELETED, Body, Cache
from pullpass.controller.queue import Key
from pullpass.kube.client import Gone, Kube
from pullpass.kube.resources import (
    NAMESPACES,
    REGISTRY_TOKENS,
    SCOPE_MAPS,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from pullpass.kube.timeslice import TimeSlice

log = logging.getLogger(__name__)

Observe = Callable[[str | None, Body], set[Key]]


async def resync(kube: Kube, cache: Cache, credentials_namespace: str) -> set[Key]:
    """Returns the keys that may have something to do. Only reads. Raises a KubeError, and may be called again."""

    def observe_secret(type_: str | None, body: Body) -> set[Key]:
        return cache.observe_secret(type_, body, credentials_namespace)

    kinds: list[tuple[Resource, str | None, Observe]] = [
        (NAMESPACES, None, cache.observe_namespace),
        (SCOPE_MAPS, None, cache.observe_scope_map),
        (REGISTRY_TOKENS, None, cache.observe_token),
        (SERVICE_ACCOUNTS, None, cache.observe_service_account),
        (SECRETS, names.MANAGED_SELECTOR, observe_secret),
    ]
    keys: set[Key] = set()
    for resource, selector, observe in kinds:
        keys |= await _compare(kube, cache, resource, selector, observe)
    return keys


async def _compare(kube: Kube, cache: Cache, resource: Resource, selector: str | None, observe: Observe) -> set[Key]:
    keys: set[Key] = set()
    while True:
        listed: set[tuple[str, str]] = set()
        try:
            await _compare_list(kube, cache, resource, selector, observe, keys, listed)
            return keys
        except Gone:
            # The API server has forgotten its version meanwhile. What was read is known, so another is read sooner.
            if not listed:
                raise
            log.info("the list of %s took so long that it begins anew", resource.plural)


async def _compare_list(
    kube: Kube,
    cache: Cache,
    resource: Resource,
    selector: str | None,
    observe: Observe,
    keys: set[Key],
    listed: set[tuple[str, str]],
) -> None:
    slice_ = TimeSlice()
    version = ""
    async for page in kube.pages(resource, label_selector=selector):
        for body in page.items:
            listed.add((body["metadata"].get("namespace", ""), body["metadata"]["name"]))
            keys |= observe("MODIFIED", body)
            await slice_.yield_if_over()
        version = page.resource_version
    for stub in list(cache.known(resource.plural)):
        metadata = stub["metadata"]
        # What is newer than the list was made after it, or changed, and so was there.
        gone = (metadata["namespace"], metadata["name"]) not in listed
        if gone and int(metadata["resourceVersion"]) <= int(version):
            keys |= observe(DELETED, {"metadata": {**metadata, "resourceVersion": version}})
