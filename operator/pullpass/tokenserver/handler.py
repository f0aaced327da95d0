"""Handles token requests: parse, authenticate, authorize, issue, in this order and nothing else."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime

from aiohttp import web

from pullpass.access.actions import ANY
from pullpass.access.grants import Access, grant, scope_text
from pullpass.access.scopes import Scope
from pullpass.api.registries import Registry
from pullpass.api.times import utcnow
from pullpass.credentials import hashing, password
from pullpass.kube.pace import Pace
from pullpass.signing.tokens import Signer
from pullpass.tokenserver.audit import Audit, Granted
from pullpass.tokenserver.authentication import Authenticator
from pullpass.tokenserver.authorization import authorize
from pullpass.tokenserver.bcrypt_pool import Checks
from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.errors import (
    FailedError,
    InvalidRequestError,
    MethodNotAllowed,
    PageNotFound,
    TokenRequestError,
    TooLargeError,
    UnauthenticatedError,
    UnavailableError,
)
from pullpass.tokenserver.http.answers import HEADERS, PrerenderedResponse, refusal, takes_prerendered
from pullpass.tokenserver.http.certificate import ServedCertificate
from pullpass.tokenserver.http.connections import Connections
from pullpass.tokenserver.http.listener import listen
from pullpass.tokenserver.http.proxies import FORWARDED, Proxies
from pullpass.tokenserver.issuing import Issued, Issuer, credential_end
from pullpass.tokenserver.limits import Limits
from pullpass.tokenserver.metrics import Metrics, Parts
from pullpass.tokenserver.request import RawRequest, TokenRequest, registry_of
from pullpass.tokenserver.reuse import Decision, Reuse
from pullpass.tokenserver.settings import TokenServerSettings

log = logging.getLogger(__name__)

TOKEN_PATHS = ("/token", "/auth/token", "/oauth2/token")
"""Ours, that of Distribution's `autoredirect`, and that of Azure Container Registry."""
BODY_BYTES = 32 * 1024
BODY_SECONDS = 10
REFUSALS = 500
"""Refusals sent in a second; as many may come in a burst, further ones wait."""


class TokenServer:
    """Answers token requests from the cache.

    `age` returns the seconds since the API server last answered, infinity while the cache is not complete. Limits
    and metrics go by `monotonic`, which is not set like `clock`. With a certificate it serves over TLS.
    """

    def __init__(
        self,
        settings: TokenServerSettings,
        cache: AccessCache,
        *,
        age: Callable[[], float],
        clock: Callable[[], datetime] = utcnow,
        monotonic: Callable[[], float] = time.monotonic,
        certificate: ServedCertificate | None = None,
    ) -> None:
        self._settings = settings
        self._cache = cache
        self._age = age
        self._clock = clock
        self.checks = Checks(hashing.dummy_hash(settings.bcrypt_cost))
        self.limits = Limits(monotonic)
        self.connections = Connections(certificate=certificate)
        self.audit = Audit()
        self.authenticator = Authenticator(cache, self.checks, self.limits)
        self._proxies = Proxies(settings.trusted_proxies)
        self._issuers = {registry.name: Issuer(registry) for registry in settings.registries}
        self._reuse = Reuse(cache)
        self.metrics = Metrics(
            Parts(cache, self.checks, self.authenticator, self.limits, self._reuse, self.audit, self.connections, age),
            settings.registries.known,
            monotonic,
        )
        self._pace = Pace(REFUSALS)
        self._held_back = 0
        self.draining = False
        """Whether it is about to end, and says unready."""

    @asynccontextmanager
    async def serve(self, host: str | None, port: int) -> AsyncIterator[int]:
        """Answers token requests while the context lasts (see `listen`); yields the port."""
        try:
            async with listen(self._respond, self.connections, host, port, body_bytes=BODY_BYTES) as open_port:
                yield open_port
        finally:
            self.audit.flush()
            self.checks.close()

    def drain(self) -> None:
        """Reports unready from now on and closes each connection with its next answer; tokens are issued on."""
        self.draining = True

    @property
    def complete(self) -> bool:
        """Whether everything that the API server lists is in the cache."""
        return self._age() != float("inf")

    def why_unready(self) -> str | None:
        """Returns why no token can be issued at this moment, None when one can, be it for one registry only: trouble
        with the key of one must not stop pulls from the others."""
        age = self._age()
        if age == float("inf"):
            return "not everything was heard from the API server yet"
        limit = self._settings.max_staleness
        if limit is not None and age > limit.total_seconds():
            return f"the API server was last heard {int(age)} s ago, longer than allowed"
        if not self._cache.signers:
            return "there is no signing leaf yet"
        return None

    async def _respond(self, http: web.BaseRequest) -> web.StreamResponse:
        if http.path not in TOKEN_PATHS:
            return refusal(PageNotFound(f"tokens are issued under {TOKEN_PATHS[0]}"))
        begun = time.perf_counter()
        oauth = http.method == "POST"
        asked: TokenRequest | None = None
        registry: Registry | None = None
        response: web.StreamResponse
        try:
            raw = await self._receive(http)
            self._must_be_ready()
            key, second = self._reuse.key(raw.parts()), int(self._clock().timestamp())
            decision = self._reuse.find(key, second)
            if decision is None:
                fields = raw.fields()
                registry = registry_of(fields, self._settings.registries)
                asked = raw.read(fields)
                decision = await self._decide(raw, registry, asked)
                self._reuse.keep(key, decision)
                second = decision.issued.second
            registry = decision.granted.registry
            self.audit.granted(decision.granted, raw.remote, raw.client)
            outcome, response = decision.granted.decision, self._answer(http, decision.issued, second)
        except TokenRequestError as error:
            self._note(http, registry, asked, error)
            outcome, response = error.outcome, refusal(error, oauth=oauth)
        except Exception:
            log.exception("a token request failed")
            failure = FailedError()
            outcome, response = failure.outcome, refusal(failure, oauth=oauth)
        self.metrics.answered(http.method, outcome, registry, time.perf_counter() - begun)
        if response.status != 200:
            await self._hold_back()
        if self.draining:
            response.force_close()
        return response

    def _answer(self, http: web.BaseRequest, issued: Issued, second: int) -> web.StreamResponse:
        if takes_prerendered(http) and not self.draining:
            return PrerenderedResponse(issued.answer(second))
        return web.Response(body=issued.body(second), headers=HEADERS)

    async def _hold_back(self) -> None:
        """Lets a refusal wait for its turn: who sends one wrong login after the other, over however many connections,
        leaves the time to good ones. Only so many wait that there is room for the connections of others."""
        if self._held_back < self.connections.limit // 4:
            self._held_back += 1
            try:
                await self._pace.wait()
            finally:
                self._held_back -= 1

    def _must_be_ready(self) -> None:
        unready = self.why_unready()
        if unready is not None:
            raise UnavailableError(unready)

    async def _decide(self, raw: RawRequest, registry: Registry, asked: TokenRequest) -> Decision:
        self._signer(registry)  # where there is none, that is the answer, whoever asks
        if asked.username is None:
            raise UnauthenticatedError("no credentials")
        identity = await self.authenticator.authenticate(asked.username, asked.password, raw.remote)
        # From here on nothing waits, so all of it is decided in one state of the cache and at one moment.
        now, signer = self._clock(), self._signer(registry)
        inputs = self._cache.decision_inputs(asked.username, registry.name)
        rights = authorize(self._cache, identity, registry.name, now)
        access = grant(asked.scopes, rights)
        issued = self._issuers[registry.name].issue(
            signer,
            asked.username,
            access,
            now,
            ends_at=credential_end(identity.slot.ends_at, identity.token.expires_at),
            oauth=raw.method == "POST",
        )
        granted = Granted(
            _extent(asked.scopes, access),
            registry,
            asked.username,
            asked.scopes,
            scope_text(access),
            identity.slot.id,
            issued.token_id,
        )
        return Decision(inputs, issued, granted)

    def _signer(self, registry: Registry) -> Signer:
        signer = self._cache.signers.get(registry.name)
        if signer is None:
            raise UnavailableError(f"there is no signing leaf of registry {registry.name} yet")
        return signer

    def _note(
        self, http: web.BaseRequest, registry: Registry | None, asked: TokenRequest | None, error: TokenRequestError
    ) -> None:
        parsed = password.parse(asked.password) if asked is not None else None
        self.audit.refused(
            registry,
            asked.username if asked is not None else None,
            self._sender(http),
            http.headers.get("User-Agent", ""),
            asked.scopes if asked is not None else (),
            error,
            parsed.id if parsed is not None else None,
        )

    def _sender(self, http: web.BaseRequest) -> str:
        peer = http.remote or ""
        if not self._proxies:
            return peer
        return self._proxies.sender(peer, tuple(http.headers.getall(FORWARDED, ())))

    async def _receive(self, http: web.BaseRequest) -> RawRequest:
        """Takes a request off the wire, within bounds. Raises TokenRequestError."""
        sender, body = self._sender(http), b""
        if http.method == "POST":
            body = await _body(http)
        elif http.method != "GET":
            raise MethodNotAllowed("use GET or POST")
        return RawRequest(
            http.method,
            http.rel_url.raw_query_string,
            body,
            http.headers.get("Content-Type", ""),
            tuple(http.headers.getall("Authorization", ())),
            sender,
            http.headers.get("User-Agent", ""),
        )


async def _body(http: web.BaseRequest) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await http.read()
    except web.HTTPRequestEntityTooLarge:
        raise TooLargeError(f"a token request has at most {BODY_BYTES} bytes") from None
    except TimeoutError:
        raise InvalidRequestError("the body did not arrive in time") from None
    except (web.RequestPayloadError, ConnectionError):
        raise InvalidRequestError("the body broke off or cannot be read") from None


def _extent(asked: tuple[Scope, ...], access: list[Access]) -> str:
    """Tells how much of what was asked for is granted; `*` counts as granted where anything is."""
    held = {(entry["type"], entry["name"]): entry["actions"] for entry in access}
    for scope in asked:
        actions = held.get((scope.type, scope.name), [])
        if not (actions if ANY in scope.actions else set(scope.actions).issubset(actions)):
            return "reduced" if access else "denied"
    return "granted"
