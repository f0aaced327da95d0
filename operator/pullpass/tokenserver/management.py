"""The management port: probes, metrics, and whether this replica would accept a password, named by its public id.

Plain HTTP, for the kubelet, Prometheus and the operator only; keep others out by a NetworkPolicy. It takes no password
and issues no access token. Before the operator publishes a password it asks each replica here, so that it has to tell
the password to nobody.
"""

from collections.abc import Callable
from datetime import datetime

from aiohttp import web

from pullpass.api import acceptance
from pullpass.api.acceptance import Acceptance
from pullpass.api.times import utcnow
from pullpass.tokenserver.authentication import Identity
from pullpass.tokenserver.authorization import authorize
from pullpass.tokenserver.cache import AccessCache, Credential, Token
from pullpass.tokenserver.errors import PageNotFound, UnauthenticatedError
from pullpass.tokenserver.handler import TokenServer
from pullpass.tokenserver.http.answers import HEADERS, page, refusal
from pullpass.tokenserver.http.connections import Connections

MAX_CONNECTIONS = 64
"""Some for each prober, scraper and operator. When it is too many, those that wait for their client are closed."""


class Management:
    """Answers on the management port of one token server."""

    def __init__(self, server: TokenServer, cache: AccessCache, *, clock: Callable[[], datetime] = utcnow) -> None:
        self._server = server
        self._cache = cache
        self._clock = clock
        self.connections = Connections(MAX_CONNECTIONS)

    def application(self) -> web.Application:
        """The aiohttp application."""
        app = web.Application(client_max_size=1024)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get(acceptance.path("{uid}"), self._acceptance)
        app.router.add_route("*", "/{path:.*}", self._nothing_here)
        return app

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return page(b"ok\n")

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        why = "stopping" if self._server.draining else self._server.why_unready()
        return page(f"{why or 'ok'}\n".encode(), status=200 if why is None else 503)

    async def _metrics(self, _: web.Request) -> web.StreamResponse:
        return page(self._server.metrics.text(), "text/plain; version=0.0.4; charset=utf-8")

    async def _acceptance(self, http: web.Request) -> web.StreamResponse:
        uid = http.match_info["uid"]
        answer = self.evaluate(uid, http.query.get("password", ""), http.query.get("registry", ""))
        status = 200 if self._cache.token_of_uid(uid) is not None else 404
        return web.Response(body=answer.model_dump_json().encode(), status=status, headers=HEADERS)

    def evaluate(self, token_uid: str, password_id: str, registry: str) -> Acceptance:
        """Comes to the decision that a login with the password itself would come to now."""
        now, token = self._clock(), self._cache.token_of_uid(token_uid)
        credential = self._cache.credential(token_uid) if token is not None else None
        unable = self._server.why_unready()
        if unable is None and registry not in self._cache.signers:
            unable = "there is no signing leaf of that registry yet"
        refused = self._why_refused(token, credential, password_id, registry, now)
        return Acceptance(
            complete=self._server.complete,
            ready=unable is None,
            version=credential.version if credential is not None else None,
            accepted=unable is None and refused is None,
            reason=unable or refused,
            time=now,
        )

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

    async def _nothing_here(self, _: web.Request) -> web.StreamResponse:
        return refusal(PageNotFound("this is the management port of a token server, which has no such page"))
