"""Asks the token servers whether they accept a password, by a real login.

Each ready one must. One that is not ready is asked as well, as it may become so at any moment: if it answers logins it
must accept too, and if it cannot be reached, or says that it is not complete, it learns of the password before it is
ready (see `kube/reflector.py`).
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp

from pullpass.controller.keys.storage import KeySecretError
from pullpass.controller.settings import OperatorSettings
from pullpass.controller.verification import Terms, Verification
from pullpass.credentials.password import Password
from pullpass.kube.client import Kube, NotFound
from pullpass.kube.resources import ENDPOINT_SLICES

LOGIN_SECONDS = 5


class NotAcceptedError(Exception):
    """A token server does not accept a new password yet; the text says which and what it answered."""


class NotNowError(NotAcceptedError):
    """A token server accepts nothing at this time: it is busy, or has no signing leaf of the registry."""


class _UnreachableError(NotAcceptedError):
    """A token server gives no answer."""


@dataclass(frozen=True, order=True)
class _Endpoint:
    """A replica as an EndpointSlice tells of it."""

    address: str
    """Host and port."""
    ready: bool


class TokenServers:
    """The replicas behind the token server's Service."""

    def __init__(self, kube: Kube, settings: OperatorSettings, session: aiohttp.ClientSession) -> None:
        self._kube = kube
        self._settings = settings
        self._session = session
        secret = settings.token_server_tls_secret
        self._verification = (
            Verification(kube, settings.namespace, secret, settings.token_server_service) if secret else None
        )

    @classmethod
    @asynccontextmanager
    async def connect(cls, kube: Kube, settings: OperatorSettings) -> AsyncIterator["TokenServers"]:
        """Keeps connections to the replicas while the context lasts."""
        timeout = aiohttp.ClientTimeout(total=LOGIN_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            yield cls(kube, settings, session)

    async def accept(self, username: str, password: Password, service: str) -> None:
        """Returns once every replica that answers logins has accepted the password for a registry's service, also
        those that came while the others were asked; there may be none. Raises NotAcceptedError or a KubeError.
        """
        asked: set[_Endpoint] = set()
        while new := await self._endpoints() - asked:
            terms = await self._terms()
            logins = [
                asyncio.create_task(self._ask(endpoint, terms, username, password, service)) for endpoint in sorted(new)
            ]
            # To the end, also where one refuses: a login that is still under way would outlive the decision.
            answers = await asyncio.gather(*logins, return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
            asked |= new

    async def _endpoints(self) -> set["_Endpoint"]:
        slices = self._kube.list(
            ENDPOINT_SLICES,
            self._settings.namespace,
            label_selector=f"kubernetes.io/service-name={self._settings.token_server_service}",
        )
        port = "http" if self._verification is None else "https"
        return {endpoint async for slice_ in slices for endpoint in _read(slice_, port)}

    async def _terms(self) -> Terms | None:
        if self._verification is None:
            return None
        try:
            return await self._verification.terms()
        except (KeySecretError, NotFound) as error:
            raise NotAcceptedError(f"the token servers' certificate is not known: {error}") from None

    async def _ask(
        self, endpoint: "_Endpoint", terms: Terms | None, username: str, password: Password, service: str
    ) -> None:
        try:
            await self._login(endpoint.address, terms, username, password, service)
        except (_UnreachableError, NotNowError):
            if endpoint.ready:
                raise

    async def _login(self, address: str, terms: Terms | None, username: str, password: Password, service: str) -> None:
        try:
            async with self._session.get(
                f"{'http' if terms is None else 'https'}://{address}/token",
                ssl=True if terms is None else terms.context,
                server_hostname=None if terms is None else terms.host,
                params={"service": service},
                headers={"Authorization": aiohttp.encode_basic_auth(username, password.text)},
                allow_redirects=False,
            ) as response:
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _UnreachableError(f"token server {address} cannot be asked ({type(error).__name__})") from None
        if status == 503:
            raise NotNowError(
                f"token server {address} is busy or has no signing key for the registry yet (HTTP {status}); "
                "its log and the operator's say which"
            )
        if status != 200:
            raise NotAcceptedError(f"token server {address} does not accept the new password yet (HTTP {status})")


def _read(slice_: dict[str, Any], named: str) -> list[_Endpoint]:
    port = next((p["port"] for p in slice_.get("ports") or [] if p.get("name") == named), None)
    if port is None:
        return []
    return [
        # By the API's own rule, no word on it means ready.
        _Endpoint(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", conditions.get("ready") is not False)
        for endpoint in slice_.get("endpoints") or []
        for conditions in [endpoint.get("conditions") or {}]
        for host in endpoint.get("addresses") or []
    ]
