"""The sweep: what goes once a token is gone, and what never goes by mistake."""

from typing import Any

import pytest

from pullpass.controller.queue import Key
from pullpass.kube.client import NotFound, Refused, Unavailable
from pullpass.kube.resources import REGISTRY_TOKENS, SECRETS, SERVICE_ACCOUNTS
from tests.unit.controller.fake_api import Killed, Place
from tests.unit.controller.world import KEY, World

SPEC: dict[str, Any] = {"pullSecret": {"serviceAccounts": ["default"], "namespaces": ["staging"]}}


@pytest.fixture
async def world() -> World:
    world = World()
    world.account("web", "default", "one")
    world.token(**SPEC)
    await world.work()
    assert len(world.passwords()) == 2
    return world


def delete_token(world: World) -> str:
    uid = str(world.api.objects["registrytokens", "web", "reader"]["metadata"]["uid"])
    world.api.remove(REGISTRY_TOKENS, "web", "reader")
    return uid


async def test_everything_goes(world: World) -> None:
    uid = delete_token(world)
    assert world.deliver() == {Key("cleanup", name=uid)}
    await world.sweep(uid)
    assert world.passwords() == {}
    assert ("secrets", "credentials", f"rt-{uid}") not in world.api.objects
    assert world.entries() == ["one"]
    assert world.entries("staging") == []
    world.deliver()
    calls = world.api.calls
    await world.sweep(uid)
    assert world.api.calls == calls, "nothing is left to ask for"


async def test_a_new_leader_finds_what_is_left(world: World) -> None:
    uid = delete_token(world)
    world.restart()
    assert list(world.cache.every_key()) == [Key("cleanup", name=uid)]


async def test_while_the_token_lives_nothing_goes(world: World) -> None:
    uid = str(world.api.objects["registrytokens", "web", "reader"]["metadata"]["uid"])
    before = dict(world.api.objects)
    await world.sweep(uid)
    # Nor where the cache has not seen the token: the API server has.
    world.cache.tokens.clear()
    world.cache.tokens_by_uid.clear()
    await world.sweep(uid)
    assert world.api.objects == before


async def test_while_the_kind_is_not_served_nothing_goes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    uid = delete_token(world)

    async def not_served(*_: object, **__: object) -> None:
        raise NotFound("the server could not find the requested resource", 404)

    monkeypatch.setattr(world.api, "list_page", not_served)
    before = dict(world.api.objects)
    await world.work(Key("cleanup", name=uid), rounds=2)
    assert world.failing
    assert world.api.objects == before


async def test_while_the_api_server_is_away_nothing_goes(world: World) -> None:
    uid = delete_token(world)
    before = dict(world.api.objects)
    world.api.fault = (world.api.calls + 1, "before", Unavailable("no answer"))
    await world.work(Key("cleanup", name=uid), rounds=1)
    assert world.failing
    assert world.api.objects == before


async def test_what_is_retained_stays(world: World) -> None:
    world.token(pullSecret=SPEC["pullSecret"] | {"deletionPolicy": "Retain"})
    await world.work()
    uid = delete_token(world)
    await world.sweep(uid)
    assert set(world.passwords()) == {("web", "reader-pull"), ("staging", "reader-pull")}
    assert ("secrets", "credentials", f"rt-{uid}") not in world.api.objects
    world.deliver()
    calls = world.api.calls
    await world.sweep(uid)
    assert world.api.calls == calls


async def test_cut_off_anywhere_it_is_taken_up_again(world: World) -> None:
    uid = delete_token(world)
    for _ in range(20):
        fault = world.api.fault = (world.api.calls + 3, "after", Killed())
        try:
            await world.work(Key("cleanup", name=uid))
        except Killed:
            world.restart()
        if world.api.calls < fault[0]:
            break
    world.api.fault = None
    await world.sweep(uid)
    assert world.passwords() == {}
    assert world.entries() == ["one"]
    assert world.entries("staging") == []


async def test_a_secret_made_anew_by_somebody_else_stays(world: World) -> None:
    uid = delete_token(world)
    world.deliver()
    world.api.remove(SECRETS, "web", "reader-pull")
    world.api.put(SECRETS, {"metadata": {"namespace": "web", "name": "reader-pull"}, "type": "Opaque"})
    await world.work(Key("cleanup", name=uid), watch=False)
    assert ("secrets", "web", "reader-pull") in world.api.objects


async def test_a_service_account_that_changed_meanwhile_comes_again(world: World) -> None:
    uid = delete_token(world)
    world.deliver()
    world.api.edit(SERVICE_ACCOUNTS, "web", "default", lambda b: b["imagePullSecrets"].insert(0, {"name": "zero"}))
    await world.work(Key("cleanup", name=uid), watch=False, rounds=1)
    assert Key("place", "web", uid) in world.failing
    await world.sweep(uid)
    assert world.entries() == ["zero", "one"]


async def test_what_is_in_the_way_in_one_place_does_not_keep_the_others(world: World) -> None:
    """Whoever may write in one namespace must not be able to keep the rests of a token in others."""
    uid = delete_token(world)
    world.deliver()
    world.api.refusing["delete", ("secrets", "staging", "reader-pull")] = Refused("policy", 403)
    world.api.edit(SERVICE_ACCOUNTS, "staging", "default", lambda b: b.update(secrets=[{"name": "changed"}]))
    await world.work(Key("cleanup", name=uid), watch=False, rounds=1)
    assert world.failing == {Key("place", "staging", uid)}
    assert ("secrets", "credentials", f"rt-{uid}") not in world.api.objects
    assert set(world.passwords()) == {("staging", "reader-pull")}
    assert world.entries() == ["one"]
    world.api.refusing.clear()
    await world.sweep(uid)
    assert world.passwords() == {}
    assert world.entries("staging") == []


async def test_a_service_account_that_went_meanwhile_is_no_matter(world: World) -> None:
    uid = delete_token(world)
    world.deliver()
    world.api.remove(SERVICE_ACCOUNTS, "web", "default")
    await world.work(Key("cleanup", name=uid), watch=False)
    assert world.entries("staging") == []


async def test_an_entry_of_a_token_that_nobody_knows_goes(world: World) -> None:
    world.api.put(
        SERVICE_ACCOUNTS,
        {
            "metadata": {
                "namespace": "web",
                "name": "old",
                "annotations": {"pullpass.dev/image-pull-secrets": "gone-pull=uid-0"},
            },
            "imagePullSecrets": [{"name": "gone-pull"}, {"name": "kept"}],
        },
    )
    assert Key("place", "web", "uid-0") in world.deliver()
    await world.sweep("uid-0")
    assert world.entries("web", "old") == ["kept"]


async def test_a_successor_gets_its_entry_back(world: World) -> None:
    """The entry under the same name is the old token's; when it goes, the new token has to hear of it."""
    old = delete_token(world)
    world.token(**SPEC)
    await world.work()
    assert world.entries() == ["one", "reader-pull"]
    await world.sweep(old)
    assert world.entries() == ["one", "reader-pull"]
    assert world.condition() == ("True", "Ready")
    assert len(world.passwords()) == 2


async def test_a_successor_keeps_the_secrets_it_took_over(world: World) -> None:
    old = delete_token(world)
    world.token(**SPEC)
    world.deliver()
    for key in (KEY, world.place(), world.place("staging"), KEY):
        await world.one(key)
    taken = world.passwords()
    deleted: list[Place] = []
    world.api.before_write = lambda verb, place: deleted.append(place) if verb == "delete" else None
    await world.sweep(old)
    assert deleted == [("secrets", "credentials", f"rt-{old}")]
    assert world.passwords() == taken


async def test_a_forged_annotation_asks_the_api_server_for_nothing_else(world: World) -> None:
    labels = {
        "app.kubernetes.io/managed-by": "pullpass",
        "pullpass.dev/component": "pull-secret",
        "pullpass.dev/token-uid": "nobody",
    }
    annotations = {"pullpass.dev/token": "web/../../../api/v1/namespaces/web/secrets/reader-pull"}
    metadata = {"namespace": "staging", "name": "forged", "labels": labels, "annotations": annotations}
    world.api.put(SECRETS, {"metadata": metadata, "type": "kubernetes.io/dockerconfigjson", "data": {}})
    assert world.deliver() == {Key("place", "staging", "nobody")}
    before = dict(world.api.objects)
    calls = world.api.calls
    await world.sweep("nobody")
    assert world.api.calls == calls + 2, "a list of tokens, and the deletion"
    del before["secrets", "staging", "forged"]
    assert world.api.objects == before
