"""Asks the token servers, on their management ports, whether they would accept a new password.

The question names the token by its UID and the password by its public id, so no password goes over this way: whatever
answers at an address that was a replica's learns nothing of use. Each ready replica must say that it holds the record
in this very version and would accept the password. One that is not ready is asked as well, as it may become so at any
moment: if it is complete it must hold the record too. If it cannot be reached, or is not complete, it reads the record
before it is ready (see `kube/reflector.py`).

It also asks them, on the same ports, which registries they can issue access tokens for.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import aiohttp
from pydantic import ValidationError

from pullpass.api import acceptance
from pullpass.api.acceptance import Acceptance, Issuing
from pullpass.api.times import utcnow
from pullpass.controller.settings import OperatorSettings
from pullpass.kube.client import Kube
from pullpass.kube.resources import ENDPOINT_SLICES

ANSWER_SECONDS = 5
"""Longer than a token server can stand still unnoticed (`kube/standstill.py`): one that did not answer as it stood
still catches up with the API server before it is ready again."""
MIN_ANSWER_SECONDS = 0.25
"""Each question has at least so long for an answer, after all other waits, and TURNS turns of the event loop: an answer
may have come while the operator itself stood still or had no processor time."""
TURNS = 10
PROBE_SECONDS = 60
"""How long a question to a replica that hangs stays open after it was given up, see `_Silence`."""
ANSWER_BYTES = 4096
"""More than the names of all registries need: 64 of at most 30 characters."""
CLOCK_DIFFERENCE = timedelta(seconds=60)
"""From which on a refusal says how far a replica's clock is from ours."""


class NotConfirmedError(Exception):
    """A token server would not accept a new password yet; the text says which, what it answered, and what to do."""


class NotReadyError(NotConfirmedError):
    """There is no token server, or one that can accept nothing at this time: it cannot be asked, or has no signing
    leaf of the registry."""


@dataclass(frozen=True, order=True)
class _Endpoint:
    """A replica as an EndpointSlice tells of it."""

    host: str
    port: int
    """0 where its Service names no management port."""
    ready: bool
    pod: str

    @property
    def authority(self) -> str:
        """Host and port as in a URL."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def __str__(self) -> str:
        """What people call it."""
        return f"token server {self.authority}" + (f" (pod {self.pod})" if self.pod else "")


@dataclass(frozen=True)
class _Question:
    token_uid: str
    password_id: str
    record_version: str
    registry: str


class _Silence:
    """A time in which a replica has at least one open question at every moment, and answers none: it stands still.

    ANSWER_SECONDS of it are enough for all questions that begin in it, however late. Each asks about a record that was
    written before, and the replica wakes up after that: it notices that it stood still, and reads the record before it
    is ready. A question that is given up stays open as a probe where it is the oldest one. Without the probe nothing
    would tell whether the replica was awake between two questions.
    """

    def __init__(self) -> None:
        self._since = _monotonic()
        self._open: dict[asyncio.Task[Acceptance], None] = {}
        self._broken = False

    @property
    def over(self) -> bool:
        """Whether the replica was heard, or has no open question: the next one begins another silence."""
        return self._broken or not self._open

    async def ask(self, request: Coroutine[Any, Any, Acceptance]) -> Acceptance:
        """Returns the answer or raises what the request raises; TimeoutError where the replica stands still."""
        begun, turns = _monotonic(), 0
        task = asyncio.create_task(request)
        self._open[task] = None
        task.add_done_callback(self._ended)
        try:
            while not task.done() and turns < TURNS:
                # A replica that answers others does not stand still: then only the time of this question counts.
                left = (begun if self._broken else self._since) + ANSWER_SECONDS - _monotonic()
                turns = turns + 1 if left <= 0 else 0
                await asyncio.wait({task}, timeout=left if left > 0 else MIN_ANSWER_SECONDS / TURNS)
            if task.done():
                return task.result()
            if self._broken or task is not next(iter(self._open)):
                await _cancelled(task)
            raise TimeoutError
        except asyncio.CancelledError:
            task.cancel()
            raise

    async def end(self) -> None:
        """Leaves no request open."""
        await _cancelled(*self._open)

    def _ended(self, task: asyncio.Task[Acceptance]) -> None:
        del self._open[task]
        if not task.cancelled():
            task.exception()  # of a probe nobody else asks for it
            self._broken = True


async def _cancelled(*tasks: asyncio.Task[Acceptance]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _monotonic() -> float:
    return asyncio.get_running_loop().time()


class Replicas:
    """The token servers behind the management Service."""

    def __init__(
        self,
        kube: Kube,
        settings: OperatorSettings,
        session: aiohttp.ClientSession,
        *,
        now: Callable[[], datetime] = utcnow,
    ) -> None:
        self._kube = kube
        self._namespace = settings.namespace
        self._service = settings.token_server_service
        self._session = session
        self._now = now
        self._silences: dict[tuple[str, str], _Silence] = {}
        """By address and pod."""

    @classmethod
    @asynccontextmanager
    async def connect(cls, kube: Kube, settings: OperatorSettings) -> AsyncIterator["Replicas"]:
        """Keeps connections to the replicas while the context lasts."""
        timeout = aiohttp.ClientTimeout(total=PROBE_SECONDS)
        async with aiohttp.ClientSession(
            timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False
        ) as session:
            replicas = cls(kube, settings, session)
            try:
                yield replicas
            finally:
                await replicas.close()

    async def close(self) -> None:
        """Leaves no question open."""
        await asyncio.gather(*(silence.end() for silence in self._silences.values()))

    async def confirm(self, token_uid: str, password_id: str, record_version: str, registry: str) -> None:
        """Returns once every replica that is ready, and any other that answers, holds that version of the record and
        would accept that password at that registry; also those that came while others were asked.

        Raises NotConfirmedError, NotReadyError where a replica can serve nothing of it now or there is none, or a
        KubeError.
        """
        question = _Question(token_uid, password_id, record_version, registry)
        asked: set[_Endpoint] = set()
        confirmed = False
        while new := await self._endpoints() - asked:
            answers = await asyncio.gather(
                *(self._ask(endpoint, question) for endpoint in sorted(new)),
                # To the end, also where one refuses: a request that is still under way would outlive the decision.
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
                confirmed = confirmed or answer
            asked |= new
        if not confirmed:
            raise NotReadyError(
                f"no token server is ready: Service {self._namespace}/{self._service} has "
                + (f"{len(asked)} endpoints, none of which confirms the new password" if asked else "no endpoints")
                + "; look at the token servers' pods and their logs"
            )

    async def issuing(self) -> frozenset[str] | None:
        """Returns the registries that every replica which takes requests can issue access tokens for; where none is
        ready, that every one which has read everything can. None where none of these answers. Raises KubeError."""
        endpoints = sorted(await self._endpoints())
        answers = await asyncio.gather(*(self._issuing(endpoint) for endpoint in endpoints))
        said = [(endpoint.ready, answer) for endpoint, answer in zip(endpoints, answers, strict=True) if answer]
        some_ready = any(ready for ready, _ in said)
        counted = [frozenset(answer.registries) for ready, answer in said if ready or not some_ready]
        return frozenset.intersection(*counted) if counted else None

    async def _issuing(self, endpoint: _Endpoint) -> Issuing | None:
        """What a replica says; None where it cannot be asked or has not read everything yet."""
        if not endpoint.port:
            return None
        try:
            async with asyncio.timeout(ANSWER_SECONDS), self._get(endpoint, acceptance.REGISTRIES_PATH) as response:
                answer = Issuing.model_validate_json(await _body(response), strict=True)
        except (aiohttp.ClientError, TimeoutError, OSError, ValidationError):
            return None
        return answer if answer.complete else None

    async def _endpoints(self) -> set[_Endpoint]:
        slices = self._kube.list(
            ENDPOINT_SLICES, self._namespace, label_selector=f"kubernetes.io/service-name={self._service}"
        )
        return {endpoint async for slice_ in slices for endpoint in _read(slice_)}

    async def _ask(self, endpoint: _Endpoint, question: _Question) -> bool:
        """Whether a replica has confirmed; False for one that does not count."""
        try:
            answer = await self._request(endpoint, question)
            _check(endpoint, question, answer, _clock(answer.time - self._now()))
        except NotReadyError:
            if endpoint.ready:
                raise
            return False
        return True

    async def _request(self, endpoint: _Endpoint, question: _Question) -> Acceptance:
        if not endpoint.port:
            raise NotReadyError(
                f"{endpoint} cannot be asked: Service {self._namespace}/{self._service} names no port "
                f"{acceptance.PORT_NAME} for it; --token-server-service must name the token servers' management "
                "Service, and pods of a version without that port have to be replaced"
            )
        replica = endpoint.authority, endpoint.pod
        if replica not in self._silences or self._silences[replica].over:
            self._silences = {which: silence for which, silence in self._silences.items() if not silence.over}
            self._silences[replica] = _Silence()
        try:
            return await self._silences[replica].ask(self._send(endpoint, question))
        except TimeoutError as error:
            raise _unreachable(endpoint, type(error).__name__) from None

    async def _send(self, endpoint: _Endpoint, question: _Question) -> Acceptance:
        try:
            parameters = {"password": question.password_id, "registry": question.registry}
            async with self._get(endpoint, acceptance.path(question.token_uid), parameters) as response:
                return await _answer(endpoint, response)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _unreachable(endpoint, type(error).__name__) from None

    def _get(
        self, endpoint: _Endpoint, path: str, parameters: Mapping[str, str] | None = None
    ) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        return self._session.get(
            f"http://{endpoint.authority}{path}",
            params=parameters,
            # A service mesh goes by this name: it knows a request to the bare address of a pod as nobody's.
            headers={"Host": f"{self._service}.{self._namespace}.svc", "Accept-Encoding": "identity"},
            allow_redirects=False,
        )


def _unreachable(endpoint: _Endpoint, why: str) -> NotReadyError:
    return NotReadyError(
        f"{endpoint} cannot be asked ({why}); look at its pod and its log, and whether a NetworkPolicy or a service "
        "mesh keeps the operator from its management port"
    )


async def _answer(endpoint: _Endpoint, response: aiohttp.ClientResponse) -> Acceptance:
    if response.status in {502, 503, 504}:  # it has no room for another connection, or a proxy cannot reach it
        raise _unreachable(endpoint, f"HTTP {response.status}")
    body = await _body(response)
    try:
        if response.status in {200, 404}:
            return Acceptance.model_validate_json(body, strict=True)
    except ValidationError:
        pass
    raise NotConfirmedError(
        f"{endpoint} does not answer as a token server does (HTTP {response.status}); it may be of another version, "
        "or the address is no longer a token server's"
    )


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """The body, nothing of one that is longer than any answer of a token server."""
    body = b""
    async for chunk in response.content.iter_chunked(ANSWER_BYTES):
        body += chunk
        if len(body) > ANSWER_BYTES:
            return b""
    return body


def _check(endpoint: _Endpoint, question: _Question, answer: Acceptance, clock: str) -> None:
    """Raises NotConfirmedError unless the answer confirms the password; `clock` ends the text of a refusal.

    The version comes before everything else that a complete replica says: one that holds an old one would refuse the
    password as soon as it is ready.
    """
    said = f" ({answer.reason})" if answer.reason else ""
    if not answer.complete:
        raise NotReadyError(f"{endpoint} is still reading what the API server has{said}; its log says how far it is")
    if answer.version != question.record_version:
        held = f"version {answer.version}" if answer.version else "no version"
        raise NotConfirmedError(
            f"{endpoint} holds {held} of the credential record and not {question.record_version}{said}; it is asked "
            f"again, and if that lasts, look at its log and its connection to the API server{clock}"
        )
    if not answer.ready:
        raise NotReadyError(
            f"{endpoint} can issue no access tokens for registry {question.registry}{said}; its log and the operator's "
            f"say why{clock}"
        )
    if not answer.accepted:
        raise NotConfirmedError(
            f"{endpoint} would refuse the new password{said}; it is asked again, and if that lasts, compare what it "
            f"knows with the RegistryToken and its ScopeMap{clock}"
        )


def _clock(difference: timedelta) -> str:
    """What to say of a replica's clock that differs so much from ours."""
    if abs(difference) <= CLOCK_DIFFERENCE:
        return ""
    which = "ahead of" if difference > timedelta() else "behind"
    return f". Its clock is {abs(difference).total_seconds():.0f} s {which} the operator's: set the clocks of the nodes"


def _read(slice_: dict[str, Any]) -> list[_Endpoint]:
    ports = (p["port"] for p in slice_.get("ports") or [] if p.get("name") == acceptance.PORT_NAME)
    port = next(ports, None) or 0
    return [
        # By the API's own rule, no word on it means ready.
        _Endpoint(
            host, port, conditions.get("ready") is not False, str((endpoint.get("targetRef") or {}).get("name", ""))
        )
        for endpoint in slice_.get("endpoints") or []
        for conditions in [endpoint.get("conditions") or {}]
        for host in endpoint.get("addresses") or []
    ]
