"""A cluster in memory with an operator that can be restarted, and the promises that are checked at every write."""

import base64
import functools
import json
from collections.abc import Callable, Collection
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pullpass.api import names
from pullpass.controller import metrics
from pullpass.controller.cache import Cache
from pullpass.controller.dispatch import passes
from pullpass.controller.outcome import Outcome
from pullpass.controller.queue import Key
from pullpass.controller.replicas import NotConfirmedError, NotReadyError, Replicas
from pullpass.controller.settings import OperatorSettings
from pullpass.credentials import hashing
from pullpass.credentials.password import parse
from pullpass.credentials.record import Record, Slot
from pullpass.kube.client import KubeError
from pullpass.kube.events import EventSender
from pullpass.kube.resources import (
    EVENTS,
    NAMESPACES,
    REGISTRY_TOKENS,
    SCOPE_MAPS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from tests.registries import TWO
from tests.unit.controller.fake_api import Body, FakeApi, Killed

START = datetime(2027, 3, 1, 12, tzinfo=UTC)
SEED = b"seed of the test, 32 bytes long."
KEY = Key("token", "web", "reader")
SETTINGS = OperatorSettings(
    namespace="release",
    credentials_namespace="credentials",
    identity="pod-1",
    registries=TWO,
    token_server_service="tokens",
    bcrypt_cost=4,
)

checked = functools.cache(hashing.check)


class Servers(Replicas):
    """Token servers that know the record at once, and accept what it lets in."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.refusing = False
        self.busy = False
        self.issuing_for: Collection[str] | None = None
        """Registries that they have a leaf of; None for all, `nobody` where none answers."""
        self.asked: list[tuple[str, str]] = []
        """UID of the token and id of the password of every question."""

    async def confirm(self, token_uid: str, password_id: str, record_version: str, registry: str) -> None:
        self.world.api.calls += 1
        self.world.maybe_killed("before")
        self.asked.append((token_uid, password_id))
        (token,) = (body for body in self.world.api.of(REGISTRY_TOKENS) if body["metadata"]["uid"] == token_uid)
        scope_map = self.world.api.objects["scopemaps", "", token["spec"]["scopeMapRef"]["name"]]["spec"]
        assert registry == scope_map.get("registry", "default"), "it was asked about another registry"
        record = self.world.api.objects["secrets", "credentials", names.record_name(token_uid)]
        assert record_version == record["metadata"]["resourceVersion"], "it was asked about another version"
        if self.busy:
            raise NotReadyError("token server 10.0.0.1:8081 cannot be asked (HTTP 503)")
        if self.refusing or not self.world.lets_in_id(token_uid, password_id):
            raise NotConfirmedError("token server 10.0.0.1:8081 would refuse the new password (no such password)")
        self.world.maybe_killed("after")

    async def issuing(self) -> frozenset[str] | None:
        if self.issuing_for == "nobody":
            return None
        return frozenset(TWO.known if self.issuing_for is None else self.issuing_for)


class Cluster:
    """Namespaces `web` and `staging` (which consents), ScopeMap `demo`, and what people add."""

    def __init__(self) -> None:
        self.now = START
        self.api = FakeApi()
        self.texts: set[str] = set()
        """Every secret text that has ever existed."""
        self.dead: set[str] = set()
        """Passwords that people gave up, wherever they may stand."""
        self.nonces: list[str] = []
        """Nonces of all passwords that were made, in order."""
        self.uids: dict[tuple[str, str], set[str]] = {}
        """UIDs that each pull secret has had."""
        self.errors: list[str] = []
        for name, accepts in (("web", ""), ("staging", "other, web"), ("credentials", ""), ("release", "")):
            self.namespace(name, accepts)
        self.scope_map()
        for namespace in ("web", "staging"):
            self.account(namespace, "default")

    # what people write

    def namespace(self, name: str, accepts: str = "", labels: dict[str, str] | None = None) -> None:
        annotations = {names.ACCEPT_ANNOTATION: accepts} if accepts else {}
        self.api.put(NAMESPACES, {"metadata": {"name": name, "labels": labels or {}, "annotations": annotations}})

    def scope_map(
        self, allowed: dict[str, Any] | None = None, *, name: str = "demo", registry: str | None = None
    ) -> None:
        spec: Body = {
            "rules": [{"repositories": ["demo/nginx"], "actions": ["content/read"]}],
            "allowedNamespaces": allowed or {"from": "All"},
        }
        if registry is not None:
            spec["registry"] = registry
        self.api.put(SCOPE_MAPS, {"metadata": {"name": name}, "spec": spec})

    def account(self, namespace: str, name: str, *secrets: str) -> None:
        body: Body = {"metadata": {"namespace": namespace, "name": name}}
        if secrets:
            body["imagePullSecrets"] = [{"name": secret} for secret in secrets]
        self.api.put(SERVICE_ACCOUNTS, body)

    def token(self, namespace: str = "web", name: str = "reader", **spec: Any) -> str:
        """Creates or changes a token; returns its UID."""
        body = {"metadata": {"namespace": namespace, "name": name}, "spec": {"scopeMapRef": {"name": "demo"}} | spec}
        return str(self.api.put(REGISTRY_TOKENS, body)["metadata"]["uid"])

    # what is so

    def uid(self, namespace: str = "web", name: str = "reader") -> str:
        return str(self.api.objects["registrytokens", namespace, name]["metadata"]["uid"])

    def record_of(self, uid: str) -> Record:
        return Record.from_secret(self.api.objects["secrets", "credentials", names.record_name(uid)])

    def lets_in(self, uid: str, text: str) -> bool:
        """Whether a token server lets the password in by the record, and by what the token revokes, as they are now."""
        password = parse(text)
        assert password is not None
        slots = [slot for slot in self.record_of(uid).slots.values() if slot.id == password.id]
        return self.lets_in_id(uid, password.id) and any(checked(text, slot.hash) for slot in slots)

    def lets_in_id(self, uid: str, password_id: str) -> bool:
        """Whether it lets in the password with that id."""
        slots = [slot for slot in self.record_of(uid).slots.values() if slot.id == password_id]
        return any(slot.valid_at(self.now) for slot in slots) and password_id not in self.revoked(uid)

    def revoked(self, uid: str) -> list[str]:
        """Ids of the passwords that the token of that UID revokes."""
        for token in self.api.of(REGISTRY_TOKENS):
            if token["metadata"]["uid"] == uid:
                return list((token["spec"].get("passwords") or {}).get("revoked", ()))
        return []

    def slot(self, uid: str, name: Any) -> Slot:
        return self.record_of(uid).slots[name]

    def pull_secrets(self) -> dict[tuple[str, str], Body]:
        return {
            (body["metadata"]["namespace"], body["metadata"]["name"]): body
            for body in self.api.of(SECRETS)
            if body.get("type") == names.PULL_SECRET_TYPE
            and (body["metadata"].get("labels") or {}).get(names.COMPONENT_LABEL) == names.PULL_SECRET
        }

    def passwords(self) -> dict[tuple[str, str], str]:
        """What stands in the pull secrets."""
        return {place: password_in(body) for place, body in self.pull_secrets().items()}

    def entries(self, namespace: str = "web", name: str = "default") -> list[str]:
        account = self.api.objects["serviceaccounts", namespace, name]
        return [entry["name"] for entry in account.get("imagePullSecrets", [])]

    def status(self, namespace: str = "web", name: str = "reader") -> Body:
        status: Body = self.api.objects["registrytokens", namespace, name].get("status", {})
        return status

    def condition(self, type_: str = "Ready") -> tuple[str, str]:
        found = [c for c in self.status().get("conditions", []) if c["type"] == type_]
        return (found[0]["status"], found[0]["reason"]) if found else ("", "")

    def events(self) -> list[str]:
        return [body["reason"] for body in self.api.of(EVENTS)]

    def told(self) -> str:
        """All that people and other programs can read without being allowed to read Secrets."""
        public = [body for (plural, _, _), body in self.api.objects.items() if plural != "secrets"]
        bare = [body["metadata"] for body in self.api.of(SECRETS)]
        watched = [body for _, plural, body in self.api.watched if plural != "secrets"]
        return json.dumps([public, bare, watched]) + "".join(self.errors)

    def assert_secret(self, log: str) -> None:
        """Promise 3: none of the secret texts stands in the log or in anything told."""
        assert self.texts
        told = log + self.told()
        seeds = {SEED.hex(), base64.b64encode(SEED).decode(), repr(SEED)}
        leaks = [text for text in self.texts | seeds if text in told]
        assert not leaks, f"{len(leaks)} secret texts were told"


class World(Cluster):
    """A cluster and one operator, whose passes a test calls one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.api.after_write = self.holds
        self.servers = Servers(self)
        self.seed = SEED
        self.woken: list[Key] = []
        self.restart()

    # the operator

    def restart(self) -> None:
        """A new process: all it knows is what the API server lists."""
        self.cache = Cache()
        self.delivered = len(self.api.watched)
        self.failing: set[Key] = set()
        """Keys whose last pass is to be tried again."""
        self.dues: dict[Key, datetime] = {}
        for (plural, _, _), body in self.api.objects.items():
            self._observe(None, plural, body)
        self.lead(self.cache)

    def lead(self, cache: Cache) -> None:
        """Passes are made by an operator that knows what this cache has."""
        self.sender = EventSender(self.api, SETTINGS.identity, metrics.EVENTS_LOST.inc, now=self.clock)
        self.passes = passes(
            self.api,
            cache,
            SETTINGS,
            self.seed,
            self.servers,
            self.woken.append,
            self.sender,
            now=self.clock,
            monotonic=self.seconds,
        )
        self.led = cache

    def clock(self) -> datetime:
        """The wall clock."""
        return self.now

    def seconds(self) -> float:
        """A clock that nobody sets; here it is no other."""
        return self.now.timestamp()

    def deliver(self) -> set[Key]:
        """The watches tell what they have not told yet; returns the keys that are queued for it."""
        keys: set[Key] = set()
        for type_, plural, body in self.api.watched[self.delivered :]:
            keys |= self._observe(type_, plural, body)
        self.delivered = len(self.api.watched)
        return keys

    def _observe(self, type_: str | None, plural: str, body: Body) -> set[Key]:
        observers: dict[str, Callable[[str | None, Body], set[Key]]] = {
            "registrytokens": self.cache.observe_token,
            "scopemaps": self.cache.observe_scope_map,
            "namespaces": self.cache.observe_namespace,
            "serviceaccounts": self.cache.observe_service_account,
            "secrets": lambda t, b: self.cache.observe_secret(t, b, SETTINGS.credentials_namespace),
        }
        managed = (body["metadata"].get("labels") or {}).get(names.MANAGED_BY_LABEL) == names.MANAGED_BY
        if plural not in observers or (plural == "secrets" and not managed):
            return set()
        return observers[plural](type_, body)

    async def one(self, key: Key) -> Outcome:
        """One pass over one key, as the queue has it made."""
        self.dues.pop(key, None)
        self.failing.discard(key)
        try:
            outcome = await self.passes[key.kind](key)
        except KubeError as error:
            self.errors.append(f"{error!r} {error}")
            outcome = Outcome(retry=str(error))
        await self.sender.drain()
        if outcome.due is not None:
            self.dues[key] = outcome.due
        if outcome.retry is not None:
            self.errors.append(outcome.retry)
            self.failing.add(key)
        self.woken += sorted(outcome.follow)
        return outcome

    async def work(
        self, key: Key = KEY, *, watch: bool = True, rounds: int = 20, news: Collection[Key] = ()
    ) -> Outcome:
        """Works on a key as the queue does, on `news`, on what is due, and on all keys that follow, until nothing is
        left to do. What fails is tried again, `rounds` times in all; the watch may lag all the while.

        Returns what came of the key itself in the end; its due time is the first of all keys.
        """
        outcome = Outcome()
        for _ in range(rounds):
            keys = {key, *news, *self.failing, *(key for key, due in self.dues.items() if due <= self.now)}
            self.failing.clear()
            self.woken.clear()
            for _ in range(50):
                if watch:
                    keys |= self.deliver()
                keys |= set(self.woken)
                keys -= self.failing
                self.woken.clear()
                if not keys:
                    break
                first = sorted(keys)[0] if key not in keys else key
                keys.discard(first)
                found = await self.one(first)
                if first == key:
                    outcome = found
            else:
                raise AssertionError(f"it does not come to rest: {keys}")
            if not self.failing:
                break
        retries = [self.errors[-1]] if self.failing else []
        due = min(self.dues.values(), default=None)
        return replace(outcome, due=due, retry=outcome.retry or (retries[0] if retries else None))

    def place(self, namespace: str = "web", token_namespace: str = "web", name: str = "reader") -> Key:
        """The key of a place of a token."""
        return Key("place", namespace, self.uid(token_namespace, name))

    async def sweep(self, uid: str) -> datetime | None:
        """Works on the cleanup after a token, and on its places; returns when to come again."""
        return (await self.work(Key("cleanup", name=uid))).due

    def maybe_killed(self, when: str) -> None:
        if self.api.fault is not None and self.api.fault[:2] == (self.api.calls, when):
            raise self.api.fault[2]

    # what always holds

    def holds(self) -> None:
        """Promise 1, and the collection of all that must not be told."""
        for body in self.api.of(SECRETS):
            if body.get("type") != "pullpass.dev/credential-record":
                continue
            for slot in Record.from_secret(body).slots.values():
                self.texts |= {slot.hash, slot.nonce}
                if slot.nonce not in self.nonces:
                    self.nonces.append(slot.nonce)
        for place, body in self.pull_secrets().items():
            self.uids.setdefault(place, set()).add(body["metadata"]["uid"])
            text = password_in(body)
            self.texts |= {text, text[15:47], base64.b64encode(text.encode()).decode().rstrip("=")}
            self.texts |= {entry["auth"] for entry in auths_in(body).values()}
            uid = body["metadata"]["labels"][names.TOKEN_UID_LABEL]
            if uid not in {token["metadata"]["uid"] for token in self.api.of(REGISTRY_TOKENS)}:
                continue
            assert self.lets_in(uid, text) or text in self.dead, f"what stands in {place} is not accepted"

    def told(self) -> str:
        return super().told() + repr(vars(self.cache))


def auths_in(secret: Body) -> dict[str, Body]:
    """What stands in a pull secret, by host."""
    auths: dict[str, Body] = json.loads(base64.b64decode(secret["data"][names.PULL_SECRET_KEY]))["auths"]
    return auths


def password_in(secret: Body) -> str:
    """The password in a pull secret, the same in every form it has there."""
    (entry,) = {json.dumps(entry, sort_keys=True) for entry in auths_in(secret).values()}
    content = json.loads(entry)
    assert base64.b64decode(content["auth"]).decode() == f"{content['username']}:{content['password']}"
    return str(content["password"])


def hours(count: float) -> timedelta:
    return timedelta(hours=count)


__all__ = ["KEY", "SEED", "SETTINGS", "START", "Killed", "World", "auths_in", "hours", "password_in"]
