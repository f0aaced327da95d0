"""Elects a leader by a Lease: one operator works, the others stand by."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal

import aiohttp
from kubernetes.aio import client
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.leaderelection.electionconfig import Config
from kubernetes.aio.leaderelection.leaderelection import LeaderElection
from kubernetes.aio.leaderelection.resourcelock.leaselock import LeaseLock

from pullpass.kube.client import Kube, Unavailable
from pullpass.kube.standstill import elapsed

log = logging.getLogger(__name__)
logging.getLogger("kubernetes.aio.leaderelection").setLevel(logging.ERROR)

LEASE_SECONDS = 15
RENEW_SECONDS = 10
RETRY_SECONDS = 3
CALL_SECONDS = 3
HOLD_SECONDS = 13
"""The work is cancelled so long after the last renewal was sent, whatever the election waits for. Another replica waits
for LEASE_SECONDS from when it sees that renewal, which is later."""


class _Lock(LeaseLock):
    """The library's lock, with a time limit for calls, and errors in the form that the library handles."""

    renewed = 0.0
    """When the last successful write was sent, on the clock of `elapsed`."""

    def left(self) -> float:
        """Returns for how many more seconds the Lease is certainly held."""
        return self.renewed + HOLD_SECONDS - elapsed()

    async def assert_held(self) -> None:
        """Raises Unavailable where another replica may hold the Lease, as after this process was paused."""
        if self.left() <= 0:
            raise Unavailable("write cancelled: the Lease was not renewed in time, so another replica may hold it")

    async def get(self, name: str, namespace: str) -> Any:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                return await super().get(name, namespace)
        except (TimeoutError, aiohttp.ClientError, OSError) as error:
            return False, ApiException(status=0, reason=type(error).__name__)

    async def create(self, name: str, namespace: str, election_record: Any) -> bool:
        # Not super(): version 37 passes its own model an argument that the model refuses.
        lease = client.V1Lease(metadata=client.V1ObjectMeta(name=name), spec=self.update_lease(election_record))
        return await self._limited(self.api_instance.create_namespaced_lease(namespace, lease))

    async def update(self, name: str, namespace: str, updated_record: Any) -> bool:
        return await self._limited(super().update(name, namespace, updated_record))

    async def _limited(self, call: Awaitable[Any]) -> bool:
        start = elapsed()
        try:
            async with asyncio.timeout(CALL_SECONDS):
                done = bool(await call)
        except (ApiException, TimeoutError, aiohttp.ClientError, OSError):
            return False
        if done:
            self.renewed = start
        return done


async def lead(
    kube: Kube, *, namespace: str, name: str, identity: str, work: Callable[[Kube], Awaitable[None]]
) -> Literal["lost", "ended"]:
    """Waits for the Lease, then runs `work` with a `Kube` that writes only while the Lease is certainly held.

    Returns "ended" when the work has returned, and raises what it raises. Returns "lost" when the Lease was not renewed
    in time: the work is cancelled, and the caller should end the process. A Lease that is still held is released, so
    that another replica need not wait for its expiry.
    """
    lock = _Lock(name, namespace, identity, kube.api)
    elected = asyncio.Event()

    async def on_elected() -> None:
        elected.set()

    async def on_lost() -> None:
        return

    election = asyncio.create_task(
        LeaderElection(Config(lock, LEASE_SECONDS, RENEW_SECONDS, RETRY_SECONDS, on_elected, on_lost)).run()
    )
    waiting = asyncio.create_task(elected.wait())
    working: asyncio.Task[None] | None = None
    try:
        await asyncio.wait({waiting, election}, return_when=asyncio.FIRST_COMPLETED)
        if election.done():
            election.result()
            return "lost"
        log.info("holding Lease %s/%s", namespace, name)
        working = asyncio.create_task(_run(work, kube.guarded(lock.assert_held)))
        while not working.done() and not election.done() and (left := lock.left()) > 0:
            await asyncio.wait({working, election}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
            return "ended"
        return "lost"
    finally:
        held = elected.is_set() and not election.done()
        tasks: list[asyncio.Task[Any]] = [task for task in (waiting, working, election) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if held:
            await _release(lock)


async def _run(work: Callable[[Kube], Awaitable[None]], kube: Kube) -> None:
    await work(kube)


async def _release(lock: _Lock) -> None:
    found, _ = await lock.get(lock.name, lock.namespace)
    lease = lock.lease_reference
    if not found or lease is None or lease.spec is None or lease.spec.holder_identity != lock.identity:
        return
    lease.spec.holder_identity = ""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            await lock.api_instance.replace_namespaced_lease(name=lock.name, namespace=lock.namespace, body=lease)
    except (ApiException, TimeoutError, aiohttp.ClientError, OSError) as error:
        log.info(
            "cannot release Lease %s/%s (%s); it expires by itself", lock.namespace, lock.name, type(error).__name__
        )
