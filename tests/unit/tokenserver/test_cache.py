"""The cache takes any event, keeps what it can read and forgets what it cannot."""

import base64
import copy
import logging
from typing import Any

import pytest

from pullpass.tokenserver.cache import AccessCache
from tests.registries import TWO
from tests.unit.tokenserver.world import OTHER_SIGNING_SECRET, SIGNING_SECRET, World

BROKEN_SPECS: list[Any] = [
    {},
    None,
    {"scopeMapRef": {}},
    {"scopeMapRef": None},
    {"scopeMapRef": {"name": "demo"}, "enabled": "false"},
    {"scopeMapRef": {"name": "demo"}, "enabled": None},
    {"scopeMapRef": {"name": "demo"}, "expiresAt": "tomorrow"},
    {"scopeMapRef": {"name": "demo"}, "expiresAt": 5},
    {"scopeMapRef": {"name": "demo"}, "passwords": "aaaaaa"},
    {"scopeMapRef": {"name": "demo"}, "passwords": {"revoked": "aaaaaa"}},
    {"scopeMapRef": {"name": "demo"}, "passwords": {"revoked": {"aaaaaa": True}}},
    {"scopeMapRef": {"name": "demo"}, "passwords": {"revoked": [["aaaaaa"]]}},
]


@pytest.mark.parametrize("spec", BROKEN_SPECS)
def test_a_token_that_cannot_be_read_is_refused(spec: Any) -> None:
    world = World()
    assert world.cache.token("web.reader") is not None
    world.cache.on_token("MODIFIED", {"metadata": {"name": "reader", "namespace": "web", "uid": "uid-1"}, "spec": spec})
    assert world.cache.token("web.reader") is None
    world.token()
    assert world.cache.token("web.reader") is not None


def test_a_token_is_enabled_unless_it_says_otherwise() -> None:
    cache = AccessCache(TWO)
    metadata = {"name": "reader", "namespace": "web", "uid": "1"}
    cache.on_token("ADDED", {"metadata": metadata, "spec": {"scopeMapRef": {"name": "demo"}}})
    token = cache.token("web.reader")
    assert token is not None
    assert token.enabled


@pytest.mark.parametrize(
    ("passwords", "revoked"),
    [
        (None, frozenset()),
        ({}, frozenset()),
        ({"lifetime": "3h"}, frozenset()),
        ({"revoked": None}, frozenset()),
        ({"revoked": []}, frozenset()),
        ({"revoked": ["aaaaaa", "bbbbbb"]}, frozenset({"aaaaaa", "bbbbbb"})),
    ],
)
def test_which_passwords_a_token_revokes(passwords: Any, revoked: frozenset[str]) -> None:
    world = World()
    world.token(passwords=passwords)
    token = world.cache.token("web.reader")
    assert token is not None
    assert token.revoked == revoked


def test_tokens_that_revoke_nothing_share_what_they_keep_of_it() -> None:
    world = World()
    one = world.cache.token("web.reader")
    world.token(passwords={"lifetime": "3h"})
    other = world.cache.token("web.reader")
    assert one is not None
    assert other is not None
    assert one.revoked is other.revoked


@pytest.mark.parametrize(
    "spec",
    [
        {},
        None,
        {"rules": [{"repositories": ["a"], "actions": ["content/read"]}]},
        {"rules": [{"repositories": ["a*"], "actions": ["content/read"]}], "allowedNamespaces": {"from": "All"}},
        {"rules": [], "allowedNamespaces": {"from": "All"}},
        {"rules": [{"repositories": ["a"], "actions": ["content/read"]}], "allowedNamespaces": {"from": "Some"}},
    ],
)
def test_a_scope_map_that_cannot_be_read_grants_nothing(spec: Any) -> None:
    world = World()
    world.cache.on_scope_map("MODIFIED", {"metadata": {"name": "demo", "uid": "m"}, "spec": spec})
    assert "demo" not in world.cache.scope_maps
    world.scope_map()
    assert "demo" in world.cache.scope_maps


def record_secret(world: World, **metadata: Any) -> dict[str, Any]:
    credential = world.cache.credential("uid-1")
    assert credential is not None
    content = base64.b64encode(b'{"tokenUid":"uid-1","namespace":"web","name":"reader","slots":{}}').decode()
    labels = {"pullpass.dev/component": "credential-record"}
    return {
        "metadata": {"name": "rt-uid-1", "resourceVersion": "99", "labels": labels} | metadata,
        "data": {"record.json": content},
    }


def test_a_record_is_found_by_the_uid_of_its_token() -> None:
    world = World()
    world.cache.on_secret("MODIFIED", record_secret(world))
    credential = world.cache.credential("uid-1")
    assert credential is not None
    assert (credential.version, credential.slots) == ("99", ())
    assert world.cache.credential("uid-2") is None


def test_a_deleted_record_is_gone() -> None:
    world = World()
    world.cache.on_secret("DELETED", {"metadata": {"name": "rt-uid-1", "uid": "s"}})
    assert world.cache.credential("uid-1") is None


@pytest.mark.parametrize("labels", [None, {}, {"pullpass.dev/component": "pull-secret"}])
def test_a_record_that_is_none_any_more_lets_nobody_in(labels: Any) -> None:
    world = World()
    world.cache.on_secret("MODIFIED", record_secret(world, labels=labels))
    assert world.cache.credential("uid-1") is None


@pytest.mark.parametrize("data", [None, {}, {"record.json": "?"}, {"record.json": "bm90IGpzb24="}])
def test_a_record_that_cannot_be_read_lets_nobody_in(data: Any, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.cache.on_secret("MODIFIED", record_secret(world) | {"data": data})
    assert world.cache.credential("uid-1") is None
    assert "rt-uid-1" in caplog.text


def test_a_record_under_the_name_of_another_token_lets_nobody_in() -> None:
    world = World()
    world.cache.on_secret("ADDED", record_secret(world, name="rt-uid-2"))
    assert world.cache.credential("uid-2") is None


def test_other_secrets_are_no_records() -> None:
    world = World()
    world.cache.on_secret("ADDED", record_secret(world, labels={"pullpass.dev/component": "pull-secret"}, name="rt-x"))
    world.cache.on_secret("ADDED", record_secret(world, labels=None, name="rt-y"))
    assert list(world.cache.credentials) == ["rt-uid-1"]


@pytest.mark.parametrize("data", [None, {}, {"tls.crt": "", "tls.key": ""}, {"tls.crt": "?", "tls.key": "?"}])
def test_an_unreadable_leaf_leaves_the_one_in_use(data: Any, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    before = world.cache.signers["default"]
    broken = copy.deepcopy(SIGNING_SECRET) | {"data": data}
    with caplog.at_level(logging.ERROR):
        world.cache.on_secret("MODIFIED", broken)
    assert world.cache.signers["default"] is before is not None
    assert "pullpass-signing" in caplog.text


def test_a_deleted_leaf_stays_in_use_and_a_new_one_takes_over() -> None:
    world = World()
    before = world.cache.signers["default"]
    world.cache.on_secret("DELETED", {"metadata": {"name": "pullpass-signing", "uid": "s"}})
    assert world.cache.signers["default"] is before
    world.cache.on_secret("ADDED", SIGNING_SECRET)
    assert world.cache.signers["default"] is not before


def test_hashes_are_not_in_the_repr() -> None:
    credential = World().cache.credential("uid-1")
    assert credential is not None
    assert "$2b$" not in repr(credential)


def test_equal_sets_of_allowed_namespaces_are_kept_once() -> None:
    cache = AccessCache(TWO)
    spec = {
        "rules": [{"repositories": ["a"], "actions": ["content/read"]}],
        "allowedNamespaces": {"from": "Names", "names": ["web"]},
    }
    for name in ("one", "two"):
        cache.on_scope_map("ADDED", {"metadata": {"name": name, "uid": name}, "spec": spec})
    assert cache.scope_maps["one"].allowed is cache.scope_maps["two"].allowed


def test_each_registry_has_its_own_leaf() -> None:
    world = World()
    mine = world.cache.signers["default"]
    world.cache.on_secret("ADDED", OTHER_SIGNING_SECRET)
    assert world.cache.signers["default"] is mine
    assert world.cache.signers["other"].kid != mine.kid


def test_a_leaf_of_a_registry_that_is_none_of_ours_is_not_taken() -> None:
    world = World()
    before = dict(world.cache.signers)
    for name in ("pullpass-signing-third", "pullpass-signing-default", "pullpass-signing-", "pullpass-signings"):
        world.cache.on_secret("ADDED", OTHER_SIGNING_SECRET | {"metadata": {"name": name, "uid": "s"}})
    assert world.cache.signers == before
    assert len(world.cache.credentials) == 1
