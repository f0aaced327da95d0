"""Each way of being dead is refused, and mended it works again."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from pullpass.access.repositories import Rights
from pullpass.tokenserver.authentication import Identity
from pullpass.tokenserver.authorization import authorize
from pullpass.tokenserver.errors import UnauthenticatedError
from tests.unit.tokenserver.world import START, World, text

PULL = frozenset({"pull", "metadata_read"})


def rights(world: World, registry: str = "default") -> Rights:
    token = world.cache.token("web.reader")
    assert token is not None
    credential = world.cache.credential(token.uid)
    assert credential is not None
    return authorize(world.cache, Identity(token, credential.slots[0]), registry, world.now)


def gone(world: World) -> None:
    world.cache.on_namespace("DELETED", {"metadata": {"name": "web", "uid": "n"}})


def unmapped(world: World) -> None:
    world.cache.on_scope_map("DELETED", {"metadata": {"name": "demo", "uid": "m"}})


def turn(world: World, seconds: float) -> None:
    world.now = START + timedelta(seconds=seconds)


Change = Callable[[World], None]
ANOTHER = {"from": "Names", "names": ["other"]}
SELECTED = {"from": "Selector", "selector": {"matchLabels": {"team": "web"}}}

WAYS: dict[str, tuple[Change, Change]] = {
    "token is disabled": (lambda w: w.token(enabled=False), lambda w: w.token()),
    "token has ended": (
        lambda w: w.token(expiresAt=text(START)),
        lambda w: w.token(expiresAt=text(START + timedelta(seconds=1))),
    ),
    "password has ended": (
        lambda w: w.record(expires_at=START),
        lambda w: w.record(expires_at=START + timedelta(seconds=1)),
    ),
    "password is revoked": (
        lambda w: w.token(passwords={"revoked": ["0b7aa2", "aaaaaa"]}),
        lambda w: w.token(passwords={"revoked": ["0b7aa2"]}),
    ),
    "namespace is gone": (gone, lambda w: w.namespace()),
    "scope map is missing or unreadable": (unmapped, lambda w: w.scope_map()),
    "namespace is not allowed to use the scope map": (
        lambda w: w.scope_map(allowed=ANOTHER),
        lambda w: w.scope_map(allowed={"from": "Names", "names": ["web"]}),
    ),
}


def test_a_live_token_has_the_rights_of_its_scope_map() -> None:
    assert rights(World()).on("demo/nginx") == PULL


@pytest.mark.parametrize("reason", WAYS)
def test_dead_is_refused_and_mended_works_again(reason: str) -> None:
    kill, mend = WAYS[reason]
    world = World()
    kill(world)
    with pytest.raises(UnauthenticatedError) as refusal:
        rights(world)
    assert refusal.value.reason == reason
    assert reason not in str(refusal.value)
    mend(world)
    assert rights(world).on("demo/nginx") == PULL


@pytest.mark.parametrize(
    "kill",
    [
        pytest.param(lambda w: w.token(metadata={"deletionTimestamp": text(START)}), id="deletion has begun"),
        pytest.param(lambda w: w.token(scopeMapRef={"name": "other"}), id="another map"),
        pytest.param(lambda w: w.scope_map([{"repositories": ["a/*/b"], "actions": ["content/read"]}]), id="bad map"),
        pytest.param(lambda w: w.scope_map([{"repositories": ["a"], "actions": ["fly"]}]), id="unknown action"),
        pytest.param(lambda w: w.record(valid_until=START), id="replaced password"),
        pytest.param(
            lambda w: w.record(valid_until=START, expires_at=START + timedelta(days=1)), id="earlier of two ends"
        ),
    ],
)
def test_other_ways_of_being_dead(kill: Change) -> None:
    world = World()
    kill(world)
    with pytest.raises(UnauthenticatedError):
        rights(world)


def test_only_the_revoked_one_of_two_passwords_is_refused() -> None:
    world = World()
    world.record(ids=("bbbbbb", "aaaaaa"))
    world.token(passwords={"lifetime": "3h", "revoked": ["aaaaaa"]})
    assert rights(world).on("demo/nginx") == PULL
    world.token(passwords={"lifetime": "3h", "revoked": ["bbbbbb"]})
    with pytest.raises(UnauthenticatedError, match="no access any more"):
        rights(world)


def test_a_changed_label_takes_and_gives_access() -> None:
    world = World()
    world.scope_map(allowed=SELECTED)
    assert rights(world).on("demo/nginx") == PULL
    world.namespace(labels={"team": "db"})
    with pytest.raises(UnauthenticatedError):
        rights(world)
    world.namespace(labels={"team": "web"})
    assert rights(world).on("demo/nginx") == PULL


def test_the_clock_alone_ends_a_password() -> None:
    world = World()
    world.record(expires_at=START + timedelta(seconds=10))
    turn(world, 9.999)
    assert rights(world)
    turn(world, 10)
    with pytest.raises(UnauthenticatedError):
        rights(world)


def test_a_token_is_for_the_registry_of_its_scope_map_only() -> None:
    world = World()
    with pytest.raises(UnauthenticatedError) as caught:
        rights(world, "other")
    assert caught.value.reason == "scope map is for another registry"
    world.scope_map(registry="other")
    assert rights(world, "other").on("demo/nginx") == PULL
    with pytest.raises(UnauthenticatedError):
        rights(world)
    world.scope_map(registry="nobody-knows")
    for registry in ("default", "other"):
        with pytest.raises(UnauthenticatedError):
            rights(world, registry)
