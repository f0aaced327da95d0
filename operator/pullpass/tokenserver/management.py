"""The management port: probes, metrics, whether this replica would accept a password, named by its public id, and which
registries it can issue access tokens for.

Plain HTTP, for the kubelet, Prometheus and the operator only; keep others out by a NetworkPolicy. It takes no password
and issues no access token. Before the operator publishes a password it asks each replica here, so that it has to tell
the password to nobody.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime

from aiohttp import web

from pullpass.api.acceptance import Acceptance, Issuing
from pullpass.api.times import utcnow
from pullpass.tokenserver.authentication import Identity
from pullpass.tokenserver.authorization import authorize
from pullpass.tokenserver.cache import AccessCache, Credential, Token
from pullpass.tokenserver.errors import PageNotFound, UnauthenticatedError
from pullpass.tokenserver.handler import TokenServer
from pullpass.tokenserver.http.answers import HEADERS, page, refusal
from pullpass.tokenserver.http.connections import Connections
from pullpass.tokenserver.http.listener import listen

MAX_CONNECTIONS = 64
"""Some for each prober, scraper and operator. When it is too many, those that wait for their client are closed."""
BODY_BYTES = 1024


class Management:
    """Answers on the management port of one token server."""

    def __init__(self, server: TokenServer, cache: AccessCache, *, clock: Callable[[], datetime] = utcnow) -> None:
        self._server = server
        self._cache = cache
        self._clock = clock
        self.connections = Connections(MAX_CONNECTIONS)

    @asynccontextmanager
    async def serve(self, host: str | None, port: int) -> AsyncIterator[int]:
        """Answers on the management port while the context lasts (see `listen`); yields the port."""
        async with listen(self._respond, self.connections, host, port, body_bytes=BODY_BYTES) as open_port:
            yield open_port

    async def _respond(self, http: web.BaseRequest) -> web.StreamResponse:
        match http.path.split("/") if http.method in ("GET", "HEAD") else ():
            case ["", "healthz"]:
                return page(b"ok\n")
            case ["", "readyz"]:
                return self._readyz()
            case ["", "metrics"]:
                return page(self._server.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")
            case ["", "registries"]:
                return web.Response(body=self.issuing().model_dump_json().encode(), headers=HEADERS)
            case ["", "tokens", uid] if uid:
                return self._acceptance(uid, http.query)
        return refusal(PageNotFound("this is the management port of a token server, which has no such page"))

    def _readyz(self) -> web.StreamResponse:
        why = "stopping" if self._server.draining else self._server.why_unready()
        return page(f"{why or 'ok'}\n".encode(), status=200 if why is None else 503)

    def _acceptance(self, uid: str, query: Mapping[str, str]) -> web.StreamResponse:
        answer = self.evaluate(uid, query.get("password", ""), query.get("registry", ""))
        status = 200 if self._cache.token_of_uid(uid) is not None else 404
        return web.Response(body=answer.model_dump_json().encode(), status=status, headers=HEADERS)

    def evaluate(self, token_uid: str, password_id: str, registry: str) -> Acceptance:
        """Comes to the decision that a login with the password itself would come to now."""
        now, token = self._clock(), self._cache.token_of_uid(token_uid)
        credential = self._cache.credential(token_uid) if token is not None else None
        unable = self._server.why_unready()
        if unable is None:
            unable = self._why_unsigned(registry, now)
        refused = self._why_refused(token, credential, password_id, registry, now)
        return Acceptance(
            complete=self._server.complete,
            ready=unable is None,
            version=credential.version if credential is not None else None,
            accepted=unable is None and refused is None,
            reason=unable or refused,
            time=now,
        )

    def issuing(self) -> Issuing:
        """Tells which registries it has a valid signing leaf of."""
        now = self._clock()
        signed = tuple(name for name in self._cache.signers if self._why_unsigned(name, now) is None)
        return Issuing(complete=self._server.complete, registries=signed)

    def _why_unsigned(self, registry: str, now: datetime) -> str | None:
        signer = self._cache.signers.get(registry)
        if signer is None:
            return "there is no signing leaf of that registry yet"
        return "the signing leaf of that registry has expired" if signer.not_after <= now else None

    def _why_refused(
        self, token: Token | None, credential: Credential | None, password_id: str, registry: str, now: datetime
    ) -> str | None:
        if token is None:
            return "no RegistryToken has that UID"
        slot = credential.slot(password_id) if credential is not None else None
        if slot is None:
            return "no such password"
        try:
            authorize(self._cache, Identity(token, slot), registry, now)
        except UnauthenticatedError as error:
            return error.reason
        return None
