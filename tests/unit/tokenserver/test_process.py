"""The process: how old the cache is, and that following feeds it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

from pullpass.kube.client import Kube, Page
from pullpass.kube.resources import SECRETS, Resource
from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.process import age_of, reflectors
from tests.registries import ONE
from tests.unit.tokenserver.world import SIGNING_SECRET


class Api(Kube):
    """An API server that holds the signing leaf and nothing else, and whose watches stay silent."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None, str | None]] = []

    async def list_page(
        self, resource: Resource, namespace: str | None = None, *, label_selector: str | None = None, **_: Any
    ) -> Page:
        self.asked.append((resource.plural, namespace, label_selector))
        leaf = SIGNING_SECRET | {"metadata": SIGNING_SECRET["metadata"] | {"uid": "s", "resourceVersion": "1"}}
        return Page([leaf] if resource is SECRETS else [], "1")

    async def watch(
        self, *_: Any, opened: Callable[[], None] = lambda: None, **__: Any
    ) -> AsyncIterator[dict[str, Any]]:
        opened()
        await asyncio.Event().wait()
        yield {}


async def test_following_completes_the_cache_and_reads_secrets_of_one_namespace_only() -> None:
    api, cache = Api(), AccessCache(ONE)
    followed = reflectors(api, cache, "credentials")
    assert age_of(followed) == float("inf")
    tasks = [asyncio.create_task(reflector.run()) for reflector in followed]
    for reflector in followed:
        await reflector.synced.wait()
    assert list(cache.signers) == ["default"]
    assert 0 <= age_of(followed) < 60
    followed[2].last_contact = time.monotonic() - 1000
    assert age_of(followed) >= 1000
    assert sorted(api.asked) == [
        ("namespaces", None, None),
        ("registrytokens", None, None),
        ("scopemaps", None, None),
        ("secrets", "credentials", "app.kubernetes.io/managed-by=pullpass"),
    ]
    for task in tasks:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
