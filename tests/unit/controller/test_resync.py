"""The cache comes to agree with what the API server lists, whatever the watches lost."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from pullpass.controller.cache import Cache
from pullpass.controller.queue import Key
from pullpass.controller.resync import resync
from pullpass.kube.client import Gone, Page, Unavailable
from pullpass.kube.resources import NAMESPACES, REGISTRY_TOKENS, SCOPE_MAPS, SECRETS, SERVICE_ACCOUNTS, Resource
from tests.unit.controller.world import KEY, World

PULL_SECRET = ("web", "reader-pull")


def lose(world: World) -> None:
    """What the watches have not told yet, they never will."""
    world.delivered = len(world.api.watched)


async def settled() -> World:
    world = World()
    world.token(pullSecret={"serviceAccounts": ["default"], "namespaces": ["staging"]})
    await world.work()
    assert world.condition() == ("True", "Ready")
    return world


def everything(cache: Cache) -> dict[str, Any]:
    parts = ("tokens", "tokens_by_uid", "scope_maps", "namespaces", "records", "pull_secrets")
    state: dict[str, Any] = {part: dict(getattr(cache, part)) for part in parts}
    for part in ("tokens_by_map", "tokens_by_target", "secrets_of", "entries_of", "service_accounts"):
        state[part] = {key: value for key, value in getattr(cache, part).items() if value}
    return state


async def test_an_empty_cache_learns_everything() -> None:
    world = await settled()
    cache = Cache()
    keys = await resync(world.api, cache, "credentials")
    assert everything(cache) == everything(world.cache)
    assert KEY in keys


async def test_a_cache_that_knows_all_has_nothing_to_do() -> None:
    world = await settled()
    world.deliver()
    before = everything(world.cache)
    writes = len(world.api.writes)
    assert await resync(world.api, world.cache, "credentials") == set()
    assert everything(world.cache) == before
    assert len(world.api.writes) == writes


async def test_a_list_that_the_api_server_forgets_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settled()
    whole, left = world.api.pages, ["secrets", "registrytokens", "secrets"]

    async def forgotten(resource: Resource, *arguments: Any, **more: Any) -> AsyncIterator[Page]:
        async for page in whole(resource, *arguments, **more):
            if resource.plural in left:
                left.remove(resource.plural)
                yield Page(page.items[:1], page.resource_version, "next")
                raise Gone("the provided continue parameter is too old", 410)
            yield page

    monkeypatch.setattr(world.api, "pages", forgotten)
    cache = Cache()
    keys = await resync(world.api, cache, "credentials")
    assert everything(cache) == everything(world.cache)
    assert KEY in keys
    assert left == []


async def test_a_list_that_is_gone_before_its_first_page_is_not_asked_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = await settled()

    async def gone(*_: Any, **__: Any) -> AsyncIterator[Page]:
        raise Gone("too old", 410)
        yield

    monkeypatch.setattr(world.api, "pages", gone)
    with pytest.raises(Gone):
        await resync(world.api, Cache(), "credentials")


async def test_a_pull_secret_whose_deletion_was_lost_is_made_again() -> None:
    world = await settled()
    world.api.remove(SECRETS, *PULL_SECRET)
    lose(world)
    await world.work()
    assert PULL_SECRET not in world.pull_secrets()
    assert world.place() in await resync(world.api, world.cache, "credentials")
    await world.work()
    assert PULL_SECRET in world.pull_secrets()


async def test_the_rests_of_a_token_whose_deletion_was_lost_are_swept() -> None:
    world = await settled()
    uid = world.cache.tokens[KEY].uid
    world.api.remove(REGISTRY_TOKENS, "web", "reader")
    lose(world)
    keys = await resync(world.api, world.cache, "credentials")
    assert Key("cleanup", name=uid) in keys
    await world.sweep(uid)
    assert world.pull_secrets() == {}
    assert uid not in {record.split("rt-")[-1] for _, _, record in world.api.objects}


@pytest.mark.parametrize(
    ("resource", "namespace", "name", "part"),
    [
        (SCOPE_MAPS, "", "demo", "scope_maps"),
        (NAMESPACES, "", "staging", "namespaces"),
        (SERVICE_ACCOUNTS, "staging", "default", "service_accounts"),
        (SECRETS, "credentials", "rt-", "records"),
    ],
)
async def test_a_lost_deletion_of_each_kind_is_noticed(
    resource: Resource, namespace: str, name: str, part: str
) -> None:
    world = await settled()
    if name == "rt-":
        name += world.cache.tokens[KEY].uid
    world.api.remove(resource, namespace, name)
    lose(world)
    before = everything(world.cache)[part]
    assert KEY in await resync(world.api, world.cache, "credentials")
    assert len(str(everything(world.cache)[part])) < len(str(before))


async def test_what_was_made_after_the_list_is_not_taken_for_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settled()
    listing = world.api.list_page

    async def list_then_make(resource: Resource, *args: Any, **more: Any) -> Any:
        page = await listing(resource, *args, **more)
        if resource is REGISTRY_TOKENS:
            world.token(name="late")
            world.deliver()
        return page

    monkeypatch.setattr(world.api, "list_page", list_then_make)
    await resync(world.api, world.cache, "credentials")
    assert Key("token", "web", "late") in world.cache.tokens


async def test_a_failed_list_changes_nothing_that_is_not_so(monkeypatch: pytest.MonkeyPatch) -> None:
    world = await settled()
    before = everything(world.cache)

    async def fail(*_: Any, **__: Any) -> Any:
        raise Unavailable("no answer", 503)

    monkeypatch.setattr(world.api, "list_page", fail)
    with pytest.raises(Unavailable):
        await resync(world.api, world.cache, "credentials")
    assert everything(world.cache) == before
