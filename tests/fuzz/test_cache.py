"""The cache under objects of any content: it takes each of them, and grants nothing that a plain reading does not."""

import base64
import copy
import json
from collections.abc import Callable
from datetime import datetime
from operator import is_
from typing import Any

import jwt
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pullpass.access.actions import WORDS
from pullpass.access.repositories import Rights
from pullpass.api.times import parse_time
from pullpass.credentials import hashing
from pullpass.tokenserver.authentication import Identity
from pullpass.tokenserver.authorization import authorize
from pullpass.tokenserver.errors import UnauthenticatedError
from tests.fuzz.inputs import HOSTILE, WILD, spoilt
from tests.unit.tokenserver.world import LEAF, SIGNING_SECRET, START, World, password

FUZZ = settings.get_profile("fuzz")
GOOD = password().text
HASH = hashing.hash_password(GOOD, 4)
REPOSITORIES = ("demo/nginx", "samples/a", "samples", "other", "team/a/b")

TOKEN: dict[str, Any] = {
    "metadata": {"name": "reader", "namespace": "web", "uid": "uid-1", "labels": {"a": "b"}, "annotations": {}},
    "spec": {
        "scopeMapRef": {"name": "demo"},
        "enabled": True,
        "expiresAt": "2027-03-31T22:00:00Z",
        "passwords": {"lifetime": "720h", "revoked": ["bbbbbb"]},
    },
}
DYING: dict[str, Any] = {**TOKEN, "metadata": {**TOKEN["metadata"], "deletionTimestamp": "2027-03-01T11:00:00Z"}}
SCOPE_MAP: dict[str, Any] = {
    "metadata": {"name": "demo", "uid": "m"},
    "spec": {
        "description": "for everybody",
        "rules": [
            {"repositories": ["demo/nginx", "samples/*"], "actions": ["content/read"]},
            {"repositories": ["team/*"], "actions": ["content/read", "content/write", "content/delete"]},
        ],
        "allowedNamespaces": {"from": "Names", "names": ["web"]},
    },
}
SELECTED: dict[str, Any] = {
    "from": "Selector",
    "selector": {
        "matchLabels": {"team": "web"},
        "matchExpressions": [{"key": "stage", "operator": "NotIn", "values": ["prod"]}],
    },
}
NAMESPACE: dict[str, Any] = {"metadata": {"name": "web", "uid": "n", "labels": {"team": "web"}}}
RECORD: dict[str, Any] = {
    "tokenUid": "uid-1",
    "namespace": "web",
    "name": "reader",
    "published": "password1",
    "slots": {
        "password1": {"id": "aaaaaa", "nonce": "n", "seed": "s", "hash": HASH, "createdAt": "2027-02-01T12:00:00Z"},
        "password2": {
            "id": "bbbbbb",
            "nonce": "n",
            "seed": "s",
            "hash": "x",
            "createdAt": "2027-02-01T12:00:00Z",
            "validUntil": "2027-03-02T12:00:00Z",
        },
    },
}
SECRET: dict[str, Any] = {
    "metadata": {
        "name": "rt-uid-1",
        "uid": "s",
        "resourceVersion": "7",
        "labels": {"pullpass.dev/component": "credential-record"},
    },
    "type": "pullpass.dev/credential-record",
}


def named(spoilt_: Any, good: dict[str, Any]) -> dict[str, Any]:
    """Gives an object back what no API server leaves out: a name, a UID, the namespace, and a map of labels."""
    obj: dict[str, Any] = spoilt_ if isinstance(spoilt_, dict) else {}
    metadata = obj.get("metadata") if isinstance(obj.get("metadata"), dict) else {}
    assert metadata is not None
    kept = {key: good["metadata"][key] for key in ("name", "namespace", "uid") if key in good["metadata"]}
    obj["metadata"] = {**metadata, **kept}
    labels = metadata.get("labels")
    if labels is not None:
        plain = isinstance(labels, dict) and all(isinstance(value, str) for value in labels.values())
        obj["metadata"]["labels"] = labels if plain else {}
    return obj


def record_secret(content: Any) -> dict[str, Any]:
    data = base64.b64encode(json.dumps(content).encode(errors="surrogatepass")).decode()
    return {**SECRET, "data": {"record.json": data}}


def decide(world: World) -> Rights | None:
    """What the right password opens now, bcrypt left out."""
    token = world.cache.token("web.reader")
    credential = world.cache.credential(token.uid) if token is not None else None
    slot = credential.slot("aaaaaa") if credential is not None else None
    if token is None or slot is None:
        return None
    try:
        return authorize(world.cache, Identity(token, slot), "default", world.now)
    except UnauthenticatedError:
        return None


def ended(value: Any) -> bool:
    end: datetime = parse_time(value)
    return end <= START


TOKENS = (
    (spoilt(TOKEN, changes=3) | spoilt(DYING)).map(lambda obj: named(obj, TOKEN))
    | spoilt(TOKEN["spec"], changes=1).map(lambda spec: {**TOKEN, "spec": spec})
    | HOSTILE.map(lambda spec: {**TOKEN, "spec": spec})
    | HOSTILE.map(lambda enabled: {**TOKEN, "spec": {**TOKEN["spec"], "enabled": enabled}})
    | st.sampled_from(["aaaaaa", {"aaaaaa": True}, ["aaaaaa"], [["aaaaaa"]], {}, 0, None]).map(
        lambda revoked: {**TOKEN, "spec": {**TOKEN["spec"], "passwords": {"revoked": revoked}}}
    )
)


@FUZZ
@given(TOKENS)
def test_a_token_opens_only_what_it_plainly_says(token: dict[str, Any]) -> None:
    world = World()
    world.cache.on_token("MODIFIED", token)
    if decide(world) is None:
        return
    metadata, spec = token["metadata"], token["spec"]
    assert spec["scopeMapRef"]["name"] == "demo"
    assert spec.get("enabled", True) is True
    assert metadata.get("deletionTimestamp") is None
    assert spec.get("expiresAt") is None or not ended(spec["expiresAt"])
    passwords = spec.get("passwords") or {}
    assert "aaaaaa" not in (passwords.get("revoked") or [])


def plainly(spec: Any, repository: str) -> set[str]:
    """A second reading of what a scope map grants to the namespace `web`; nothing where it is not one."""
    words: dict[str, str] = dict(WORDS)  # type: ignore[arg-type]
    granted: set[str] = set()
    for rule in spec["rules"]:
        for pattern in rule["repositories"]:
            prefix = pattern.removesuffix("*") if pattern.endswith("/*") else None
            if pattern in ("*", repository) or (prefix is not None and repository.startswith(prefix)):
                granted |= {words[action] for action in rule["actions"]}
    return granted


def plainly_allowed(allowed: Any) -> bool:
    match allowed["from"]:
        case "All":
            return True
        case "Names":
            return "web" in allowed["names"]
        case "Selector":
            selector = allowed["selector"]
            labels = selector.get("matchLabels") or {}
            expressions = selector.get("matchExpressions") or []
            assert labels or expressions
            return all(value == "web" and key == "team" for key, value in labels.items())
    return False


def scope_map(spec: Any) -> dict[str, Any]:
    return {**SCOPE_MAP, "spec": spec}


MAPS = (
    spoilt(SCOPE_MAP, changes=3).map(lambda obj: named(obj, SCOPE_MAP))
    | spoilt({**SCOPE_MAP["spec"], "allowedNamespaces": SELECTED}).map(scope_map)
    | HOSTILE.map(scope_map)
)


@FUZZ
@given(MAPS)
def test_a_scope_map_grants_only_what_it_plainly_says(hostile: dict[str, Any]) -> None:
    world = World()
    world.cache.on_scope_map("MODIFIED", hostile)
    rights = decide(world)
    if rights is None:
        return
    assert plainly_allowed(hostile["spec"]["allowedNamespaces"])
    for repository in REPOSITORIES:
        assert rights.on(repository) == plainly(hostile["spec"], repository)


@FUZZ
@given(
    spoilt(NAMESPACE, changes=3).map(lambda obj: named(obj, NAMESPACE))
    | st.dictionaries(WILD | st.just("team"), WILD | st.just("web")).map(
        lambda labels: {"metadata": {"name": "web", "uid": "n", "labels": labels}}
    )
)
def test_a_namespace_is_selected_only_by_the_labels_it_has(namespace: dict[str, Any]) -> None:
    world = World()
    world.scope_map(allowed=SELECTED)
    world.cache.on_namespace("MODIFIED", namespace)
    labels = namespace["metadata"].get("labels") or {}
    assert (decide(world) is not None) == (labels.get("team") == "web" and labels.get("stage") != "prod")


SECRETS = (
    spoilt(RECORD, changes=3).map(record_secret)
    | HOSTILE.map(record_secret)
    | HOSTILE.map(lambda data: {**SECRET, "data": data})
    | spoilt(record_secret(RECORD)).map(lambda obj: named(obj, SECRET))
)


@FUZZ
@given(SECRETS)
@example({**SECRET, "data": {"record.json": base64.b64encode(b"\xff").decode()}})
def test_a_record_lets_in_only_the_passwords_it_plainly_has(secret: dict[str, Any]) -> None:
    world = World()
    world.cache.on_secret("DELETED", {"metadata": SECRET["metadata"]})
    assert decide(world) is None
    world.cache.on_secret("ADDED", secret)
    credential = world.cache.credential("uid-1")
    slot = credential.slot("aaaaaa") if credential is not None else None
    if slot is None or not hashing.check(GOOD, slot.hash):
        return
    content = json.loads(base64.b64decode(secret["data"]["record.json"]))
    assert content["tokenUid"] == "uid-1"
    slots = [content["slots"].get(name) for name in ("password1", "password2")]
    plain = [one for one in slots if one is not None and one["id"] == "aaaaaa" and one["hash"] == HASH]
    assert plain
    if decide(world) is not None:
        ends = [plain[0].get(key) for key in ("expiresAt", "validUntil")]
        assert not any(ended(end) for end in ends if end is not None)


def leaf_secret(change: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    secret = copy.deepcopy(SIGNING_SECRET)
    change(secret["data"])
    return secret


@st.composite
def leaves(draw: st.DrawFn) -> dict[str, Any]:
    """The Secret with the leaf, its PEM or the DER in it changed somewhere."""
    key = draw(st.sampled_from(["tls.crt", "tls.key"]))
    raw = bytearray(base64.b64decode(SIGNING_SECRET["data"][key]))
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(raw) - 1))
        raw[place] = draw(st.sampled_from(b"ABCDabcd0189+/=\n-\0\xff"))
    cut = draw(st.integers(0, len(raw))) if draw(st.booleans()) else len(raw)
    changed = base64.b64encode(bytes(raw[:cut])).decode()
    return leaf_secret(lambda data: data.update({key: changed}))


@FUZZ
@given(
    leaves()
    | spoilt(SIGNING_SECRET).map(lambda obj: named(obj, SIGNING_SECRET))
    | HOSTILE.map(lambda data: {**SIGNING_SECRET, "data": data})
)
def test_a_leaf_is_in_use_that_signs(secret: dict[str, Any]) -> None:
    world = World()
    world.cache.on_secret("MODIFIED", secret)
    signer = world.cache.signers["default"]
    public: Any = LEAF.certificate.public_key()
    claims = jwt.decode(signer.sign({"sub": "x"}), public, algorithms=["ES256"])
    assert claims == {"sub": "x"}


EVENT = st.tuples(
    st.sampled_from(["ADDED", "MODIFIED", "DELETED"]),
    st.one_of(
        spoilt(TOKEN).map(lambda obj: ("token", named(obj, TOKEN))),
        spoilt(SCOPE_MAP).map(lambda obj: ("scope_map", named(obj, SCOPE_MAP))),
        spoilt(NAMESPACE).map(lambda obj: ("namespace", named(obj, NAMESPACE))),
        SECRETS.map(lambda obj: ("secret", named(obj, SECRET))),
        leaves().map(lambda obj: ("secret", obj)),
    ),
)


@FUZZ
@given(st.lists(EVENT, max_size=8))
def test_after_any_events_good_objects_work_again(
    events: list[tuple[str, tuple[str, dict[str, Any]]]],
) -> None:
    world = World()
    for type_, (kind, obj) in events:
        inputs, rights = world.cache.decision_inputs("web.reader", "default"), decide(world)
        getattr(world.cache, f"on_{kind}")(type_, copy.deepcopy(obj))
        assert world.cache._by_uid == {token.uid: token for token in world.cache.tokens.values()}
        if all(map(is_, inputs, world.cache.decision_inputs("web.reader", "default"))):
            assert decide(world) is rights
    world.cache.on_namespace("MODIFIED", NAMESPACE)
    world.cache.on_scope_map("MODIFIED", SCOPE_MAP)
    world.cache.on_token("MODIFIED", TOKEN)
    world.cache.on_secret("MODIFIED", record_secret(RECORD))
    rights = decide(world)
    assert rights is not None
    assert rights.on("demo/nginx") == {"pull"}
