"""What people and other programs do to the cluster. Each act is one function; the machine says when and to what."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from pullpass.api import names
from pullpass.api.times import format_time
from pullpass.kube.resources import NAMESPACES, REGISTRY_TOKENS, SCOPE_MAPS, SECRETS, SERVICE_ACCOUNTS
from tests.unit.controller.fake_api import Body
from tests.unit.controller.faults.line import PLACE_FAULTS
from tests.unit.controller.faults.scene import Scene
from tests.unit.controller.faults.stored import SEED, record_place

Token = tuple[str, str]
"""Namespace and name."""
TOKENS: tuple[Token, ...] = (("web", "reader"), ("web", "writer"), ("ops", "reader"))
TENANTS = ("web", "ops", "staging")
MAPS = ("demo", "other")
PASSWORDS: tuple[dict[str, Any], ...] = (
    {"lifetime": "1h", "renewBefore": "50m", "overlap": "5m"},
    {"lifetime": "1h", "renewBefore": "50m", "overlap": "0s"},
    {},
    {"lifetime": "2h", "onExpiry": "Revoke"},
)
"""The first two are rotated every ten minutes."""
ACCOUNTS: tuple[list[str], ...] = (["default"], [], ["*"], ["default", "builder"])
FURTHER: tuple[list[str], ...] = (["staging"], [], ["staging", "ops"], ["nowhere"])
ENDS: tuple[float | None, ...] = (None, 1800, -60)
"""Seconds from now to the end of the token."""
ALLOWED: tuple[dict[str, Any], ...] = (
    {"from": "All"},
    {"from": "Names", "names": ["web"]},
    {"from": "Names", "names": []},
    {"from": "Selector", "selector": {"matchLabels": {"team": "web"}}},
)
ACCEPTS = ("web, ops", "web", "")
CHANGES: dict[str, tuple[Any, ...]] = {
    "enabled": (True, False),
    "expiresAt": ENDS,
    "passwords": PASSWORDS,
    "scopeMapRef": tuple({"name": name} for name in MAPS),
    "serviceAccounts": ACCOUNTS,
    "namespaces": FURTHER,
    "whenRevoked": ("Keep", "Remove"),
    "deletionPolicy": ("Delete", "Retain"),
}
"""What can be changed in a spec, and to what."""
USUAL: tuple[tuple[str, Any], ...] = (
    ("passwords", PASSWORDS[0]),
    ("serviceAccounts", ["default"]),
    ("namespaces", ["staging"]),
)
"""What most tokens have in their spec."""
_OF_PULL_SECRET = ("serviceAccounts", "namespaces", "whenRevoked", "deletionPolicy")


class People:
    """Acts on a scene. What cannot be done at the moment is not done."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._api = scene.api

    def do(self, act: tuple[Any, ...]) -> None:
        """Does one of the acts that the strategies below give: the name of a method, and what to call it with."""
        name, *arguments = act
        getattr(self, name)(*arguments)

    def _has(self, plural: str, namespace: str, name: str) -> bool:
        return (plural, namespace, name) in self._api.objects

    # tokens

    def make_token(self, token: Token, changes: list[tuple[str, Any]], shared: bool = False) -> None:
        """Makes a token; `shared`: with a name for its pull secret that another one takes as well."""
        if self._has("registrytokens", *token) or not self._open(token[0]):
            return
        pull_secret: dict[str, Any] = {"pullSecret": {"name": "shared-pull"}} if shared else {}
        self._scene.token(*token, **pull_secret)
        for field, value in [*USUAL, *changes]:
            self.change_token(token, field, value)

    def replace_token(self, token: Token, changes: list[tuple[str, Any]]) -> None:
        """Deletes a token, and makes another one of that name at once."""
        self.delete_token(token)
        self.make_token(token, changes)

    def change_token(self, token: Token, field: str, value: Any) -> None:
        """Changes one field of a spec."""
        if not self._has("registrytokens", *token):
            return
        if field == "expiresAt" and value is not None:
            value = format_time(self._scene.now + timedelta(seconds=value))

        def change(body: Body) -> None:
            part = body["spec"].setdefault("pullSecret", {}) if field in _OF_PULL_SECRET else body["spec"]
            if value is None:
                part.pop(field, None)
            else:
                part[field] = value

        self._api.edit(REGISTRY_TOKENS, *token, change)

    def ask(self, token: Token, annotation: str, value: str) -> None:
        """Asks for a new password by hand; an empty value takes the annotation away."""
        if not self._has("registrytokens", *token):
            return

        def change(body: Body) -> None:
            annotations = body["metadata"].setdefault("annotations", {})
            annotations.pop(annotation, None)
            if value:
                annotations[annotation] = value

        self._api.edit(REGISTRY_TOKENS, *token, change)

    def revoke(self, token: Token, number: int) -> None:
        """Revokes one of the passwords that a token has, by the id in its record."""
        there = self._api.objects.get(("registrytokens", *token))
        record = self._scene.promises.record(there["metadata"]["uid"]) if there is not None else None
        if record is None or not record.slots:
            return
        slot = list(record.slots.values())[number % len(record.slots)]

        def change(body: Body) -> None:
            policy = body["spec"].setdefault("passwords", {})
            policy["revoked"] = sorted({*policy.get("revoked", []), slot.id})

        self._api.edit(REGISTRY_TOKENS, *token, change)

    def delete_token(self, token: Token, held: bool = False) -> None:
        """Deletes a token; `held`: somebody's finalizer keeps the object until it is deleted again."""
        if not self._has("registrytokens", *token):
            return
        if held:
            self._mark_deleted(REGISTRY_TOKENS, *token)
        else:
            self._api.remove(REGISTRY_TOKENS, *token)

    def _mark_deleted(self, resource: Any, namespace: str, name: str) -> None:
        when = format_time(self._scene.now)
        self._api.edit(resource, namespace, name, lambda b: b["metadata"].setdefault("deletionTimestamp", when))

    # what belongs to the platform

    def write_map(self, name: str, allowed: dict[str, Any] | None) -> None:
        """Writes a scope map, or deletes it."""
        if allowed is not None:
            rules = [{"repositories": ["demo/nginx"], "actions": ["content/read"]}]
            self._api.put(
                SCOPE_MAPS, {"metadata": {"name": name}, "spec": {"rules": rules, "allowedNamespaces": allowed}}
            )
        elif self._has("scopemaps", "", name):
            self._api.remove(SCOPE_MAPS, "", name)

    def write_namespace(self, name: str, accepts: str, team: bool) -> None:
        """Makes a namespace, or changes its consent and its labels."""
        if self._has("namespaces", "", name):
            if self._open(name):
                self._scene.namespace(name, accepts, {"team": "web"} if team else {})
            return
        self._scene.namespace(name, accepts, {"team": "web"} if team else {})
        self._scene.account(name, "default")

    def _open(self, name: str) -> bool:
        there = self._api.objects.get(("namespaces", "", name))
        return there is not None and "deletionTimestamp" not in there["metadata"]

    def delete_namespace(self, name: str) -> None:
        """A namespace begins to be deleted, or has been."""
        if self._open(name):
            self._mark_deleted(NAMESPACES, "", name)
        elif self._has("namespaces", "", name):
            self._scene.finish_namespace(name)

    def break_place(self, plural: str, namespace: str, fault: str) -> None:
        """A policy begins or ceases to refuse what the operator writes."""
        if self._scene.broken.pop((plural, namespace), None) is None:
            self._scene.broken[plural, namespace] = fault

    # ServiceAccounts

    def edit_account(self, namespace: str, name: str, act: str) -> None:
        """Makes, deletes or edits a ServiceAccount."""
        there = self._has("serviceaccounts", namespace, name)
        if act == "make":
            if not there and self._open(namespace):
                self._scene.account(namespace, name, "one")
        elif there and act == "delete":
            self._api.remove(SERVICE_ACCOUNTS, namespace, name)
        elif there:
            self._api.edit(SERVICE_ACCOUNTS, namespace, name, _EDITS[act])

    # Secrets

    def take_place(self, namespace: str, name: str, half: bool) -> None:
        """Makes a Secret of somebody else under the name of a pull secret, or deletes it again."""
        place = ("secrets", namespace, name)
        if place in self._scene.promises.foreign:
            del self._scene.promises.foreign[place]
            self._api.remove(SECRETS, namespace, name)
        elif place not in self._api.objects and self._open(namespace):
            labels = {names.MANAGED_BY_LABEL: names.MANAGED_BY} if half else {}
            metadata = {"namespace": namespace, "name": name, "labels": labels}
            self._scene.promises.foreign[place] = self._api.put(
                SECRETS, {"metadata": metadata, "type": names.PULL_SECRET_TYPE, "data": {names.PULL_SECRET_KEY: "e30="}}
            )

    def tamper(self, number: int, act: str) -> None:
        """Deletes or edits one of the pull secrets by hand."""
        ours = [
            place
            for place in sorted(self._scene.pull_secrets())
            if ("secrets", *place) not in self._scene.promises.foreign
        ]
        if not ours:
            return
        namespace, name = ours[number % len(ours)]
        place = ("secrets", namespace, name)
        self._scene.promises.tampered.add(place)
        if act == "delete":
            self._api.remove(SECRETS, namespace, name)
        elif act == "empty":
            self._api.edit(SECRETS, namespace, name, lambda b: b["data"].update({names.PULL_SECRET_KEY: "e30="}))
        elif act == "annotate":
            self._api.edit(SECRETS, namespace, name, lambda b: b["metadata"]["annotations"].update(note="mine"))
        elif act == "strip":
            # What says whose it is has gone; the token's password in it still tells.
            self._api.edit(SECRETS, namespace, name, _without_marks)
            uid = self._api.objects[place]["metadata"]["uid"]
            self._scene.promises.ours.discard(uid)
            self._scene.promises.stripped.add(uid)
        elif act == "take":
            # Without our labels, and with a content of their own, it is theirs from now on.
            self._api.edit(SECRETS, namespace, name, lambda b: b["data"].update({names.PULL_SECRET_KEY: "e30="}))
            self._api.edit(SECRETS, namespace, name, _without_marks)
            body = self._api.objects[place]
            self._scene.promises.ours.discard(body["metadata"]["uid"])
            self._scene.promises.foreign[place] = body

    def delete_record(self, token: Token) -> None:
        """Deletes the credential record of a token by hand."""
        there = self._api.objects.get(("registrytokens", *token))
        if there is None or (place := record_place(there["metadata"]["uid"])) not in self._api.objects:
            return
        self._scene.promises.lost(place)
        self._api.remove(SECRETS, place[1], place[2])

    def delete_seed(self) -> None:
        """The seed is lost; the next process makes another."""
        if SEED in self._api.objects:
            self._api.remove(SECRETS, SEED[1], SEED[2])


def _without_marks(body: Body) -> None:
    body["metadata"].update(labels={}, annotations={}, ownerReferences=[])


def _rename_ours(body: Body) -> None:
    body["imagePullSecrets"] = [e for e in body.get("imagePullSecrets") or [] if not e["name"].endswith("-pull")]


_EDITS: dict[str, Callable[[Body], Any]] = {
    "add in front": lambda b: b.setdefault("imagePullSecrets", []).insert(
        0, {"name": f"n{len(b['imagePullSecrets'])}"}
    ),
    "remove ours": _rename_ours,
    "annotate": lambda b: b["metadata"].setdefault("annotations", {}).update(note="mine"),
}


# Strategies: what people may do next.

_tokens = st.sampled_from(TOKENS)
_tenants = st.sampled_from(TENANTS)
_changes = st.sampled_from(sorted(CHANGES)).flatmap(
    lambda field: st.tuples(st.just(field), st.sampled_from(CHANGES[field]))
)
_few = st.lists(_changes, max_size=2)


def _act(name: str, *arguments: Any) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.tuples(st.just(name), *arguments)


first_tokens = st.lists(st.tuples(_tokens, _few), max_size=2)
token_acts = st.one_of(
    _act("make_token", _tokens, _few, st.booleans()),
    _changes.flatmap(lambda change: _act("change_token", _tokens, *map(st.just, change))),
    _act(
        "ask",
        _tokens,
        st.sampled_from((names.ROTATE_ANNOTATION, names.REGENERATE_ANNOTATION)),
        st.sampled_from(("1", "2", "3", "")),
    ),
    _act("revoke", _tokens, st.integers(0, 1)),
    _act("replace_token", _tokens, _few),
    _act("delete_token", _tokens, st.booleans()),
)
platform_acts = st.one_of(
    _act("write_map", st.sampled_from(MAPS), st.sampled_from((*ALLOWED, None))),
    _act("write_namespace", _tenants, st.sampled_from(ACCEPTS), st.booleans()),
    _act("delete_namespace", _tenants),
    _act("break_place", st.sampled_from(("secrets", "serviceaccounts")), _tenants, st.sampled_from(PLACE_FAULTS)),
    _act("break_place", st.just("secrets"), st.just("credentials"), st.sampled_from(PLACE_FAULTS)),
)
meddling = st.one_of(
    _act(
        "edit_account", _tenants, st.sampled_from(("default", "builder")), st.sampled_from(("make", "delete", *_EDITS))
    ),
    _act("take_place", _tenants, st.sampled_from(("reader-pull", "writer-pull", "shared-pull")), st.booleans()),
    _act("tamper", st.integers(0, 5), st.sampled_from(("delete", "empty", "annotate", "strip", "take"))),
    _act("delete_record", _tokens),
    _act("delete_seed"),
)
