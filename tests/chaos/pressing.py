"""Clients that press: each logs in again and again, over a new connection each time, and counts what becomes of it."""

import asyncio
import base64
import random
from collections import Counter
from collections.abc import Sequence

import aiohttp

from tests.chaos.programs import SERVICE
from tests.chaos.tokens import Login
from tests.chaos.waiting import cancel

SECONDS = 120
"""For which a client waits for an answer."""


class Clients:
    """As a context: they begin with it and end with it. A quarter of their logins have a wrong password."""

    def __init__(self, url: str, logins: Sequence[Login], *, count: int = 24, seed: int = 0) -> None:
        self._url = url
        self._logins = logins
        self._count = count
        self._random = random.Random(seed)
        self._tasks: list[asyncio.Task[None]] = []
        self.results: Counter[str] = Counter()
        """"answered" with 200, "refused" with another status, "cut off" without an answer, "waiting" for too long."""

    async def __aenter__(self) -> "Clients":
        connector = aiohttp.TCPConnector(force_close=True, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=SECONDS))
        self._tasks = [asyncio.create_task(self._press()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await cancel(self._tasks)
        finally:
            await self._session.close()

    async def _press(self) -> None:
        while True:
            login = self._random.choice(self._logins)
            wrong = self._random.random() < 0.25
            text = login.password[:-1] + ("a" if login.password[-1] != "a" else "b") if wrong else login.password
            basic = base64.b64encode(f"{login.username}:{text}".encode()).decode()
            scope = f"repository:any/{self._random.randrange(1 << 30)}:pull"
            self.results[await self._ask(basic, scope)] += 1

    async def _ask(self, basic: str, scope: str) -> str:
        try:
            async with self._session.get(
                f"{self._url}/token",
                params={"service": SERVICE, "scope": scope},
                headers={"Authorization": f"Basic {basic}"},
            ) as answer:
                await answer.read()
                return "answered" if answer.status == 200 else "refused"
        except TimeoutError:
            return "waiting"
        except (aiohttp.ClientError, OSError):
            return "cut off"
