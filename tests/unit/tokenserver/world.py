"""A small cluster as a token server sees it: watch events in plain dicts, and a clock that tests turn."""

import base64
from datetime import UTC, datetime, timedelta
from typing import Any

from pullpass.api.times import format_time
from pullpass.credentials import hashing
from pullpass.credentials.password import Password, derive
from pullpass.credentials.record import Record, Slot
from pullpass.signing.certificates import KeyPair, new_ca, new_leaf
from pullpass.tokenserver.cache import AccessCache
from tests.registries import TWO

START = datetime(2027, 3, 1, 12, 0, tzinfo=UTC)
CA = new_ca(START)
LEAF = new_leaf(CA, START)
SEED = b"s" * 32
COST = 4

OTHER_CA = new_ca(START)
OTHER_LEAF = new_leaf(OTHER_CA, START)


def _signing_secret(name: str, leaf: KeyPair, ca: KeyPair) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"pullpass.dev/component": "signing-key"}},
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64.b64encode(leaf.certificate_pem + ca.certificate_pem).decode(),
            "tls.key": base64.b64encode(leaf.key_pem).decode(),
        },
    }


SIGNING_SECRET = _signing_secret("pullpass-signing", LEAF, CA)
OTHER_SIGNING_SECRET = _signing_secret("pullpass-signing-other", OTHER_LEAF, OTHER_CA)


def password(uid: str = "uid-1", id_: str = "aaaaaa") -> Password:
    """The password with that id of the token with that UID."""
    return derive(SEED, uid, f"nonce-{id_}", id_)


class World:
    """Namespace `web`, ScopeMap `demo`, RegistryToken `web/reader` with one password, and of two registries the signing
    leaf of the default one."""

    def __init__(self) -> None:
        self.now = START
        self.cache = AccessCache(TWO)
        self._version = 0
        self.namespace(labels={"team": "web"})
        self.scope_map()
        self.token()
        self.record()
        self.cache.on_secret("ADDED", SIGNING_SECRET)

    def clock(self) -> datetime:
        return self.now

    def namespace(self, name: str = "web", labels: dict[str, str] | None = None) -> None:
        self.cache.on_namespace("MODIFIED", {"metadata": {"name": name, "uid": "n", "labels": labels or {}}})

    def scope_map(
        self,
        rules: list[dict[str, Any]] | None = None,
        allowed: dict[str, Any] | None = None,
        registry: str = "default",
    ) -> None:
        default = [{"repositories": ["demo/nginx", "samples/*"], "actions": ["content/read", "metadata/read"]}]
        spec = {"registry": registry, "rules": rules or default, "allowedNamespaces": allowed or {"from": "All"}}
        self.cache.on_scope_map("MODIFIED", {"metadata": {"name": "demo", "uid": "m"}, "spec": spec})

    def token(self, uid: str = "uid-1", metadata: dict[str, Any] | None = None, **spec: Any) -> None:
        body = {"scopeMapRef": {"name": "demo"}, "enabled": True} | spec
        meta = {"name": "reader", "namespace": "web", "uid": uid} | (metadata or {})
        self.cache.on_token("MODIFIED", {"metadata": meta, "spec": body})

    def record(
        self,
        uid: str = "uid-1",
        ids: tuple[str, ...] = ("aaaaaa",),
        *,
        expires_at: datetime | None = None,
        valid_until: datetime | None = None,
    ) -> None:
        """Writes the record anew: each id gets its password's hash; the ends are those of all slots."""
        self._version += 1
        record = Record(uid, "web", "reader", published="password1")
        for slot, id_ in zip(("password1", "password2"), ids, strict=False):
            hash_ = hashing.hash_password(password(uid, id_).text, COST)
            record = record.with_slot(
                "password1" if slot == "password1" else "password2",
                Slot(id_, f"nonce-{id_}", "seed", hash_, START - timedelta(days=1), expires_at, valid_until),
            )
        secret = record.to_secret("credentials")
        secret["metadata"]["resourceVersion"] = str(self._version)
        self.cache.on_secret("MODIFIED", secret)


def text(time: datetime) -> str:
    """A time as it stands in a spec."""
    return format_time(time)
