"""Notes which registries the token servers can issue access tokens for, as they say themselves.

Logins at a registry whose signing leaf they have lost are answered 503 although each password is valid: then the status
of its tokens says so.
"""

from datetime import datetime, timedelta

from pullpass.controller.cache import Cache
from pullpass.controller.outcome import Outcome
from pullpass.controller.replicas import Replicas
from pullpass.controller.settings import OperatorSettings

ASK_AGAIN = timedelta(seconds=30)
"""How long it takes at most until a lost leaf is noticed."""
DOUBT = timedelta(seconds=10)
"""So long after a leaf was missed the token servers are asked again before anybody is told: it may only be on its way,
and 20,000 statuses may be written for it."""


class Availability:
    """Asks the token servers, and keeps what they said in the cache."""

    def __init__(self, cache: Cache, settings: OperatorSettings, replicas: Replicas) -> None:
        self._cache = cache
        self._registries = settings.registries
        self._replicas = replicas
        self._missed: dict[str, datetime] = {}
        """Since when the leaf of a registry is missing."""

    async def check(self, now: datetime) -> Outcome:
        """Asks once. The tokens of registries that are told something else of now follow. Raises KubeError."""
        issuing = await self._replicas.issuing()
        if issuing is None:  # no token server answers: that is no matter of one registry
            return Outcome(due=now + ASK_AGAIN)
        changed = set()
        for name in self._registries.known:
            available = name in issuing
            if available:
                self._missed.pop(name, None)
            elif self._missed.setdefault(name, now) <= now < self._missed[name] + DOUBT:
                continue
            if self._cache.issuing.get(name) is not available:
                self._cache.issuing[name] = available
                changed.add(name)
        return Outcome(due=now + (DOUBT if self._missed else ASK_AGAIN), follow=self._cache.tokens_of(changed))
