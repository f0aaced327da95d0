"""Cleans up after RegistryTokens that are gone: deletes the credential record, and has the places follow.

What is left in a place, pull secrets of other namespaces and entries in ServiceAccounts, is taken away by a pass of
that place, once the API server itself has said here that there is no such token.
"""

import logging
from collections.abc import Callable

from pullpass.api import names
from pullpass.controller.cache import Cache
from pullpass.controller.outcome import Outcome
from pullpass.controller.places.plan import leftovers, plan_leftovers
from pullpass.controller.queue import Key
from pullpass.controller.records import Records
from pullpass.kube.client import Kube, KubeError, NotFound
from pullpass.kube.resources import REGISTRY_TOKENS

log = logging.getLogger(__name__)


class Cleanup:
    """Works on the UIDs of RegistryTokens that are gone. `forget` drops what is remembered of one."""

    def __init__(self, kube: Kube, cache: Cache, records: Records, forget: Callable[[str], None]) -> None:
        self._kube = kube
        self._cache = cache
        self._records = records
        self._forget = forget

    async def reconcile(self, key: Key) -> Outcome:
        """One pass over what one token has left. Raises a KubeError where the API server could not be asked."""
        token_uid, cache = key.name, self._cache
        if token_uid in cache.tokens_by_uid:
            return Outcome()
        self._forget(token_uid)
        namespaces = sorted(cache.namespaces_with(token_uid))
        left = [ns for ns in namespaces if plan_leftovers(leftovers(cache, ns, token_uid), {}).actions]
        stored = cache.records.get(token_uid)
        if stored is None and not left:
            cache.gone.discard(token_uid)
            return Outcome()
        tokens = self._named(token_uid, namespaces)
        if await self._lives(token_uid, tokens):
            return Outcome()
        cache.gone.add(token_uid)
        log.info("cleaning up after deleted token %s (%s)", ", ".join(sorted(tokens)) or "unknown", token_uid)
        follow = frozenset(Key("place", namespace, token_uid) for namespace in left)
        try:
            await self._records.delete(token_uid)
        except KubeError as error:
            # The places go on without it: the key comes again for the record alone.
            return Outcome(retry=f"the credential record is not deleted: {error}", follow=follow)
        return Outcome(follow=follow)

    def _named(self, token_uid: str, namespaces: list[str]) -> set[str]:
        """Which tokens, as `<namespace>/<name>`, what is left says that it is of."""
        cache = self._cache
        tokens = {s.token for ns in namespaces for s in leftovers(cache, ns, token_uid).secrets}
        stored = cache.records.get(token_uid)
        if stored is not None and stored.record is not None:
            tokens.add(f"{stored.record.namespace}/{stored.record.name}")
        return tokens

    async def _lives(self, token_uid: str, tokens: set[str]) -> bool:
        """Asks the API server itself: the cache may lag, and a deletion cannot be taken back."""
        for token in sorted(tokens):
            split = names.split_token(token)
            if split is None:
                continue
            try:
                found = await self._kube.get(REGISTRY_TOKENS, *split)
            except NotFound:
                continue
            if found["metadata"]["uid"] == token_uid:
                return True
        # 404 also means that the kind is not served at this moment; only a list tells the two apart.
        await self._kube.list_page(REGISTRY_TOKENS, limit=1)
        return False
