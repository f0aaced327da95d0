"""Our entries in the imagePullSecrets of ServiceAccounts. Pure: what is there, and the patch that changes it.

The list is atomic, so it is changed by a JSON patch that holds for one resourceVersion only, never by apply. An
annotation says which entries are ours; all others are kept as they are, in their order.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pullpass.api import names

MAX_OWN_ENTRIES = 256
"""How many entries of one ServiceAccount can be ours. Each one that is read may lead to a cleanup of its own."""
_UID = re.compile(r"[A-Za-z0-9-]{1,63}")


@dataclass(frozen=True)
class ServiceAccount:
    """What matters of a ServiceAccount."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    pull_secrets: tuple[str, ...]
    """Names in its imagePullSecrets."""
    ours: Mapping[str, str]
    """Which of them we added: Secret name to token UID."""
    annotated: bool
    """Whether it has any annotation."""

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> "ServiceAccount":
        """From the API object."""
        metadata = body["metadata"]
        annotations = metadata.get("annotations") or {}
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            pull_secrets=tuple(str(e.get("name", "")) for e in body.get("imagePullSecrets") or []),
            ours=_parse(annotations.get(names.ENTRIES_ANNOTATION, "")),
            annotated=bool(annotations),
        )


def _parse(text: str) -> dict[str, str]:
    # Whoever may write ServiceAccounts can write this, and the UID ends up in log lines.
    pairs = (entry.partition("=") for entry in text.split(","))
    ours = ((secret, uid) for secret, _, uid in pairs if secret and _UID.fullmatch(uid))
    return dict(islice(ours, MAX_OWN_ENTRIES))


def add_entry(account: ServiceAccount, secret: str, token_uid: str) -> list[dict[str, Any]]:
    """JSON patch operations that put the entry in; none where it stands there already, ours or not."""
    if secret in account.pull_secrets:
        return []
    entry: dict[str, Any]
    if account.pull_secrets:
        entry = {"op": "add", "path": "/imagePullSecrets/-", "value": {"name": secret}}
    else:
        entry = {"op": "add", "path": "/imagePullSecrets", "value": [{"name": secret}]}
    return [_test(account), entry, *_mark(account, {**account.ours, secret: token_uid})]


def remove_entries(account: ServiceAccount, token_uid: str, keep: str | None = None) -> list[dict[str, Any]]:
    """JSON patch operations that take out what we added for a token, apart from the entry `keep`."""
    going = {secret for secret, uid in account.ours.items() if uid == token_uid and secret != keep}
    if not going:
        return []
    entries: list[dict[str, Any]] = [
        {"op": "remove", "path": f"/imagePullSecrets/{index}"}
        for index, secret in reversed(list(enumerate(account.pull_secrets)))
        if secret in going
    ]
    rest = {secret: uid for secret, uid in account.ours.items() if secret not in going}
    return [_test(account), *entries, *_mark(account, rest)]


def _test(account: ServiceAccount) -> dict[str, Any]:
    return {"op": "test", "path": "/metadata/resourceVersion", "value": account.resource_version}


def _mark(account: ServiceAccount, ours: Mapping[str, str]) -> list[dict[str, Any]]:
    path = "/metadata/annotations/" + names.ENTRIES_ANNOTATION.replace("/", "~1")
    if not ours:
        return [{"op": "remove", "path": path}]
    text = ",".join(f"{secret}={uid}" for secret, uid in sorted(ours.items()))
    if not account.annotated:
        return [{"op": "add", "path": "/metadata/annotations", "value": {names.ENTRIES_ANNOTATION: text}}]
    return [{"op": "add", "path": path, "value": text}]
