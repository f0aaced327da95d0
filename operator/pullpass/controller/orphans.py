"""The sweep: takes away what a deleted RegistryToken left behind and ownership cannot clean up.

That is its credential record, its pull secrets in other namespaces, and its entries in ServiceAccounts.
"""

import logging

from pullpass.api import names
from pullpass.controller import serviceaccounts
from pullpass.controller.mirror import Mirror
from pullpass.controller.settings import Settings
from pullpass.kube.client import Kube, NotFound
from pullpass.kube.resources import REGISTRY_TOKENS, SECRETS, SERVICE_ACCOUNTS

log = logging.getLogger(__name__)


class Orphans:
    """Works on the UIDs of RegistryTokens that are no more."""

    def __init__(self, kube: Kube, mirror: Mirror, settings: Settings) -> None:
        self._kube = kube
        self._mirror = mirror
        self._settings = settings

    async def sweep(self, token_uid: str) -> None:
        """Removes the rests of one token. Raises a KubeError where the API server could not be asked."""
        mirror = self._mirror
        stored = mirror.records.get(token_uid)
        secrets = [mirror.pull_secrets[place] for place in sorted(mirror.secrets_of.get(token_uid, ()))]
        going = [secret for secret in secrets if not secret.retained]
        accounts = sorted(mirror.entries_of.get(token_uid, ()))
        if stored is None and not going and not accounts:
            return
        places = {secret.token for secret in secrets}
        if stored is not None and stored.record is not None:
            places.add(f"{stored.record.namespace}/{stored.record.name}")
        if token_uid in mirror.tokens_by_uid or await self._lives(token_uid, places):
            return
        if stored is not None:
            await self._kube.delete(
                SECRETS, self._settings.credentials_namespace, names.record_name(token_uid), uid=stored.uid
            )
        for secret in going:
            await self._kube.delete(SECRETS, secret.namespace, secret.name, uid=secret.uid)
        for namespace, name in accounts:
            await self._remove_entries(namespace, name, token_uid)
        log.info("swept up after deleted token %s (%s)", ", ".join(sorted(places)) or "unknown", token_uid)

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

    async def _remove_entries(self, namespace: str, name: str, token_uid: str) -> None:
        account = self._mirror.service_accounts.get(namespace, {}).get(name)
        operations = serviceaccounts.remove_entries(account, token_uid) if account is not None else []
        if not operations:
            return
        try:
            await self._kube.json_patch(SERVICE_ACCOUNTS, namespace, name, operations)
        except NotFound:
            return
        # The mirror learns of it through the watch, which also wakes a successor that needs an entry of that name.
