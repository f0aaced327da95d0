"""The token server of the matrix: the real application, over a cache with one token for each set of rights."""

import asyncio
import base64
import itertools
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pullpass.credentials import hashing
from pullpass.credentials.password import derive
from pullpass.credentials.record import Record, Slot
from pullpass.signing.certificates import KeyPair, new_ca, new_leaf
from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.handler import TokenServer
from pullpass.tokenserver.http.certificate import ServedCertificate
from pullpass.tokenserver.settings import TokenServerSettings
from tests.certificates import Mount
from tests.cluster import ports
from tests.registries import ONE

ISSUER = ONE.default.issuer
SERVICE = ONE.default.service
NAMESPACE = "web"
PUBLISHER = "publisher"
"""A token with every right everywhere."""
_ALL = ("content/read", "content/write", "content/delete", "metadata/read", "metadata/write")
LOOPBACK = "127.0.0.1"
_COST = 4


@dataclass(frozen=True)
class Login:
    """What a pull secret says."""

    username: str
    password: str = field(repr=False)


class Realm:
    """Runs in a thread of its own: the clients are other processes, and the tests wait for them. Over TLS where a
    certificate is mounted."""

    def __init__(
        self, rules: Mapping[str, list[dict[str, Any]]], mount: Mount | None = None, address: str = LOOPBACK
    ) -> None:
        now = datetime.now(UTC)
        self.mount = mount
        self.ca: KeyPair = new_ca(now)
        self.address = address
        # localhost, not 127.0.0.1: crane follows no realm that is a private address.
        self.host_name = "localhost" if address == LOOPBACK else address
        self.port = ports.free()
        self.host = f"{self.host_name}:{self.port}"
        self.url = f"{'https' if mount else 'http'}://{self.host}/token"
        self._cache = AccessCache(ONE)
        self._logins: dict[str, Login] = {}
        self._records: dict[str, Record] = {}
        self._versions = itertools.count(1)
        self._loop = asyncio.new_event_loop()
        self._cache.on_secret("ADDED", _signing(new_leaf(self.ca, now), self.ca))
        self._cache.on_namespace("ADDED", {"metadata": {"name": NAMESPACE, "uid": "namespace"}})
        everything = [{"repositories": ["*"], "actions": list(_ALL)}]
        for name, granted in {**rules, PUBLISHER: everything}.items():
            self._token(name, granted, now)

    def login(self, name: str) -> Login:
        """The user name and password of the token with these rights."""
        return self._logins[name]

    def rotate(self, name: str, overlap: timedelta) -> Login:
        """Give the token its second password. The first stays valid for the overlap, from now. The same once more
        changes the overlap."""
        record, now = self._records[name], datetime.now(UTC)
        login, slot = self._password(record.token_uid, name, "bbbbbb", now)
        retiring = replace(record.slots["password1"], valid_until=now + overlap)
        rotated = replace(record, published="password2").with_slot("password1", retiring).with_slot("password2", slot)
        done = threading.Event()
        self._loop.call_soon_threadsafe(self._put, rotated)
        self._loop.call_soon_threadsafe(done.set)
        done.wait()
        return login

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer until the context ends."""
        loop = self._loop
        started = threading.Event()
        serving = self._server().serve(self.address, self.port)
        loop.run_until_complete(serving.__aenter__())
        loop.call_soon(started.set)
        thread = threading.Thread(target=loop.run_forever, name="token server")
        thread.start()
        started.wait()
        try:
            yield
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.run_until_complete(serving.__aexit__(None, None, None))
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    def _server(self) -> TokenServer:
        settings = TokenServerSettings("credentials", ONE, bcrypt_cost=_COST)
        certificate = ServedCertificate(self.mount.directory) if self.mount else None
        return TokenServer(settings, self._cache, age=lambda: 0.0, certificate=certificate)

    def _token(self, name: str, granted: list[dict[str, Any]], now: datetime) -> None:
        """A ScopeMap, a RegistryToken that refers to it, and its credential record."""
        uid = f"uid-{name}"
        login, slot = self._password(uid, name, "aaaaaa", now - timedelta(days=1))
        self._records[name] = Record(uid, NAMESPACE, name, published="password1").with_slot("password1", slot)
        self._cache.on_scope_map(
            "ADDED",
            {
                "metadata": {"name": name, "uid": f"map-{name}"},
                "spec": {"rules": granted, "allowedNamespaces": {"from": "All"}},
            },
        )
        self._cache.on_token(
            "ADDED",
            {
                "metadata": {"name": name, "namespace": NAMESPACE, "uid": uid},
                "spec": {"scopeMapRef": {"name": name}, "enabled": True},
            },
        )
        self._put(self._records[name])
        self._logins[name] = login

    def _password(self, uid: str, name: str, id_: str, created_at: datetime) -> tuple[Login, Slot]:
        nonce = f"nonce-{name}"
        password = derive(b"s" * 32, uid, nonce, id_).text
        slot = Slot(id_, nonce, "seed", hashing.hash_password(password, _COST), created_at, None, None)
        return Login(f"{NAMESPACE}.{name}", password), slot

    def _put(self, record: Record) -> None:
        secret = record.to_secret("credentials")
        secret["metadata"]["resourceVersion"] = str(next(self._versions))
        self._cache.on_secret("MODIFIED", secret)


def _signing(leaf: KeyPair, ca: KeyPair) -> dict[str, Any]:
    """The Secret with the leaf that tokens are signed with."""
    return {
        "metadata": {"name": "pullpass-signing", "labels": {"pullpass.dev/component": "signing-key"}},
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": base64.b64encode(leaf.certificate_pem + ca.certificate_pem).decode(),
            "tls.key": base64.b64encode(leaf.key_pem).decode(),
        },
    }
