"""Adds and removes our entries in ServiceAccounts, which many tokens may share.

One at a time for each ServiceAccount, on what the one before has left: a patch holds for one version only, so tokens
that come together would otherwise be in each other's way.

A pass waits for some seconds only, as pull secrets of the same namespace have to be written after it. A write that
takes longer goes on by itself, so that it works where each one is slow. Until it has ended the ServiceAccount is left
alone: whoever comes meanwhile fails at once.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

from pullpass.controller.cache import Cache
from pullpass.controller.places import service_account as serviceaccounts
from pullpass.controller.places.service_account import ServiceAccount
from pullpass.controller.queue import Key
from pullpass.kube.client import Conflict, Kube, KubeError, NotFound, Refused, Unavailable
from pullpass.kube.resources import SERVICE_ACCOUNTS

log = logging.getLogger(__name__)

Operations = list[dict[str, Any]]

ANSWER_SECONDS = 6.0
"""How long a pass waits for a write, or for its turn."""
MAX_HANGING = 2
"""How many writes to ServiceAccounts of one namespace go on after that."""
SHORT_SECONDS = 0.5
"""How long a pass waits where so many do. The write ends with that."""


class Entries:
    """Writes to ServiceAccounts. `wake` takes the keys of other tokens' places that a change concerns."""

    def __init__(self, kube: Kube, cache: Cache, wake: Callable[[Key], None]) -> None:
        self._kube = kube
        self._cache = cache
        self._wake = wake
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        self._hanging: dict[tuple[str, str], asyncio.Task[bool]] = {}
        """Writes that go on, by namespace and name of the ServiceAccount."""

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
        unanswered = Unavailable(f"no answer from the API server over ServiceAccount {'/'.join(place)}")
        if place in self._hanging:
            raise unanswered
        room = sum(namespace == account.namespace for namespace, _ in self._hanging) < MAX_HANGING
        write = asyncio.create_task(self._in_turn(account, token_uid, change))
        try:
            await asyncio.wait({write}, timeout=ANSWER_SECONDS if room else SHORT_SECONDS)
        except asyncio.CancelledError:
            write.cancel()
            raise
        if write.done():
            return write.result()
        if room and place not in self._hanging:
            self._hanging[place] = write
            write.add_done_callback(lambda _: self._ended(place, token_uid))
        else:
            write.cancel()
        raise unanswered

    def _ended(self, place: tuple[str, str], token_uid: str) -> None:
        """A write that a pass did not wait for has ended: the token's place is looked at, as its pass knew nothing."""
        write = self._hanging.pop(place)
        self._wake(Key("place", place[0], token_uid))
        error = None if write.cancelled() else write.exception()
        if isinstance(error, KubeError):
            log.info("the late write to ServiceAccount %s/%s failed: %s", *place, error)
        elif error is not None:
            # Not as an argument: its text could quote what it stumbled over.
            log.error("unexpected error in the late write to ServiceAccount %s/%s", *place, exc_info=error)

    async def _in_turn(
        self, account: ServiceAccount, token_uid: str, change: Callable[[ServiceAccount], Operations]
    ) -> bool:
        lock = self._locks.setdefault((account.namespace, account.name), asyncio.Lock())
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
