"""The sweep: takes away what a deleted RegistryToken left behind and ownership cannot clean up.

That is its credential record, its pull secrets in other namespaces, and its entries in ServiceAccounts.
"""

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import islice

from pullpass.api import names
from pullpass.controller.cache import Cache
from pullpass.controller.places.entries import Entries
from pullpass.controller.places.pull_secret import StoredPullSecret
from pullpass.controller.places.repairs import ManagedItem, Repairs
from pullpass.controller.places.service_account import ServiceAccount
from pullpass.controller.settings import OperatorSettings
from pullpass.controller.tokens.plan import AT_ONCE
from pullpass.kube.client import Conflict, Kube, KubeError, NotFound, Refused
from pullpass.kube.resources import REGISTRY_TOKENS, SECRETS

log = logging.getLogger(__name__)

NO_SPEC = 0
"""In place of the generation of a spec: a token that is no more has none."""


def _utcnow() -> datetime:
    return datetime.now(UTC)


class Orphans:
    """Works on the UIDs of RegistryTokens that are no more."""

    def __init__(
        self,
        kube: Kube,
        mirror: Cache,
        settings: OperatorSettings,
        entries: Entries,
        *,
        now: Callable[[], datetime] = _utcnow,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._mirror = mirror
        self._settings = settings
        self._entries = entries
        self._contention = Repairs(monotonic=monotonic)
        self._now = now

    async def sweep(self, token_uid: str) -> datetime | None:
        """Removes the rests of one token; returns when to come again for what another controller has put back.

        Raises a KubeError where the API server could not be asked, or where something is in the way in one place;
        the others do not wait for it.
        """
        mirror = self._mirror
        holds = self._contention.holds(token_uid, NO_SPEC, self._now())
        stored = mirror.records.get(token_uid)
        secrets = [mirror.pull_secrets[place] for place in sorted(mirror.secrets_of.get(token_uid, ()))]
        rests: dict[ManagedItem, StoredPullSecret | ServiceAccount] = {
            ManagedItem(token_uid, secret.namespace, secret.name, removal=True): secret
            for secret in secrets
            if not secret.retained
        }
        for namespace, name in sorted(mirror.entries_of.get(token_uid, ())):
            account = mirror.service_accounts[namespace][name]
            rests[ManagedItem(token_uid, namespace, "", name, account.uid, removal=True)] = account
        again = min((holds[matter].until for matter in rests if matter in holds), default=None)
        going = {matter: rest for matter, rest in rests.items() if matter not in holds}
        if len(going) > AT_ONCE:
            going, again = dict(islice(going.items(), AT_ONCE)), self._now()
        if stored is None and not going:
            return again
        places = {secret.token for secret in secrets}
        if stored is not None and stored.record is not None:
            places.add(f"{stored.record.namespace}/{stored.record.name}")
        if token_uid in mirror.tokens_by_uid or await self._lives(token_uid, places):
            return None
        if stored is not None:
            await self._kube.delete(
                SECRETS, self._settings.credentials_namespace, names.record_name(token_uid), uid=stored.uid
            )
        trouble: KubeError | None = None
        for matter, rest in going.items():
            try:
                if await self._remove(rest, token_uid):
                    self._contention.did(matter, NO_SPEC)
            except (Conflict, Refused) as error:
                trouble = error
        log.info("swept up after deleted token %s (%s)", ", ".join(sorted(places)) or "unknown", token_uid)
        if trouble is not None:
            raise trouble
        return again

    async def _remove(self, rest: StoredPullSecret | ServiceAccount, token_uid: str) -> bool:
        if isinstance(rest, ServiceAccount):
            return await self._entries.remove(rest, token_uid)
        # In its version, too: a successor takes the object over as it is, and its owner may have made it his.
        await self._kube.delete(
            SECRETS, rest.namespace, rest.name, uid=rest.uid, resource_version=rest.resource_version
        )
        return True

    async def _lives(self, token_uid: str, places: set[str]) -> bool:
        """Asks the API server itself: the mirror may lag, and a deletion cannot be taken back."""
        for place in sorted(places):
            split = names.split_token(place)
            if split is None:
                continue
            try:
                token = await self._kube.get(REGISTRY_TOKENS, *split)
            except NotFound:
                continue
            if token["metadata"]["uid"] == token_uid:
                return True
        # 404 also means that the kind is not served at this moment; only a list tells the two apart.
        await self._kube.list_page(REGISTRY_TOKENS, limit=1)
        return False
