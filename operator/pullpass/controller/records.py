"""Credential records as the operator writes them: each write, and each publication, is for the record that was decided
upon. Whoever is late, a former leader for example, changes nothing.
"""

from collections.abc import Callable

from pullpass.api import names
from pullpass.controller.cache import Cache
from pullpass.controller.facts import Facts
from pullpass.controller.queue import Key
from pullpass.credentials.record import Record
from pullpass.kube.client import Conflict, Kube, NotFound, Object, Refused, not_stored
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
        self._assert_stored(body, answer)
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
        """Raises Refused where another Secret has the record's name."""
        try:
            body = await self._kube.get(SECRETS, self._namespace, names.record_name(token_uid))
        except NotFound:
            self._cache.records.pop(token_uid, None)
            return
        if (body["metadata"].get("labels") or {}).get(names.TOKEN_UID_LABEL) != token_uid:
            body = await self._label_again(token_uid, body)
        self._cache.observe_secret("MODIFIED", body, self._namespace)

    async def _label_again(self, token_uid: str, body: Object) -> Object:
        """Labels a record that has lost its labels: neither a watch of ours nor one of a token server brings it."""
        metadata = body["metadata"]
        try:
            record = Record.from_secret(body)
        except ValueError:
            record = None
        wanted = record.to_secret(self._namespace) if record is not None else {}
        # The type of a Secret cannot be changed: one of another type was never a record.
        if record is None or record.token_uid != token_uid or body.get("type") != wanted["type"]:
            raise Refused(
                f"Secret {self._namespace}/{metadata['name']} is in the way: it is no credential record of this token; "
                "delete it",
                409,
            )
        wanted["metadata"] |= {key: metadata[key] for key in ("uid", "resourceVersion")}
        answer = await self._kube.replace(SECRETS, self._namespace, metadata["name"], wanted)
        self._assert_stored(wanted, answer)
        return answer

    def _assert_stored(self, written: Object, answer: Object) -> None:
        lost = not_stored(written, answer)
        if lost:
            raise Refused(
                f"the API server stored Secret {self._namespace}/{written['metadata']['name']} without "
                f"{', '.join(lost)}; look for the policy or webhook that takes them away in that namespace",
                422,
            )

    def _assert_unchanged(self, facts: Facts) -> None:
        token, stored = facts.token, self._cache.records.get(facts.token.uid)
        known = stored.record if stored is not None and stored.record is not None else None
        if (known or Record(token.uid, token.namespace, token.name)) != facts.record:
            raise Conflict(f"the credential record of {token.namespace}/{token.name} changed meanwhile", 409)
