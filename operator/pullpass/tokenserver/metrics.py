"""Metrics of the token server, all under `pullpass_token_server_`. No label has a value that came from a
client."""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pullpass.api.registries import Registry
from pullpass.tokenserver.audit import Audit
from pullpass.tokenserver.authentication import Authenticator
from pullpass.tokenserver.bcrypt_pool import Checks
from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.http.connections import Connections
from pullpass.tokenserver.limits import Limits
from pullpass.tokenserver.reuse import Reuse

PREFIX = "pullpass_token_server_"
OUTCOMES = ("granted", "reduced", "denied", "unauthorized", "limited", "invalid", "unavailable", "busy", "error")
"""The first three issued an access token, with all, a part or nothing of the requested access."""
NO_REGISTRY = "-"
"""Label value where a request names no registry of ours, or cannot be parsed."""
SCRAPE_CACHE_SECONDS = 1.0
"""How long the text of one scrape is served again. Anybody who reaches the port may scrape as often as they like, and
with many registries the text is long."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a token server that metrics are read from."""

    cache: AccessCache
    checks: Checks
    authenticator: Authenticator
    limits: Limits
    reuse: Reuse
    audit: Audit
    connections: Connections
    age: Callable[[], float]
    """Returns the seconds since the API server last answered, infinity while the cache is not complete."""


class _State(Collector):
    """Collects, at each scrape, what the parts of the server count anyway."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._cache = parts.cache

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._decisions()
        yield from self._tables()
        yield from self._connections()
        yield from self._cached()

    def _decisions(self) -> Iterator[Metric]:
        parts = self._parts
        yield CounterMetricFamily(f"{PREFIX}bcrypt_checks", "bcrypt checks begun", value=parts.checks.count)
        yield CounterMetricFamily(
            f"{PREFIX}cache_hits",
            "Logins whose password had been checked before; reused access tokens are counted apart",
            value=parts.authenticator.hits,
        )
        yield CounterMetricFamily(
            f"{PREFIX}reused_access_tokens",
            "Requests that got the access token issued to the same request a few seconds ago",
            value=parts.reuse.count,
        )
        yield CounterMetricFamily(
            f"{PREFIX}audit_refusals_not_shown",
            "Refusals without an audit line of their own",
            value=parts.audit.left_out,
        )

    def _tables(self) -> Iterator[Metric]:
        checks, limits = self._parts.checks, self._parts.limits
        yield _by(
            "bcrypt_checks_under_way",
            "bcrypt checks that run or wait",
            "lane",
            {"main": checks.main.under_way, "side": checks.side.under_way},
        )
        yield _by(
            "remembered_verdicts",
            "Passwords whose check is remembered",
            "verdict",
            self._parts.authenticator.remembered,
        )
        failing = {"sender": limits.senders, "user": limits.users}
        yield _by(
            "failing",
            "Senders and user names whose failed logins are remembered",
            "by",
            {by: len(failures) for by, failures in failing.items()},
        )
        now = limits.now()
        yield _by(
            "over_limit",
            "Senders and user names with too many failed logins",
            "by",
            {by: failures.over(now) for by, failures in failing.items()},
        )

    def _connections(self) -> Iterator[Metric]:
        connections = self._parts.connections
        yield GaugeMetricFamily(f"{PREFIX}connections", "Open connections", value=len(connections))
        yield GaugeMetricFamily(f"{PREFIX}connections_limit", "Maximum of open connections", value=connections.limit)
        closed = CounterMetricFamily(
            f"{PREFIX}connections_closed",
            "Connections that the server closed: to make room, because no request came, because of too long headers, "
            "or because the client did not read the answers",
            labels=["reason"],
        )
        for reason, count in connections.closed.items():
            closed.add_metric([reason], count)
        yield closed
        yield CounterMetricFamily(
            f"{PREFIX}connections_refused", "Connections refused because there were too many", value=connections.refused
        )
        yield CounterMetricFamily(
            f"{PREFIX}unreadable_requests", "Requests that are not HTTP", value=connections.unreadable
        )
        if connections.certificate is not None:
            yield CounterMetricFamily(
                f"{PREFIX}tls_handshake_failures",
                "TLS handshakes that failed",
                value=connections.failed_handshakes,
            )
            yield GaugeMetricFamily(
                f"{PREFIX}tls_certificate_not_after_seconds",
                "Expiry of the served certificate, in seconds since 1970",
                value=connections.certificate.not_after.timestamp(),
            )

    def _cached(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            f"{PREFIX}cache_age_seconds",
            "Seconds since the API server last sent something, for the kind where that is longest; +Inf at first",
            value=self._parts.age(),
        )
        yield _by(
            "cache_objects",
            "Objects in the cache",
            "kind",
            {
                "RegistryToken": len(self._cache.tokens),
                "ScopeMap": len(self._cache.scope_maps),
                "Namespace": len(self._cache.namespaces),
                "CredentialRecord": len(self._cache.credentials),
            },
        )
        yield _by(
            "signing_certificate_not_after_seconds",
            "Expiry of the signing certificate, in seconds since 1970; absent for a registry without one",
            "registry",
            {name: signer.not_after.timestamp() for name, signer in self._cache.signers.items()},
        )


class _Requests(Collector):
    """Counts token requests and the time they took.

    In plain integers, because it happens in every request: the library's counters take a lock for each bucket.
    """

    def __init__(self, registries: Iterable[str]) -> None:
        self._counts = {
            (method, outcome, registry): 0
            for registry in registries
            for method in ("GET", "POST", "other")
            for outcome in OUTCOMES
        }
        self._seconds = 0.0
        self._within = [0] * (len(BUCKETS) + 1)
        """Requests by the smallest bucket that they fit in; the last one is +Inf."""

    def count(self, method: str, outcome: str, registry: str, seconds: float) -> None:
        self._counts[method if method in ("GET", "POST") else "other", outcome, registry] += 1
        self._seconds += seconds
        self._within[bisect_left(BUCKETS, seconds)] += 1

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(f"{PREFIX}requests", "Token requests", labels=["method", "outcome", "registry"])
        for labels, count in self._counts.items():
            requests.add_metric(labels, count)
        yield requests
        bounds = (*map(floatToGoString, BUCKETS), "+Inf")
        yield HistogramMetricFamily(
            f"{PREFIX}request_seconds",
            "Time to answer a token request, waiting for a bcrypt check included",
            buckets=list(zip(bounds, accumulate(self._within), strict=True)),
            sum_value=self._seconds,
        )


def _by(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"{PREFIX}{name}", text, labels=[label])
    for key, value in values.items():
        family.add_metric([key], value)
    return family


class Metrics:
    """The metrics of one token server, in a registry of their own; `monotonic` is a clock in seconds."""

    def __init__(self, parts: Parts, registries: Iterable[str], monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._text = b""
        self._rendered_at = float("-inf")
        self._registry = CollectorRegistry()
        self._registry.register(_State(parts))
        self._requests = _Requests((*registries, NO_REGISTRY))
        self._registry.register(self._requests)
        build = Gauge(f"{PREFIX}build_info", "Always 1", ["version"], registry=self._registry)
        build.labels(_version()).set(1)

    def answered(self, method: str, outcome: str, registry: Registry | None, seconds: float) -> None:
        """Counts one token request."""
        self._requests.count(method, outcome, registry.name if registry is not None else NO_REGISTRY, seconds)

    def text(self) -> bytes:
        """Returns all metrics in the Prometheus text format, at most SCRAPE_CACHE_SECONDS old."""
        now = self._monotonic()
        if now - self._rendered_at >= SCRAPE_CACHE_SECONDS:
            self._text, self._rendered_at = generate_latest(self._registry), now
        return self._text


def _version() -> str:
    try:
        return metadata.version("pullpass")
    except metadata.PackageNotFoundError:
        return "unknown"
