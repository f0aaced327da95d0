"""The cache: the same end in whatever order the news come, and keys only where there is something to look at."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pullpass.api import names
from pullpass.controller import cache as module
from pullpass.controller.cache import Cache
from pullpass.controller.places.pull_secret import Wanted
from pullpass.controller.queue import Key
from pullpass.credentials.record import Record

Event = tuple[str, str, dict[str, Any]]
"""Type, kind, object."""
KEY = Key("token", "web", "reader")
PLACE = Key("place", "web", "uid-1")


def meta(name: str, version: int, uid: str = "uid-1", namespace: str | None = "web", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "uid": uid, "resourceVersion": str(version), **more}
    return metadata | ({"namespace": namespace} if namespace else {})


def token(
    version: int, uid: str = "uid-1", map_: str = "demo", far: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
    spec = {"scopeMapRef": {"name": map_}, "pullSecret": {"namespaces": list(far)}}
    return {"metadata": meta("reader", version, uid, generation=version, **more), "spec": spec}


def scope_map(version: int, uid: str = "map-1", text: str = "") -> dict[str, Any]:
    return {"metadata": meta("demo", version, uid, None), "spec": {"description": text}}


def namespace(
    version: int, uid: str = "ns-1", labels: dict[str, str] | None = None, accepts: str | None = None, **more: Any
) -> dict[str, Any]:
    annotations = None if accepts is None else {names.ACCEPT_ANNOTATION: accepts}
    return {"metadata": meta("web", version, uid, None, labels=labels, annotations=annotations, **more)}


def pull_secret(version: int, uid: str = "secret-1", owner: str = "uid-1", text: str = "e30=") -> dict[str, Any]:
    body = Wanted("web", "reader-pull", "web", "reader", owner, retain=False).body(text)
    body["metadata"] |= {"uid": uid, "resourceVersion": str(version)}
    return body


def record(version: int, uid: str = "record-1", owner: str = "uid-1", name: str = "reader") -> dict[str, Any]:
    body = Record(owner, "web", name).to_secret("credentials")
    body["metadata"] |= {"uid": uid, "resourceVersion": str(version)}
    return body


def account(version: int, uid: str = "sa-1", secrets: tuple[str, ...] = (), ours: str = "") -> dict[str, Any]:
    annotations = {names.ENTRIES_ANNOTATION: ours} if ours else {}
    return {
        "metadata": meta("default", version, uid, annotations=annotations),
        "imagePullSecrets": [{"name": secret} for secret in secrets],
    }


def observe(cache: Cache, event: Event) -> set[Key]:
    type_, kind, body = event
    match kind:
        case "token":
            return cache.observe_token(type_, body)
        case "scopemap":
            return cache.observe_scope_map(type_, body)
        case "namespace":
            return cache.observe_namespace(type_, body)
        case "account":
            return cache.observe_service_account(type_, body)
        case _:
            return cache.observe_secret(type_, body, "credentials")


def state(cache: Cache) -> dict[str, Any]:
    """All that is known, empty rests of indexes left out; memory of deletions is none of it."""
    known = {name: value for name, value in vars(cache).items() if not name.startswith("_")}
    return {
        name: {key: entry for key, entry in value.items() if entry or not isinstance(entry, set | dict)}
        for name, value in known.items()
        if isinstance(value, dict)
    }


VARIANTS: dict[str, list[Any]] = {
    "token": [
        token,
        lambda v, u: token(v, u, "other"),
        lambda v, u: token(v, u, far=("staging", "prod")),
    ],
    "scopemap": [scope_map, lambda v, u: scope_map(v, u, "text")],
    "namespace": [
        namespace,
        lambda v, u: namespace(v, u, {"team": "web"}),
        lambda v, u: namespace(v, u, accepts="a, b"),
    ],
    "secret": [
        pull_secret,
        lambda v, u: pull_secret(v, u, text="e30K"),
        lambda v, u: pull_secret(v, u, owner="uid-2"),
    ],
    "record": [record, lambda v, u: record(v, u, name="other")],
    "account": [
        account,
        lambda v, u: account(v, u, ("x", "reader-pull"), "reader-pull=uid-1"),
        lambda v, u: account(v, u, ("reader-pull",), "reader-pull=uid-2"),
    ],
}


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What happens to one name of each of some kinds, in its true order, through deletion and new UIDs."""
    version = 100
    events: list[Event] = []
    alive: dict[str, str | None] = {}
    kinds = st.sampled_from(sorted(VARIANTS))
    for kind, number in draw(st.lists(st.tuples(kinds, st.integers(-1, 2)), min_size=1, max_size=12)):
        version += 1
        uid = alive.get(kind)
        if number >= 0 or uid is None:
            type_ = "ADDED" if uid is None else "MODIFIED"
            alive[kind] = uid = uid or f"uid-{draw(st.integers(1, 2))}-{version}"
            if kind == "token":
                alive[kind] = uid = uid if type_ == "MODIFIED" else f"uid-{1 + version % 2}-{version}"
        else:
            type_ = "DELETED"
            alive[kind] = None
        variants = VARIANTS[kind]
        events.append((type_, kind, variants[number % len(variants)](version, uid)))
    return events


@settings(max_examples=300)
@given(histories(), st.data())
def test_news_may_come_late_twice_and_out_of_order(history: list[Event], data: st.DataObject) -> None:
    expected = Cache()
    for event in history:
        observe(expected, event)
    again = data.draw(st.lists(st.sampled_from(history), max_size=4))
    cache = Cache()
    for event in data.draw(st.permutations([*history, *again])):
        observe(cache, event)
    assert state(cache) == state(expected)


@settings(max_examples=100)
@given(histories(), st.data())
def test_old_news_queue_nothing_but_sweeps(history: list[Event], data: st.DataObject) -> None:
    cache = Cache()
    for event in history:
        observe(cache, event)
    event = data.draw(st.sampled_from(history))
    sweep = {Key("cleanup", name=event[2]["metadata"]["uid"])}
    assert observe(cache, event) == (sweep if event[:2] == ("DELETED", "token") else set())


@settings(max_examples=100)
@given(histories())
def test_a_restart_ends_in_the_same_state(history: list[Event]) -> None:
    cache, fresh = Cache(), Cache()
    last: dict[str, Event] = {}
    for event in history:
        observe(cache, event)
        last[event[1]] = event
    for type_, kind, body in last.values():
        if type_ != "DELETED":
            observe(fresh, ("", kind, body))
    assert state(fresh) == state(cache)
    assert set(fresh.every_key()) == set(cache.every_key())


def test_a_new_uid_under_the_same_name_leaves_the_rests_of_the_old_one() -> None:
    cache = Cache()
    assert cache.observe_token("ADDED", token(1)) == {KEY}
    cache.observe_secret("ADDED", record(2), "credentials")
    assert cache.observe_token("ADDED", token(5, "uid-2")) == {KEY, Key("cleanup", name="uid-1")}
    assert cache.tokens[KEY].uid == "uid-2"
    assert cache.tokens_by_uid == {"uid-2": KEY}
    assert cache.observe_token("DELETED", token(4)) == {Key("cleanup", name="uid-1")}
    assert cache.tokens[KEY].uid == "uid-2"
    assert set(cache.every_key()) == {KEY, Key("cleanup", name="uid-1")}


def test_an_answer_that_comes_after_the_deletion_wakes_no_ghost() -> None:
    cache = Cache()
    cache.observe_token("ADDED", token(1))
    cache.observe_token("DELETED", token(3))
    assert cache.observe_token("MODIFIED", token(2)) == set()
    assert cache.tokens == {}
    cache.observe_secret("DELETED", pull_secret(3), "credentials")
    assert cache.observe_secret("MODIFIED", pull_secret(2), "credentials") == set()
    assert cache.pull_secrets == {}


def test_deletions_are_not_remembered_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED_DELETIONS", 3)
    cache = Cache()
    for number in range(10):
        body = token(2 * number + 1)
        body["metadata"]["name"] = f"reader-{number}"
        cache.observe_token("ADDED", body)
        cache.observe_token("DELETED", body)
    assert len(cache._deletions) == 3


@pytest.fixture
def cache() -> Cache:
    cache = Cache()
    cache.observe_token("ADDED", token(1, far=("staging",)))
    return cache


def test_the_indexes_lead_to_the_token(cache: Cache) -> None:
    assert cache.observe_scope_map("ADDED", scope_map(1)) == {KEY}
    assert cache.observe_namespace("ADDED", namespace(1)) == {KEY}
    staging = namespace(1)
    staging["metadata"]["name"] = "staging"
    assert cache.observe_namespace("ADDED", staging) == {KEY}
    assert cache.observe_secret("ADDED", record(1), "credentials") == {KEY}
    assert cache.observe_secret("ADDED", pull_secret(1), "credentials") == {PLACE}
    assert cache.observe_service_account("ADDED", account(1)) == {KEY, PLACE}
    listed = account(2, secrets=("reader-pull",))
    assert cache.observe_service_account("MODIFIED", listed) == {PLACE}, "whether it is there is the same"


def test_the_indexes_follow_the_spec(cache: Cache) -> None:
    cache.observe_token("MODIFIED", token(2, map_="other"))
    assert cache.observe_scope_map("ADDED", scope_map(1)) == set()
    staging = namespace(1)
    staging["metadata"]["name"] = "staging"
    assert cache.observe_namespace("ADDED", staging) == set()


def test_deletions_lead_to_the_token(cache: Cache) -> None:
    added: list[Event] = [
        ("ADDED", "scopemap", scope_map(1)),
        ("ADDED", "namespace", namespace(1)),
        ("ADDED", "record", record(1)),
    ]
    for event in added:
        observe(cache, event)
        assert observe(cache, ("DELETED", *event[1:])) == {KEY}, event[1]


def test_deletions_in_a_place_lead_there(cache: Cache) -> None:
    cache.observe_secret("ADDED", pull_secret(1), "credentials")
    assert cache.observe_secret("DELETED", pull_secret(1), "credentials") == {PLACE}
    cache.observe_service_account("ADDED", account(1))
    assert cache.observe_service_account("DELETED", account(1)) == {KEY, PLACE}
    assert dict(cache.service_accounts) == {}, "nothing is kept of a namespace that was"


def test_what_belongs_to_no_token_leads_to_a_sweep() -> None:
    cache = Cache()
    cleanup = {Key("cleanup", name="uid-1")}
    assert cache.observe_secret("ADDED", record(1), "credentials") == cleanup
    assert cache.observe_secret("ADDED", pull_secret(1), "credentials") == {PLACE}
    assert cache.observe_service_account("ADDED", account(1, ours="reader-pull=uid-1")) == {PLACE}
    assert set(cache.every_key()) == cleanup
    assert cache.namespaces_with("uid-1") == {"web"}


def test_a_secret_that_changes_hands_wakes_both(cache: Cache) -> None:
    cache.observe_secret("ADDED", pull_secret(1), "credentials")
    keys = cache.observe_secret("MODIFIED", pull_secret(2, owner="uid-2"), "credentials")
    assert keys == {PLACE, Key("place", "web", "uid-2")}
    assert "uid-1" not in cache.secrets_of


@pytest.mark.parametrize(
    ("change", "relevant"),
    [
        ({"labels": {"team": "web"}}, False),
        ({"labels": {"team": "web"}, "accepts": " a,b ,, "}, False),
        ({"labels": {"team": "web"}, "generation": 7}, False),
        ({"labels": {"team": "app"}}, True),
        ({}, True),
        ({"labels": {"team": "web"}, "accepts": "a"}, True),
        ({"labels": {"team": "web"}, "deletionTimestamp": "2027-03-01T12:00:00Z"}, True),
    ],
)
def test_a_namespace_counts_only_where_it_matters(cache: Cache, change: dict[str, Any], relevant: bool) -> None:
    accepts = "b,a" if change.get("accepts") == " a,b ,, " else None
    cache.observe_namespace("ADDED", namespace(1, labels={"team": "web"}, accepts=accepts))
    assert bool(cache.observe_namespace("MODIFIED", namespace(2, **change))) is relevant


@pytest.mark.parametrize(
    ("after", "relevant"),
    [
        (account(2, secrets=("a",)), False),
        (account(2, secrets=("a", "b")), False),
        (account(2), False),
        (account(2, secrets=("a", "reader-pull")), True),
        (account(2, secrets=("a",), ours="a=uid-1"), True),
    ],
)
def test_a_service_account_counts_only_where_it_matters(cache: Cache, after: dict[str, Any], relevant: bool) -> None:
    cache.observe_service_account("ADDED", account(1, secrets=("a",)))
    assert bool(cache.observe_service_account("MODIFIED", after)) is relevant


def test_consent_is_a_list_with_commas() -> None:
    cache = Cache()
    cache.observe_namespace("ADDED", namespace(1, accepts=" a,b ,, "))
    assert cache.namespaces["web"].accepts == {"a", "b"}


def test_secrets_of_the_credentials_namespace() -> None:
    cache = Cache()
    leaf = record(1)
    leaf["metadata"]["labels"] = {names.COMPONENT_LABEL: names.SIGNING_KEY}
    assert cache.observe_secret("MODIFIED", leaf, "credentials") == {Key("signing-keys", name=leaf["metadata"]["name"])}
    spoiled = record(2)
    spoiled["data"] = {}
    cache.observe_secret("ADDED", spoiled, "credentials")
    assert cache.records["uid-1"].record is None
    # A record's labels in another namespace make no record.
    planted = record(3, owner="uid-9")
    planted["metadata"]["namespace"] = "web"
    assert cache.observe_secret("ADDED", planted, "credentials") == set()
    assert "uid-9" not in cache.records


def test_a_token_without_a_readable_spec_is_known_all_the_same() -> None:
    cache = Cache()
    body = {"metadata": meta("reader", 1), "spec": {"scopeMapRef": None, "pullSecret": None}}
    assert cache.observe_token("ADDED", body) == {KEY}
    assert cache.tokens[KEY].targets == ("web",)
