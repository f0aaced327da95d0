"""The pull secret: what stands in it, whose it is, and how one that is there is told from the one wanted. Pure."""

import base64
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pullpass.api import names
from pullpass.credentials.password import Password


@dataclass(frozen=True)
class StoredPullSecret:
    """What matters of a Secret that carries our labels; the password is kept only as a digest of the content."""

    namespace: str
    name: str
    uid: str
    resource_version: str
    token_uid: str
    token: str
    """`<namespace>/<name>` of the RegistryToken it was made for; empty where the annotation does not have that form."""
    owners: tuple[str, ...]
    """UIDs of its owner references."""
    retained: bool
    """Whether it stays when the RegistryToken is deleted."""
    digest: str
    """SHA-256 of the content."""
    hosts: str
    """SHA-256 of the hosts that it is for, see `hosts_digest`; empty where none can be read."""

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> "StoredPullSecret | None":
        """From the API object; None for a Secret that is not a pull secret of ours.

        The type of a Secret cannot be changed: one of another type was never ours, whatever its labels say.
        """
        metadata = body["metadata"]
        labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
        if (
            body.get("type") != names.PULL_SECRET_TYPE
            or labels.get(names.MANAGED_BY_LABEL) != names.MANAGED_BY
            or labels.get(names.COMPONENT_LABEL) != names.PULL_SECRET
            or names.TOKEN_UID_LABEL not in labels
        ):
            return None
        token = annotations.get(names.TOKEN_ANNOTATION, "")
        text = (body.get("data") or {}).get(names.PULL_SECRET_KEY, "")
        return cls(
            namespace=metadata["namespace"],
            name=metadata["name"],
            uid=metadata["uid"],
            resource_version=metadata["resourceVersion"],
            token_uid=labels[names.TOKEN_UID_LABEL],
            token=token if names.split_token(token) else "",
            owners=tuple(o["uid"] for o in metadata.get("ownerReferences") or []),
            retained=annotations.get(names.DELETION_POLICY_ANNOTATION) == "Retain",
            digest=digest(text),
            hosts=_hosts(text),
        )


@dataclass(frozen=True)
class Wanted:
    """Where a pull secret is wanted, and for which token."""

    namespace: str
    name: str
    token_namespace: str
    token_name: str
    token_uid: str
    retain: bool

    @property
    def username(self) -> str:
        """What stands in it beside the password."""
        return names.username(self.token_namespace, self.token_name)

    @property
    def owners(self) -> tuple[str, ...]:
        """An owner reference works within one namespace only."""
        own = self.namespace == self.token_namespace and not self.retain
        return (self.token_uid,) if own else ()

    def owns(self, secret: StoredPullSecret) -> bool:
        """Whether the Secret was made for this token, or for an earlier one of the same name."""
        return secret.token == f"{self.token_namespace}/{self.token_name}"

    def matches(self, secret: StoredPullSecret, content_digest: str) -> bool:
        """Whether the Secret is as it should be. Owners that others have added are theirs, and apply leaves them."""
        return (
            secret.token_uid == self.token_uid
            and bool(secret.token)
            and secret.digest == content_digest
            and secret.retained == self.retain
            and (self.token_uid in secret.owners) == bool(self.owners)
        )

    def body(self, content: str) -> dict[str, Any]:
        """The Secret to apply. `content` is the base64 text of the docker config."""
        metadata: dict[str, Any] = {
            "name": self.name,
            "namespace": self.namespace,
            "labels": {
                names.MANAGED_BY_LABEL: names.MANAGED_BY,
                names.COMPONENT_LABEL: names.PULL_SECRET,
                names.TOKEN_UID_LABEL: self.token_uid,
            },
            "annotations": {
                names.TOKEN_ANNOTATION: f"{self.token_namespace}/{self.token_name}",
                names.DELETION_POLICY_ANNOTATION: "Retain" if self.retain else "Delete",
            },
        }
        if self.owners:
            metadata["ownerReferences"] = [
                {
                    "apiVersion": names.API_VERSION,
                    "kind": "RegistryToken",
                    "name": self.token_name,
                    "uid": self.token_uid,
                }
            ]
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": names.PULL_SECRET_TYPE,
            "metadata": metadata,
            "data": {names.PULL_SECRET_KEY: content},
        }


def content(hosts: Sequence[str], username: str, password: Password) -> str:
    """The docker config of a pull secret, base64 as in Secret data; the same input gives the same text."""
    auth = base64.b64encode(f"{username}:{password.text}".encode()).decode()
    entry = {"auth": auth, "password": password.text, "username": username}
    text = json.dumps({"auths": dict.fromkeys(hosts, entry)}, sort_keys=True)
    return base64.b64encode(text.encode()).decode()


def holds(body: Mapping[str, Any], username: str, texts: Collection[str]) -> bool:
    """Whether a Secret is a docker config with that user name and one of those passwords, and nothing else."""
    if body.get("type") != names.PULL_SECRET_TYPE:
        return False
    try:
        entries = json.loads(base64.b64decode(body["data"][names.PULL_SECRET_KEY]))["auths"].values()
        found = {(entry["username"], entry["password"]) for entry in entries}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return False
    return len(found) == 1 and found <= {(username, text) for text in texts}


def digest(content_text: str) -> str:
    """SHA-256 of a pull secret's content."""
    return hashlib.sha256(content_text.encode()).hexdigest()


def hosts_digest(hosts: Iterable[str]) -> str:
    """SHA-256 of the hosts of a pull secret, in whichever order: whoever may write one may write a million there."""
    return hashlib.sha256("\n".join(sorted(hosts)).encode()).hexdigest()


def _hosts(content_text: str) -> str:
    try:
        hosts = json.loads(base64.b64decode(content_text))["auths"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    return hosts_digest(hosts) if isinstance(hosts, dict) else ""
