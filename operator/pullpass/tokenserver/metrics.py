"""Metrics of the token server, all under `pullpass_token_server_`. No label has a value that came from a
client."""

from collections.abc import Callable, Iterable, Iterator
from importlib import metadata

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pullpass.tokenserver.authentication import Authenticator
from pullpass.tokenserver.checks import Checks
from pullpass.tokenserver.mirror import Mirror
from pullpass.tokenserver.repeats import Repeats

PREFIX = "pullpass_token_server_"
OUTCOMES = ("granted", "reduced", "unauthorized", "invalid", "unavailable", "busy", "error")
"""`reduced`: a token was issued with less than was asked for, or nothing."""
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)


class _State(Collector):
    """What is counted elsewhere anyway, read when somebody asks."""

    def __init__(
        self, mirror: Mirror, checks: Checks, authenticator: Authenticator, repeats: Repeats, age: Callable[[], float]
    ) -> None:
        self._mirror = mirror
        self._checks = checks
        self._authenticator = authenticator
        self._repeats = repeats
        self._age = age

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily(f"{PREFIX}bcrypt_checks", "bcrypt checks begun", value=self._checks.count)
        yield CounterMetricFamily(
            f"{PREFIX}cache_hits", "Logins answered without a bcrypt check", value=self._authenticator.hits
        )
        yield CounterMetricFamily(
            f"{PREFIX}repeated_answers",
            "Requests that got the answer given to the same request in the same second",
            value=self._repeats.count,
        )
        yield GaugeMetricFamily(
            f"{PREFIX}mirror_age_seconds",
            "Seconds since the API server was last heard, by the kind heard longest ago; infinite before that",
            value=self._age(),
        )
        objects = GaugeMetricFamily(f"{PREFIX}mirror_objects", "Objects held in memory", labels=["kind"])
        objects.add_metric(["RegistryToken"], len(self._mirror.tokens))
        objects.add_metric(["ScopeMap"], len(self._mirror.scope_maps))
        objects.add_metric(["Namespace"], len(self._mirror.namespaces))
        objects.add_metric(["CredentialRecord"], len(self._mirror.credentials))
        yield objects
        if self._mirror.signer is not None:
            yield GaugeMetricFamily(
                f"{PREFIX}signing_certificate_not_after_seconds",
                "End of the signing certificate, in seconds since 1970",
                value=self._mirror.signer.not_after.timestamp(),
            )


class Metrics:
    """The metrics of one token server, in a registry of their own."""

    def __init__(
        self, mirror: Mirror, checks: Checks, authenticator: Authenticator, repeats: Repeats, age: Callable[[], float]
    ) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_State(mirror, checks, authenticator, repeats, age))
        requests = Counter(f"{PREFIX}requests", "Token requests", ["method", "outcome"], registry=self._registry)
        self._requests = {
            (method, outcome): requests.labels(method, outcome)
            for method in ("GET", "POST", "other")
            for outcome in OUTCOMES
        }
        self._seconds = Histogram(
            f"{PREFIX}request_seconds",
            "Time to answer a token request, waiting for a bcrypt check included",
            buckets=BUCKETS,
            registry=self._registry,
        )
        build = Gauge(f"{PREFIX}build_info", "Always 1", ["version"], registry=self._registry)
        build.labels(_version()).set(1)

    def answered(self, method: str, outcome: str, seconds: float) -> None:
        """Counts one token request."""
        self._requests[method if method in ("GET", "POST") else "other", outcome].inc()
        self._seconds.observe(seconds)

    def text(self) -> bytes:
        """All metrics in the text format."""
        return generate_latest(self._registry)


def _version() -> str:
    try:
        return metadata.version("pullpass")
    except metadata.PackageNotFoundError:
        return "unknown"
