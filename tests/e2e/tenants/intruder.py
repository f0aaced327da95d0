"""A tenant with `admin` on one namespace, and what he must not harm."""

import hashlib
import json
from typing import Any

from tests.cluster.install import CREDENTIALS_NAMESPACE, NAMESPACE, Release
from tests.e2e.tenant import Tenant, condition
from tests.e2e.waiting import until

MANAGED = {"app.kubernetes.io/managed-by": "pullpass"}
COMPONENT, TOKEN_UID = "pullpass.dev/component", "pullpass.dev/token-uid"
TOKEN, ENTRIES = "pullpass.dev/token", "pullpass.dev/image-pull-secrets"
ACCEPT = "pullpass.dev/accept-pull-secrets-from"
SCOPE = "repository:team/app:pull,push"


class Intruder(Tenant):
    """A tenant who acts as a user with one role in his own namespace, and with nothing else."""

    def __init__(self, release: Release, namespace: str) -> None:
        super().__init__(release, namespace)
        self.user = f"user-of-{namespace}"
        self._platform = Tenant(release, namespace)

    def create(self, role: str = "admin") -> None:
        self._platform.create()
        bind = ("create", "rolebinding", "people", f"--clusterrole={role}", f"--user={self.user}")
        self._platform.kubectl(*bind)
        may = ("auth", "can-i", "create", "registrytokens.pullpass.dev")
        until(lambda: self.kubectl(*may, check=False).returncode == 0, "the role is in force")

    def delete(self, *, wait: bool = False) -> None:
        self._platform.delete(wait=wait)

    def kubectl(self, *arguments: str, input: str | None = None, check: bool = True) -> Any:
        return super().kubectl(f"--as={self.user}", *arguments, input=input, check=check)

    def platform_map(self, name: str, **allowed: Any) -> None:
        """A scope map, which only the platform can write."""
        self._platform.scope_map(name, ["own/app"], **allowed)


def belongings(victim: Tenant) -> dict[str, str]:
    """Objects of the victim and the platform with UID and version, and a digest of what is in them."""
    found = {}
    for namespace in (victim.namespace, f"{victim.namespace}-guest", NAMESPACE, "kube-system", "default"):
        kinds = "secrets,serviceaccounts,registrytokens"
        get = victim.release.cluster.kubectl("get", kinds, "-n", namespace, "-o", "json")
        for item in json.loads(get.stdout)["items"]:
            meta = item["metadata"]
            content = hashlib.sha256(json.dumps(item, sort_keys=True).encode()).hexdigest()
            found[f"{item['kind']} {namespace}/{meta['name']}"] = f"{meta['uid']} {meta['resourceVersion']} {content}"
    record = f"rt-{mine(victim, 'reader')}"
    for name in (record, "pullpass-signing"):
        secret = json.loads(
            victim.release.cluster.kubectl("get", "secret", name, "-n", CREDENTIALS_NAMESPACE, "-o", "json").stdout
        )
        found[name] = f"{secret['metadata']['uid']} {secret['metadata']['resourceVersion']}"
    return found


def says(tenant: Tenant, token: str, reason: str, *words: str) -> None:
    """Wait until the token is not ready for this reason, and its message has these words."""

    def message() -> str:
        ready = condition(tenant.find("registrytoken", token), "Ready")
        return str(ready["message"]) if ready.get("reason") == reason else ""

    text = until(message, f"{token} is {reason}")
    for word in words:
        assert word in text


def mine(intruder: Tenant, name: str = "mine") -> str:
    """UID of his token."""
    return str(intruder.find("registrytoken", name)["metadata"]["uid"])


def filled(text: str, words: dict[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text
