"""Places, and how they break: each namespace that gets a token's password fails in a way of its own.

A place harms only itself. So whatever is done to some of them, customers with what stands in another one are never
refused, and it goes on to get new passwords before the old ones end.
"""

import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from tests.chaos.api import Api
from tests.chaos.proxy import Disturbance, Proxy
from tests.chaos.traffic import Request

TEAM = "chaos-team"
GUESTS = tuple(f"chaos-guest-{number}" for number in range(6))
"""Further namespaces, which consent to the team's tokens."""
NAMESPACES = (TEAM, *GUESTS)
"""All that have places."""
RECOVERY_SECONDS = 60.0
"""After the end of a fault its place counts as broken for so long: the operator's time limit of a request that hangs,
and then its back-off, of up to half a minute each."""

WEBHOOKS = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations"
RESOURCES = (("secrets",), ("serviceaccounts",), ("secrets", "serviceaccounts"))
"""What of a namespace may fail."""

To = Callable[[Request], bool]


@dataclass(frozen=True, order=True)
class Place:
    """One namespace that a token's password is for."""

    token: str
    namespace: str

    def __str__(self) -> str:
        return f"{self.token} in {self.namespace}"


class Breakages:
    """Which namespaces are broken, or were until a moment ago; and how often each kind of fault has come."""

    def __init__(self, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._broken: Counter[str] = Counter()
        self._ended: dict[str, float] = {}
        self.kinds: Counter[str] = Counter()

    @contextmanager
    def broken(self, namespace: str, kind: str) -> Iterator[None]:
        """The namespace is broken while the context lasts."""
        self.kinds[kind] += 1
        self._broken[namespace] += 1
        try:
            yield
        finally:
            self._broken[namespace] -= 1
            self._ended[namespace] = self._monotonic()

    def healthy(self, namespace: str) -> bool:
        """Whether it is not broken, and has not been for long enough to have recovered."""
        since = self._monotonic() - self._ended.get(namespace, float("-inf"))
        return not self._broken[namespace] and since > RECOVERY_SECONDS


def _refused(to: To, chance: random.Random) -> Disturbance:
    return Disturbance(1, 403, to=to, message='admission webhook "guard.example" denied the request: no logins here')


def _invalid(to: To, chance: random.Random) -> Disturbance:
    return Disturbance(1, 422, to=to, message="metadata.labels: Required value: a label is missing")


def _webhook_error(to: To, chance: random.Random) -> Disturbance:
    said = 'failed calling webhook "guard.example": failed to call webhook: context deadline exceeded'
    return Disturbance(1, 500, to=to, message=f"Internal error occurred: {said}")


def _unavailable(to: To, chance: random.Random) -> Disturbance:
    return Disturbance(1, 503, to=to)


def _throttled(to: To, chance: random.Random) -> Disturbance:
    return Disturbance(1, 429, to=to, retry_after=chance.choice([1, 5, 30]))


def _hanging(to: To, chance: random.Random) -> Disturbance:
    return Disturbance(1, to=to, hangs=True)


def _cut(to: To, chance: random.Random) -> Disturbance:
    return Disturbance(1, to=to, forwarded=chance.random() < 0.5)


def _not_json(to: To, chance: random.Random) -> Disturbance:
    return Disturbance(1, 200, to=to, content=b"<html>a captive portal</html>", forwarded=chance.random() < 0.5)


def _truncated(to: To, chance: random.Random) -> Disturbance:
    return Disturbance(1, 200, to=to, forwarded=True, truncated=True)


AT_THE_PROXY: Mapping[str, Callable[[To, random.Random], Disturbance]] = {
    "refused": _refused,
    "invalid": _invalid,
    "webhook_error": _webhook_error,
    "unavailable": _unavailable,
    "throttled": _throttled,
    "hanging": _hanging,
    "cut": _cut,
    "not_json": _not_json,
    "truncated": _truncated,
}
WEBHOOK = "webhook"
"""A real one that cannot be reached, and without which nothing may be written."""
KINDS = (*AT_THE_PROXY, WEBHOOK)


@dataclass(frozen=True)
class PlaceFaults:
    """Breaks namespaces for the operators, at their proxies or at the API server."""

    api: Api
    proxies: Sequence[Proxy]
    breakages: Breakages

    @asynccontextmanager
    async def broken(
        self, namespace: str, kind: str, chance: random.Random, *, resources: Iterable[str] = RESOURCES[-1]
    ) -> AsyncIterator[None]:
        """Requests to these objects of a namespace fail while the context lasts."""
        names = tuple(resources)
        with self.breakages.broken(namespace, kind):
            if kind == WEBHOOK:
                path = f"{WEBHOOKS}/chaos-{namespace}"
                await self.api.create(WEBHOOKS, _unreachable_webhook(namespace, names))
                try:
                    yield
                finally:
                    await self.api.delete(path)
                return
            met = AT_THE_PROXY[kind](lambda request: request.concerns(namespace, names), chance)
            for proxy in self.proxies:
                proxy.disturbances = (met, *proxy.disturbances)
            try:
                yield
            finally:
                for proxy in self.proxies:
                    proxy.disturbances = tuple(one for one in proxy.disturbances if one is not met)


def _unreachable_webhook(namespace: str, resources: Sequence[str]) -> dict[str, Any]:
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": list(resources)}
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": f"chaos-{namespace}"},
        "webhooks": [
            {
                "name": "unreachable.chaos.example",
                "admissionReviewVersions": ["v1"],
                "sideEffects": "None",
                "failurePolicy": "Fail",
                "timeoutSeconds": 1,
                "clientConfig": {"url": "https://127.0.0.1:1/validate"},
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
                "rules": [rule],
            }
        ],
    }


def guests_of(number: int) -> list[str]:
    """The further namespaces of the token of that number: none, one, two or three."""
    return [GUESTS[(number + step) % len(GUESTS)] for step in range(number % 4)]
