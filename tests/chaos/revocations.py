"""Access that is taken away: it ends at every token server, and does not come back by itself."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal, get_args

import aiohttp

from pullpass.api.times import format_time
from tests.chaos.api import SCOPE_MAPS, Api, ApiError, tokens_of
from tests.chaos.customers import granted
from tests.chaos.endpoints import Endpoints
from tests.chaos.places import TEAM
from tests.chaos.replicas import TokenServer
from tests.chaos.tokens import LONG, Login, Tokens, scope_map, token
from tests.chaos.waiting import eventually

Way = Literal["disable", "delete", "descope", "expire"]
WAYS: tuple[Way, ...] = get_args(Way)

LOGIN_SECONDS = 5
POLL_SECONDS = 0.02
VIGIL_SECONDS = 4.0
"""How long a dead token is tried on, once every ready server has refused it."""


@dataclass
class Revocation:
    """How access to one token ended."""

    way: Way
    seconds: dict[str, float] = field(default_factory=dict)
    """From the end of the write, or from the token's own end, to the first refusal, by server."""
    regranted: list[str] = field(default_factory=list)
    """Servers that granted access after they had refused it, or though they were started when it had ended."""
    disturbed: bool = False
    """Whether something was failing meanwhile; then the seconds say nothing about the token servers."""


class Revoker:
    """Makes tokens of its own and takes their access away. `failing` says whether something is failing now."""

    def __init__(
        self, api: Api, endpoints: Endpoints[TokenServer], tokens: Tokens, failing: Callable[[], bool]
    ) -> None:
        self._api = api
        self._endpoints = endpoints
        self._tokens = tokens
        self._failing = failing
        self._numbers = itertools.count()
        self.revocations: list[Revocation] = []
        """What was taken away so far; the last ones may still be under way."""

    async def revoke(self, way: Way, *, before: Callable[[], None] = lambda: None) -> Revocation:
        """Makes a token, uses it, takes its access away, and sees that it is gone for good.

        `before` is called when the token is in use, just before its access ends.
        """
        name = f"victim-{next(self._numbers)}"
        try:
            await self._api.create(SCOPE_MAPS, scope_map(name, f"{name}/*"))
            await self._api.create(tokens_of(TEAM), token(name, name, LONG))
            return await self._revoke(way, name, before)
        finally:
            await self._api.delete(f"{tokens_of(TEAM)}/{name}", f"{SCOPE_MAPS}/{name}")

    async def _revoke(self, way: Way, name: str, before: Callable[[], None]) -> Revocation:
        revocation = Revocation(way)
        timeout = aiohttp.ClientTimeout(total=LOGIN_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as session:
            login = await eventually(lambda: self._read(name), f"{name} has a pull secret")

            numbers = itertools.count()

            async def refuses(server: TokenServer) -> bool | None:
                try:
                    answer = await granted(session, server.url, login, f"{name}/{next(numbers)}")
                except (aiohttp.ClientError, TimeoutError, OSError):
                    return None
                return None if answer == "HTTP 503" else bool(answer)

            async def everybody(wanted: bool) -> bool:
                ready = self._endpoints.ready()
                return bool(ready) and [await refuses(server) for server in ready] == [wanted] * len(ready)

            await eventually(lambda: everybody(False), f"{name} is granted everywhere", every=0.2)
            before()
            dead_at = await _KILLS[way](self._api, name)
            self.revocations.append(revocation)
            await self._watch(revocation, dead_at, refuses)
        return revocation

    async def _read(self, name: str) -> Login | None:
        try:
            return await self._tokens.read(name)
        except ApiError:
            return None

    async def _watch(
        self,
        revocation: Revocation,
        dead_at: float,
        refuses: Callable[[TokenServer], Awaitable[bool | None]],
    ) -> None:
        clock = asyncio.get_running_loop().time

        async def all_refused() -> bool:
            revocation.disturbed |= self._failing()
            ready = self._endpoints.ready()
            for server in ready:
                said = await refuses(server)
                if said is True:
                    revocation.seconds.setdefault(server.name, clock() - dead_at)
                elif said is False and (server.name in revocation.seconds or server.program.begun > dead_at):
                    revocation.regranted.append(server.name)
            return bool(ready) and all(server.name in revocation.seconds for server in ready)

        await eventually(all_refused, f"access ends ({revocation.way})", every=POLL_SECONDS)
        end = clock() + VIGIL_SECONDS
        while clock() < end:
            await all_refused()
            await asyncio.sleep(5 * POLL_SECONDS)


async def _disable(api: Api, name: str) -> float:
    await api.merge(f"{tokens_of(TEAM)}/{name}", {"spec": {"enabled": False}})
    return asyncio.get_running_loop().time()


async def _delete(api: Api, name: str) -> float:
    await api.delete(f"{tokens_of(TEAM)}/{name}")
    return asyncio.get_running_loop().time()


async def _descope(api: Api, name: str) -> float:
    await api.merge(f"{SCOPE_MAPS}/{name}", {"spec": scope_map(name, "nothing/here")["spec"]})
    return asyncio.get_running_loop().time()


async def _expire(api: Api, name: str) -> float:
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    await api.merge(f"{tokens_of(TEAM)}/{name}", {"spec": {"expiresAt": format_time(end)}})
    left = (end - datetime.now(UTC)).total_seconds()
    return asyncio.get_running_loop().time() + max(left, 0.0)


_KILLS: dict[Way, Callable[[Api, str], Awaitable[float]]] = {
    "disable": _disable,
    "delete": _delete,
    "descope": _descope,
    "expire": _expire,
}
