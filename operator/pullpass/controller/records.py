"""Credential records as the operator writes them: each write, and each publication, is for the record that was decided
upon. Whoever is late, a former leader for example, changes nothing.
"""

from collections.abc import Callable

from pullpass.api import names
from pullpass.controller.cache import Cache
from pullpass.controller.facts import Facts
from pullpass.controller.queue import Key
from pullpass.credentials.record import Record
from pullpass.kube.client import Conflict, Kube, NotFound
from pullpass.kube.resources import SECRETS


class Records:
    """Reads and writes records. `wake` takes keys that an answer concerns and the watch brings no news of."""

    def __init__(self, kube: Kube, cache: Cache, credentials_namespace: str, wake: Callable[[Key], None]) -> None:
        self._kube = kube
        self._cache = cache
        self._namespace = credentials_namespace
        self._wake = wake

    async def write(self, facts: Facts, record: Record) -> None:
        """Puts a record in the place of the one in the facts. Raises Conflict where there is another by now, or a
        KubeError."""
        self._assert_unchanged(facts)
        body = record.to_secret(self._namespace)
        name = body["metadata"]["name"]
        stored = self._cache.records.get(record.token_uid)
        try:
            if stored is None:
                answer = await self._kube.create(SECRETS, self._namespace, body)
            else:
                body["metadata"] |= {"uid": stored.uid, "resourceVersion": stored.resource_version}
                answer = await self._kube.replace(SECRETS, self._namespace, name, body)
        except (Conflict, NotFound):
            await self._refresh(record.token_uid)
            raise
        # Where the token was deleted meanwhile, its cleanup has to hear of the record.
        for key in self._cache.observe_secret("MODIFIED", answer, self._namespace):
            if key != facts.token.key:
                self._wake(key)

    async def confirm_unchanged(self, facts: Facts) -> str:
        """Reads the record again, and returns its resourceVersion. Raises Conflict where it is not that of the facts,
        or a KubeError."""
        await self._refresh(facts.token.uid)
        self._assert_unchanged(facts)
        stored = self._cache.records.get(facts.token.uid)
        return stored.resource_version if stored is not None else ""

    async def delete(self, token_uid: str) -> None:
        """Deletes the record of a token that is gone. Raises a KubeError."""
        stored = self._cache.records.get(token_uid)
        if stored is not None:
            await self._kube.delete(SECRETS, self._namespace, names.record_name(token_uid), uid=stored.uid)

    async def _refresh(self, token_uid: str) -> None:
        try:
            body = await self._kube.get(SECRETS, self._namespace, names.record_name(token_uid))
        except NotFound:
            self._cache.records.pop(token_uid, None)
            return
        self._cache.observe_secret("MODIFIED", body, self._namespace)

    def _assert_unchanged(self, facts: Facts) -> None:
        token, stored = facts.token, self._cache.records.get(facts.token.uid)
        known = stored.record if stored is not None and stored.record is not None else None
        if (known or Record(token.uid, token.namespace, token.name)) != facts.record:
            raise Conflict(f"the credential record of {token.namespace}/{token.name} changed meanwhile", 409)
