"""What the operator knows of the cluster, from watch events and from the answers to its own writes.

Each `observe_…` takes one API object and returns the keys that may have something to do because of it. An object
that is older than what is known is ignored, so events may come late, twice and out of order: the answer to a write
may arrive after the watch has told of a later change, or of the deletion.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pullpass.api import names
from pullpass.controller.document import Document
from pullpass.controller.places.pull_secret import StoredPullSecret
from pullpass.controller.places.service_account import ServiceAccount
from pullpass.controller.queue import Key
from pullpass.credentials.record import Record, Requests

K = TypeVar("K")
V = TypeVar("V")
Body = Mapping[str, Any]
DELETED = "DELETED"
REMEMBERED_DELETIONS = 10_000
"""How many deletions are remembered, against news of the deleted object that come late."""


@dataclass(frozen=True)
class StoredToken:
    """What matters of a RegistryToken; spec and status as the API gave them."""

    namespace: str
    name: str
    uid: str
    generation: int
    resource_version: str
    spec: Document
    status: Document
    deleting: bool
    pull_secret_name: str
    """Name of its pull secret, in every namespace."""
    targets: tuple[str, ...]
    """The namespaces that get it: its own, then the further ones it names."""
    requests: Requests = field(default_factory=Requests)
    """What its annotations ask for."""
    finalizers: tuple[str, ...] = ()
    """Those that keep it while it is being deleted."""

    @classmethod
    def read(cls, body: Body) -> "StoredToken":
        """From the API object."""
        metadata, spec = body["metadata"], body.get("spec") or {}
        namespace, name = metadata["namespace"], metadata["name"]
        pull_secret = spec.get("pullSecret") or {}
        return cls(
            namespace=namespace,
            name=name,
            uid=metadata["uid"],
            generation=int(metadata.get("generation", 0)),
            resource_version=metadata["resourceVersion"],
            spec=Document.of(spec),
            status=Document.of(body.get("status") or {}),
            deleting="deletionTimestamp" in metadata,
            pull_secret_name=names.pull_secret(name, pull_secret.get("name")),
            targets=tuple(dict.fromkeys((namespace, *(pull_secret.get("namespaces") or ())))),
            requests=Requests.read(metadata.get("annotations") or {}),
            finalizers=tuple(metadata.get("finalizers") or ()) if "deletionTimestamp" in metadata else (),
        )

    @property
    def key(self) -> Key:
        """Its key in the work queue."""
        return Key("token", self.namespace, self.name)


@dataclass(frozen=True)
class Namespace:
    """What matters of a Namespace."""

    labels: Mapping[str, str]
    accepts: frozenset[str]
    """Namespaces whose tokens may put a pull secret here."""
    terminating: bool
    resource_version: str
    uid: str


@dataclass(frozen=True)
class StoredRecord:
    """A credential record and the version it was read at; `record` is None where it cannot be read."""

    record: Record | None
    namespace: str
    uid: str
    resource_version: str


@dataclass(frozen=True)
class StoredMap:
    """A ScopeMap's spec as the API gave it."""

    spec: Document
    uid: str
    resource_version: str


class Cache:
    """Everything known, with the indexes that lead from an object to the tokens it concerns."""

    def __init__(self) -> None:
        self.tokens: dict[Key, StoredToken] = {}
        self.tokens_by_uid: dict[str, Key] = {}
        self.tokens_by_map: defaultdict[str, set[Key]] = defaultdict(set)
        self.tokens_by_target: defaultdict[str, set[Key]] = defaultdict(set)
        self.tokens_by_secret: defaultdict[tuple[str, str], set[Key]] = defaultdict(set)
        self.scope_maps: dict[str, StoredMap] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.records: dict[str, StoredRecord] = {}
        self.pull_secrets: dict[tuple[str, str], StoredPullSecret] = {}
        self.secrets_of: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self.service_accounts: defaultdict[str, dict[str, ServiceAccount]] = defaultdict(dict)
        self.entries_of: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self.issuing: dict[str, bool] = {}
        """By name of a registry, whether token servers can issue access tokens for it; empty before they said so."""
        self.gone: set[str] = set()
        """UIDs that are not of a living token, as the API server itself has said: what carries them can be removed."""
        self._deletions: dict[tuple[str, str, str], int] = {}

    def _is_news(self, kind: str, type_: str | None, body: Body, known: Any) -> bool:
        """Whether an object says more than is known of its name. Versions of one kind grow over all its objects."""
        metadata = body["metadata"]
        place = (kind, metadata.get("namespace", ""), metadata["name"])
        version = int(metadata["resourceVersion"])
        seen = max(self._deletions.get(place, 0), int(known.resource_version) if known is not None else 0)
        same = known is not None and known.uid == metadata["uid"]
        if version <= seen and not (same and type_ == DELETED):
            return False
        self._deletions.pop(place, None)
        if type_ == DELETED:
            self._deletions[place] = max(version, seen)
            if len(self._deletions) > REMEMBERED_DELETIONS:
                del self._deletions[next(iter(self._deletions))]
        return True

    def key_of(self, token_uid: str) -> Key:
        """The key of the token with that UID, or of the cleanup after it."""
        return self.tokens_by_uid.get(token_uid) or Key("cleanup", name=token_uid)

    def namespaces_with(self, token_uid: str) -> set[str]:
        """The namespaces that have a pull secret or an entry with that token's UID."""
        places = (*self.secrets_of.get(token_uid, ()), *self.entries_of.get(token_uid, ()))
        return {namespace for namespace, _ in places}

    def observe_token(self, type_: str | None, body: Body) -> set[Key]:
        """A RegistryToken."""
        metadata = body["metadata"]
        key = Key("token", metadata["namespace"], metadata["name"])
        known = self.tokens.get(key)
        keys = {Key("cleanup", name=metadata["uid"])} if type_ == DELETED else {key}
        if not self._is_news("token", type_, body, known):
            return keys if type_ == DELETED else set()
        if known is not None:
            self._forget_token(known)
            if known.uid != metadata["uid"]:
                keys.add(Key("cleanup", name=known.uid))
        if type_ == DELETED:
            self.tokens.pop(key, None)
            return keys
        token = self.tokens[key] = StoredToken.read(body)
        self.gone.discard(token.uid)
        self.tokens_by_uid[token.uid] = key
        self.tokens_by_map[_map_name(token)].add(key)
        for namespace in token.targets:
            self.tokens_by_target[namespace].add(key)
            self.tokens_by_secret[namespace, token.pull_secret_name].add(key)
        return keys

    def _forget_token(self, token: StoredToken) -> None:
        self.tokens_by_uid.pop(token.uid, None)
        _discard(self.tokens_by_map, _map_name(token), token.key)
        for namespace in token.targets:
            _discard(self.tokens_by_target, namespace, token.key)
            _discard(self.tokens_by_secret, (namespace, token.pull_secret_name), token.key)

    def observe_scope_map(self, type_: str | None, body: Body) -> set[Key]:
        """A ScopeMap."""
        metadata = body["metadata"]
        name = metadata["name"]
        known = self.scope_maps.get(name)
        if not self._is_news("scopemap", type_, body, known):
            return set()
        if type_ == DELETED:
            self.scope_maps.pop(name, None)
        else:
            self.scope_maps[name] = StoredMap(
                Document.of(body.get("spec") or {}), metadata["uid"], metadata["resourceVersion"]
            )
        return set(self.tokens_by_map.get(name, ()))

    def observe_namespace(self, type_: str | None, body: Body) -> set[Key]:
        """A Namespace."""
        metadata = body["metadata"]
        name = metadata["name"]
        known = self.namespaces.get(name)
        if not self._is_news("namespace", type_, body, known):
            return set()
        if type_ == DELETED:
            self.namespaces.pop(name, None)
            return set(self.tokens_by_target.get(name, ()))
        accepts = (metadata.get("annotations") or {}).get(names.ACCEPT_ANNOTATION, "")
        seen = self.namespaces[name] = Namespace(
            labels=metadata.get("labels") or {},
            accepts=frozenset(part.strip() for part in accepts.split(",") if part.strip()),
            terminating="deletionTimestamp" in metadata,
            resource_version=metadata["resourceVersion"],
            uid=metadata["uid"],
        )
        if known is not None and (known.labels, known.accepts, known.terminating) == (
            seen.labels,
            seen.accepts,
            seen.terminating,
        ):
            return set()
        return set(self.tokens_by_target.get(name, ()))

    def observe_secret(self, type_: str | None, body: Body, credentials_namespace: str) -> set[Key]:
        """A Secret with our label: a pull secret, or in the credentials namespace a record or a signing leaf."""
        labels = body["metadata"].get("labels") or {}
        component = labels.get(names.COMPONENT_LABEL)
        if body["metadata"]["namespace"] == credentials_namespace:
            if component == names.CREDENTIAL_RECORD and names.TOKEN_UID_LABEL in labels:
                return self._observe_record(type_, body, labels[names.TOKEN_UID_LABEL])
            if component == names.SIGNING_KEY:
                return {Key("signing-keys", name=body["metadata"]["name"])}
        return self._observe_pull_secret(type_, body)

    def _observe_record(self, type_: str | None, body: Body, token_uid: str) -> set[Key]:
        metadata = body["metadata"]
        known = self.records.get(token_uid)
        if not self._is_news("secret", type_, body, known):
            return set()
        if type_ == DELETED:
            self.records.pop(token_uid, None)
            return {self.key_of(token_uid)}
        try:
            record: Record | None = Record.from_secret(body)
        except ValueError:
            record = None
        self.records[token_uid] = StoredRecord(
            record, metadata["namespace"], metadata["uid"], metadata["resourceVersion"]
        )
        return {self.key_of(token_uid)}

    def _observe_pull_secret(self, type_: str | None, body: Body) -> set[Key]:
        metadata = body["metadata"]
        place = (metadata["namespace"], metadata["name"])
        known = self.pull_secrets.get(place)
        if not self._is_news("secret", type_, body, known):
            return set()
        keys: set[Key] = set()
        if known is not None:
            _discard(self.secrets_of, known.token_uid, place)
            del self.pull_secrets[place]
            keys.add(Key("place", known.namespace, known.token_uid))
        seen = StoredPullSecret.read(body) if type_ != DELETED else None
        if seen is not None:
            self.pull_secrets[place] = seen
            self.secrets_of[seen.token_uid].add(place)
            keys.add(Key("place", seen.namespace, seen.token_uid))
        return keys

    def observe_service_account(self, type_: str | None, body: Body) -> set[Key]:
        """A ServiceAccount."""
        metadata = body["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        known = self.service_accounts.get(namespace, {}).get(name)
        if not self._is_news("serviceaccount", type_, body, known):
            return set()
        if known is not None:
            del self.service_accounts[namespace][name]
            if not self.service_accounts[namespace]:
                del self.service_accounts[namespace]
            for uid in known.ours.values():
                _discard(self.entries_of, uid, (namespace, name))
        seen = None if type_ == DELETED else ServiceAccount.read(body)
        if seen is not None:
            self.service_accounts[namespace][name] = seen
            for uid in seen.ours.values():
                self.entries_of[uid].add((namespace, name))
        return self._concerned(namespace, known, seen)

    def _concerned(self, namespace: str, before: ServiceAccount | None, after: ServiceAccount | None) -> set[Key]:
        """The tokens that may miss a ServiceAccount, and the places that a changed entry concerns: few, of many."""
        marks = set(before.ours.items() if before else ()) ^ set(after.ours.items() if after else ())
        keys = {Key("place", namespace, uid) for _, uid in marks}
        if before is None or after is None:
            tokens = self.tokens_by_target.get(namespace, set())
            return keys | tokens | {Key("place", namespace, self.tokens[key].uid) for key in tokens}
        changed = set(before.pull_secrets) ^ set(after.pull_secrets)
        tokens = {key for secret in changed for key in self.tokens_by_secret.get((namespace, secret), ())}
        return keys | {Key("place", namespace, self.tokens[key].uid) for key in tokens}

    def tokens_of(self, registries: Collection[str]) -> frozenset[Key]:
        """Tokens whose scope maps are for one of these registries."""
        if not registries:
            return frozenset()
        maps = (name for name, scope_map in self.scope_maps.items() if _registry_name(scope_map) in registries)
        return frozenset(key for name in maps for key in self.tokens_by_map.get(name, ()))

    def holds(self, plural: str, body: Body) -> bool:
        """Whether an object is known, in this version or a later one."""
        metadata = body["metadata"]
        known = self._stored(plural, metadata.get("namespace", ""), metadata["name"], metadata.get("labels") or {})
        return (
            known is not None
            and known.uid == metadata["uid"]
            and int(known.resource_version) >= int(metadata["resourceVersion"])
        )

    def _stored(self, plural: str, namespace: str, name: str, labels: Mapping[str, str]) -> Any:
        match plural:
            case "registrytokens":
                return self.tokens.get(Key("token", namespace, name))
            case "scopemaps":
                return self.scope_maps.get(name)
            case "namespaces":
                return self.namespaces.get(name)
            case "serviceaccounts":
                return self.service_accounts.get(namespace, {}).get(name)
            case "secrets" if labels.get(names.COMPONENT_LABEL) == names.CREDENTIAL_RECORD:
                return self.records.get(labels.get(names.TOKEN_UID_LABEL, ""))
            case "secrets":
                return self.pull_secrets.get((namespace, name))
        return None

    def known(self, plural: str) -> Iterator[Body]:
        """What is known of one kind, each with only the metadata that tells it from others."""
        if plural == "registrytokens":
            for token in self.tokens.values():
                yield _stub(token.namespace, token.name, token)
        elif plural == "scopemaps":
            for name, scope_map in self.scope_maps.items():
                yield _stub("", name, scope_map)
        elif plural == "namespaces":
            for name, namespace in self.namespaces.items():
                yield _stub("", name, namespace)
        elif plural == "serviceaccounts":
            for accounts in self.service_accounts.values():
                for account in accounts.values():
                    yield _stub(account.namespace, account.name, account)
        elif plural == "secrets":
            for secret in self.pull_secrets.values():
                yield _stub(secret.namespace, secret.name, secret, names.PULL_SECRET, secret.token_uid)
            for token_uid, record in self.records.items():
                name = names.record_name(token_uid)
                yield _stub(record.namespace, name, record, names.CREDENTIAL_RECORD, token_uid)

    def every_key(self) -> Iterable[Key]:
        """All tokens, and the cleanup after all that are gone: what a new leader looks at."""
        yield from self.tokens
        uids = {*self.records, *self.secrets_of, *self.entries_of}
        for uid in uids:
            if uid not in self.tokens_by_uid:
                yield Key("cleanup", name=uid)


def _stub(namespace: str, name: str, known: Any, component: str = "", token_uid: str = "") -> Body:
    metadata = {"namespace": namespace, "name": name, "uid": known.uid, "resourceVersion": known.resource_version}
    if component:
        metadata["labels"] = {names.COMPONENT_LABEL: component, names.TOKEN_UID_LABEL: token_uid}
    return {"metadata": metadata}


def _discard(index: dict[K, set[V]], key: K, value: V) -> None:
    """Takes a value out of an index, and the key with its last one: tokens come and go for as long as this lives."""
    values = index.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del index[key]


def _map_name(token: StoredToken) -> str:
    return str((token.spec.read().get("scopeMapRef") or {}).get("name", ""))


def _registry_name(scope_map: StoredMap) -> str:
    return str(scope_map.spec.read().get("registry") or names.DEFAULT_REGISTRY)
