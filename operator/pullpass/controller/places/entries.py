"""Adds and removes our entries in ServiceAccounts, which many tokens may share.

One at a time for each ServiceAccount, on what the one before has left: a patch holds for one version only, so tokens
that come together would otherwise be in each other's way.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from pullpass.controller.cache import Cache
from pullpass.controller.places import service_account as serviceaccounts
from pullpass.controller.places.service_account import ServiceAccount
from pullpass.controller.queue import Key
from pullpass.kube.client import Conflict, Kube, NotFound, Refused
from pullpass.kube.resources import SERVICE_ACCOUNTS

Operations = list[dict[str, Any]]


class Entries:
    """Writes to ServiceAccounts. `wake` takes the keys of other tokens' places that a change concerns."""

    def __init__(self, kube: Kube, cache: Cache, wake: Callable[[Key], None]) -> None:
        self._kube = kube
        self._cache = cache
        self._wake = wake
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def add(self, account: ServiceAccount, secret: str, token_uid: str) -> bool:
        """Puts a pull secret into the list; false where nothing had to be written. Raises a KubeError."""
        return await self._change(account, token_uid, lambda now: serviceaccounts.add_entry(now, secret, token_uid))

    async def remove(self, account: ServiceAccount, token_uid: str, keep: str | None = None) -> bool:
        """Takes out what we added for a token, apart from the entry `keep`; false where nothing had to be written.

        Raises a KubeError.
        """
        return await self._change(account, token_uid, lambda now: serviceaccounts.remove_entries(now, token_uid, keep))

    async def _change(
        self, account: ServiceAccount, token_uid: str, change: Callable[[ServiceAccount], Operations]
    ) -> bool:
        place = (account.namespace, account.name)
        lock = self._locks.setdefault(place, asyncio.Lock())
        async with lock:
            known = self._cache.service_accounts.get(account.namespace, {}).get(account.name)
            if known is None or known.uid != account.uid:
                return False  # gone, or another by now: the watch has brought the news
            operations = change(known)
            body = await self._patch(known, operations) if operations else None
            self._observe(body, but=token_uid)
            return body is not None

    async def _patch(self, account: ServiceAccount, operations: Operations) -> dict[str, Any] | None:
        try:
            return await self._kube.json_patch(SERVICE_ACCOUNTS, account.namespace, account.name, operations)
        except NotFound:
            return None  # its deletion is on its way through the watch
        except Refused as error:
            if error.status != 422:
                raise
            refusal = error
        # Where the test of the patch did not hold, somebody else has changed the ServiceAccount; a policy that refuses
        # the patch has the same status.
        now = await self._kube.get(SERVICE_ACCOUNTS, account.namespace, account.name)
        if now["metadata"]["resourceVersion"] == account.resource_version:
            raise refusal
        self._observe(now)
        raise Conflict(f"ServiceAccount {account.namespace}/{account.name} changed meanwhile", 409)

    def _observe(self, body: dict[str, Any] | None, *, but: str | None = None) -> None:
        if body is None:
            return
        for key in self._cache.observe_service_account("MODIFIED", body):
            if key.name != but:
                self._wake(key)
