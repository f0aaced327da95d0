"""Customers: read a pull secret and log in with it at every ready token server, all the time.

They break promise 1 if it can be broken: what stands in a pull secret is accepted by every ready replica, also where
other places of the same token are broken. What stands in a broken place is accepted until the password's own end. A
customer who was slow may come with a password that has been replaced longer ago than its overlap. To tell that from a
break, the secret is read again after a refusal.
"""

import asyncio
import base64
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp

from tests.chaos.api import PAUSE, SECRETS, Api, ApiError
from tests.chaos.endpoints import Endpoints
from tests.chaos.ledger import Ledger
from tests.chaos.places import TEAM, Breakages, Place
from tests.chaos.programs import SERVICE
from tests.chaos.replicas import TokenServer
from tests.chaos.tokens import Login, Tokens

LOGIN_SECONDS = 10
READ_SECONDS = 3
SELECTOR = "pullpass.dev/component=pull-secret"
ROUNDING = 1.0
"""Seconds: the end of a replaced password is a whole second, and may be that much earlier than the overlap says."""


@dataclass(frozen=True)
class Refusal:
    """A login that a ready token server refused, and all that is known of it."""

    place: Place
    id: str
    server: str
    answer: str
    seconds: float
    """From the reading of the secret to the answer."""
    explanation: str

    def __str__(self) -> str:
        return (
            f"{self.server} refused password {self.id} of {self.place} {self.seconds:.1f} s after it was read: "
            f"{self.answer}; {self.explanation}"
        )


async def granted(
    session: aiohttp.ClientSession, server: str, login: Login, repository: str, *, service: str = SERVICE
) -> str:
    """Logs in and asks to pull: "" where it is granted, otherwise what was answered. Raises ClientError or OSError."""
    scope, basic = f"repository:{repository}:pull", f"{login.username}:{login.password}"
    async with session.get(
        f"{server}/token",
        params={"service": service, "scope": scope},
        headers={"Authorization": f"Basic {base64.b64encode(basic.encode()).decode()}"},
    ) as answer:
        content = await answer.read()
    assert answer.status not in (400, 404, 405), content
    if answer.status != 200:
        return f"HTTP {answer.status}"
    payload = json.loads(content)["token"].split(".")[1]
    access = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))).get("access", [])
    may = any(entry["name"] == repository and "pull" in entry["actions"] for entry in access)
    return "" if may else "HTTP 200, but no right to pull"


class Customers:
    """Some customers, as a context: they begin with it and end with it."""

    def __init__(
        self,
        api: Api,
        endpoints: Endpoints[TokenServer],
        tokens: Tokens,
        ledger: Ledger,
        breakages: Breakages,
        *,
        count: int = 3,
        seed: int = 0,
    ) -> None:
        self._api = api
        self._endpoints = endpoints
        self._tokens = tokens
        self._ledger = ledger
        self._breakages = breakages
        self._count = count
        self._random = random.Random(seed)
        self._known: dict[Place, tuple[float, Login]] = {}
        self._news: dict[Place, None] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.seen: dict[Place, list[str]] = {}
        """Ids of the passwords that each place has held, in order."""
        self.logins = 0
        """Logins that a ready server has answered."""
        self.refused: list[Refusal] = []
        """Logins that should have been granted."""
        self.late = 0
        """Logins with a password that was replaced longer ago than its overlap, and refused therefore."""
        self.in_broken_places = 0
        """Logins among these with what stood in a place that was broken, or recovering."""
        self.ended = 0
        """Logins from broken places, refused as the password had come to its own end there."""
        self.unreachable = 0
        """Servers that were said to be ready, and were not there."""
        self.busy = 0
        """Servers that were said to be ready, and answered 503."""
        self.unserved = 0
        """Visits in which no server at all has decided on the login."""

    async def __aenter__(self) -> "Customers":
        timeout = aiohttp.ClientTimeout(total=LOGIN_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar())
        self._tasks.append(asyncio.create_task(self._listen()))
        self._tasks += [asyncio.create_task(self._buy()) for _ in range(self._count)]
        return self

    async def __aexit__(self, *_: object) -> None:
        ended = [task for task in self._tasks if task.done()]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        for task in ended:
            task.result()

    async def round(self) -> None:
        """What each place holds is tried once more, at every ready server."""
        for place in self._tokens.places:
            login = await self._tokens.read(place.token, place.namespace)
            self._known[place] = asyncio.get_running_loop().time(), login
            await self._visit(place, *self._known[place])

    async def _listen(self) -> None:
        """Whoever has a new password is asked for next: the first moments are those in which it could fail."""
        places = set(self._tokens.places)
        async for secret in self._api.follow(SECRETS, SELECTOR):
            place = Place(secret["metadata"]["name"].removesuffix("-pull"), secret["metadata"]["namespace"])
            if place in places:
                self._news[place] = None

    async def _buy(self) -> None:
        while True:
            if self._news:
                place = next(iter(self._news))
                del self._news[place]
            else:
                await asyncio.sleep(self._random.uniform(0, 2 * PAUSE))
                place = self._random.choice(self._tokens.places)
            read = await self._read(place)
            if read is not None:
                await self._visit(place, *read)

    async def _read(self, place: Place) -> tuple[float, Login] | None:
        clock = asyncio.get_running_loop().time
        before = clock()
        try:
            self._known[place] = before, await self._tokens.read(place.token, place.namespace, seconds=READ_SECONDS)
        except ApiError:
            # A pod that is there has the secret that it got, API server or not.
            return self._known.get(place)
        return self._known[place]

    async def _visit(self, place: Place, read_at: float, login: Login) -> None:
        seen = self.seen.setdefault(place, [])
        if login.id not in seen:
            seen.append(login.id)
        ready = self._endpoints.ready()
        self._random.shuffle(ready)
        if ready and not any([await self._log_in(place, read_at, login, server) for server in ready]):
            self.unserved += 1

    async def _log_in(self, place: Place, read_at: float, login: Login, server: TokenServer) -> bool:
        changes = server.changes
        # The same request within one second gets the same answer, so no two are the same.
        repository = f"chaos/{self.logins}-{self._random.randrange(1 << 30)}"
        try:
            answer = await granted(self._session, server.url, login, repository)
        except (aiohttp.ClientError, TimeoutError, OSError):
            self.unreachable += 1
            return False
        if answer == "HTTP 503":
            self.busy += 1
            return False
        self.logins += 1
        self.in_broken_places += not self._breakages.healthy(place.namespace)
        if answer and server.changes == changes:
            await self._judge(place, read_at, login, server, answer)
        return True

    async def _judge(self, place: Place, read_at: float, login: Login, server: TokenServer, answer: str) -> None:
        seconds = asyncio.get_running_loop().time() - read_at
        account = self._ledger.accounts.get(f"{TEAM}/{place.token}")
        record = account.record if account is not None else None
        says = "no record" if record is None else f"published {record.published}, slots {record.slots}"
        says += f", at {datetime.now(UTC):%H:%M:%S.%f}"
        while True:
            try:
                current = await self._tokens.read(place.token, place.namespace)
                break
            except ApiError:
                await asyncio.sleep(PAUSE)
        healthy = self._breakages.healthy(place.namespace)
        if not healthy and self._ledger.ended(f"{TEAM}/{place.token}", login.id, datetime.now(UTC)):
            self.ended += 1
            return
        if current.id == login.id:
            says = f"it still stands in the pull secret; {says}"
        elif seconds < self._tokens.overlaps[place.token] - ROUNDING:
            says = f"replaced meanwhile by {current.id}, but its overlap is not over; {says}"
        else:
            self.late += 1
            return
        says = f"in a {'healthy' if healthy else 'broken'} place: {says}"
        self.refused.append(Refusal(place, login.id, server.name, answer, seconds, says))
