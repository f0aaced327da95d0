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
"""With the first three an access token was issued: with all that was asked for, a part of it, or nothing of it."""
NO_REGISTRY = "-"
"""In place of a registry's name: the request does not say which, or cannot be read."""
KEPT_SECONDS = 1.0
"""How long the text is shown that was made for one scrape: whoever reaches the port may ask for it as often as they
like, and with many registries it is long."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a token server that have something to tell."""

    mirror: AccessCache
    checks: Checks
    authenticator: Authenticator
    limits: Limits
    reuse: Reuse
    audit: Audit
    connections: Connections
    age: Callable[[], float]
    """Seconds since the API server was last heard."""


class _State(Collector):
    """What is counted elsewhere anyway, read when somebody asks."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._mirror = parts.mirror

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._decisions()
        yield from self._tables()
        yield from self._connections()
        yield from self._knowledge()

    def _decisions(self) -> Iterator[Metric]:
        parts = self._parts
        yield CounterMetricFamily(f"{PREFIX}bcrypt_checks", "bcrypt checks begun", value=parts.checks.count)
        yield CounterMetricFamily(
            f"{PREFIX}cache_hits",
            "Logins whose password was checked before and is remembered; reused access tokens are apart",
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
        yield GaugeMetricFamily(
            f"{PREFIX}connections_limit", "Open connections that there may be", value=connections.most
        )
        closed = CounterMetricFamily(
            f"{PREFIX}connections_closed",
            "Connections closed to make room, because no request came, because of their headers' length, "
            "or because their client did not take the answers",
            labels=["reason"],
        )
        for reason, count in connections.closed.items():
            closed.add_metric([reason], count)
        yield closed
        yield CounterMetricFamily(
            f"{PREFIX}connections_refused", "Connections that found no room", value=connections.refused
        )
        yield CounterMetricFamily(
            f"{PREFIX}unreadable_requests", "Requests that are not HTTP", value=connections.unreadable
        )
        if connections.certificate is not None:
            yield CounterMetricFamily(
                f"{PREFIX}tls_handshake_failures",
                "Handshakes in which client and server did not come together",
                value=connections.failed_handshakes,
            )
            yield GaugeMetricFamily(
                f"{PREFIX}tls_certificate_not_after_seconds",
                "End of the certificate that is served, in seconds since 1970",
                value=connections.certificate.not_after.timestamp(),
            )

    def _knowledge(self) -> Iterator[Metric]:
        yield GaugeMetricFamily(
            f"{PREFIX}mirror_age_seconds",
            "Seconds since the API server was last heard, by the kind heard longest ago; infinite before that",
            value=self._parts.age(),
        )
        yield _by(
            "mirror_objects",
            "Objects held in memory",
            "kind",
            {
                "RegistryToken": len(self._mirror.tokens),
                "ScopeMap": len(self._mirror.scope_maps),
                "Namespace": len(self._mirror.namespaces),
                "CredentialRecord": len(self._mirror.credentials),
            },
        )
        yield _by(
            "signing_certificate_not_after_seconds",
            "End of the signing certificate, in seconds since 1970; none of a registry that has none",
            "registry",
            {name: signer.not_after.timestamp() for name, signer in self._mirror.signers.items()},
        )


class _Requests(Collector):
    """Token requests and the time they took. Counted in plain integers, as this is done for each of them: the library's
    own counters take a lock for every bucket."""

    def __init__(self, registries: Iterable[str]) -> None:
        self._counts = {
            (method, outcome, registry): 0
            for registry in registries
            for method in ("GET", "POST", "other")
            for outcome in OUTCOMES
        }
        self._seconds = 0.0
        self._within = [0] * (len(BUCKETS) + 1)
        """By the first bucket that is long enough; the last one has no end."""

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
        self._made = float("-inf")
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
        """All metrics in the text format, as they were a second ago at most."""
        now = self._monotonic()
        if now - self._made >= KEPT_SECONDS:
            self._text, self._made = generate_latest(self._registry), now
        return self._text


def _version() -> str:
    try:
        return metadata.version("pullpass")
    except metadata.PackageNotFoundError:
        return "unknown"
