"""Asks each ready token server whether it accepts a password, by a real login."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from pullpass.controller.settings import Settings
from pullpass.credentials.password import Password
from pullpass.kube.client import Kube, Unavailable
from pullpass.kube.resources import ENDPOINT_SLICES

LOGIN_SECONDS = 5


class NotAcceptedError(Exception):
    """A token server does not accept a new password yet; the text says which and what it answered."""


class TokenServers:
    """The replicas behind the token server's Service."""

    def __init__(self, kube: Kube, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._kube = kube
        self._settings = settings
        self._session = session

    @classmethod
    @asynccontextmanager
    async def connect(cls, kube: Kube, settings: Settings) -> AsyncIterator["TokenServers"]:
        """Keeps connections to the replicas while the context lasts."""
        timeout = aiohttp.ClientTimeout(total=LOGIN_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield cls(kube, settings, session)

    async def accept(self, username: str, password: Password) -> None:
        """Returns once every ready replica has accepted the password; none ready is fine, as a replica is ready
        only when it knows every record. Raises NotAcceptedError or a KubeError.
        """
        asked: set[str] = set()
        while True:
            new = await self._ready_addresses() - asked
            if not new:
                return
            await asyncio.gather(*(self._login(address, username, password) for address in sorted(new)))
            asked |= new

    async def _ready_addresses(self) -> set[str]:
        slices = self._kube.list(
            ENDPOINT_SLICES,
            self._settings.namespace,
            label_selector=f"kubernetes.io/service-name={self._settings.token_server_service}",
        )
        return {address async for slice_ in slices for address in _addresses(slice_)}

    async def _login(self, address: str, username: str, password: Password) -> None:
        try:
            async with self._session.get(
                f"http://{address}/token",
                params={"service": self._settings.service},
                auth=aiohttp.BasicAuth(username, password.text),
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise NotAcceptedError(f"token server {address} cannot be asked ({type(error).__name__})") from None
        if status == 503:
            raise Unavailable(f"token server {address} is busy", status)
        if status != 200:
            raise NotAcceptedError(f"token server {address} does not accept the new password yet (HTTP {status})")


def _addresses(slice_: dict[str, Any]) -> list[str]:
    port = next((p["port"] for p in slice_.get("ports") or [] if p.get("name") == "http"), None)
    if port is None:
        return []
    ready = [e for e in slice_.get("endpoints") or [] if (e.get("conditions") or {}).get("ready") is not False]
    hosts = [address for endpoint in ready for address in endpoint.get("addresses") or []]
    return [f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host in hosts]
