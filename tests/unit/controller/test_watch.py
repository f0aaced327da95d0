"""How Kopf is set up, and what it tells of its lists."""

import logging
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from kopf._cogs.clients import errors

from pullpass.api import names
from pullpass.controller import watch
from pullpass.controller.cache import Cache
from pullpass.kube.resources import (
    NAMESPACES,
    REGISTRY_TOKENS,
    SCOPE_MAPS,
    SECRETS,
    SERVICE_ACCOUNTS,
    Resource,
)
from tests.unit.controller.world import World

LOGGERS = ("kopf", "aiohttp.access")


@pytest.fixture
def _levels() -> Iterator[None]:
    before = {name: logging.getLogger(name).level for name in LOGGERS}
    yield
    for name, level in before.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.usefixtures("_levels")
def test_kopf_logs_neither_objects_nor_probes() -> None:
    """At debug level it logs whole objects, and at info each probe of the health port that it serves."""
    for name in LOGGERS:
        logging.getLogger(name).setLevel(logging.NOTSET)
    watch.make_kopf_settings()
    for name in LOGGERS:
        assert not logging.getLogger(name).isEnabledFor(logging.INFO)
        assert logging.getLogger(name).isEnabledFor(logging.WARNING)


RESOURCE = SimpleNamespace(plural="registrytokens")


def listed(name: str, version: int, uid: str = "") -> dict[str, Any]:
    metadata = {"namespace": "web", "name": name, "uid": uid or f"uid-{name}", "resourceVersion": str(version)}
    return {"metadata": metadata, "spec": {"scopeMapRef": {"name": "demo"}}}


def pages(monkeypatch: pytest.MonkeyPatch, *lists: list[list[dict[str, Any]] | int]) -> None:
    """Kopf gets these lists, one after the other: pages, or the status of an error."""
    left = list(lists)

    async def fetch_objs(**_: Any) -> AsyncIterator[tuple[list[dict[str, Any]], str]]:
        for page in left.pop(0):
            if isinstance(page, int):
                raise errors.APIClientError("no list", status=page, headers={})
            yield page, "9"

    monkeypatch.setattr(watch, "_list_objects", fetch_objs)


async def told(cache: Cache) -> list[str]:
    """What Kopf tells of a list, each taken note of at once."""
    said = []
    async for objects, version in watch.make_lister(cache)(resource=RESOURCE):
        assert version == "9"
        for body in objects:
            said.append(f"{body['metadata']['name']} {body['metadata']['resourceVersion']}")
            cache.observe_token(None, body)
    return said


async def test_a_list_that_the_api_server_forgets_begins_anew_and_comes_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = [listed("a", 1)], [listed("b", 2)]
    changed = [listed("a", 1)], [listed("b", 5), listed("c", 3)]
    pages(monkeypatch, [*first, 410], [*changed, 410], [*changed, [listed("d", 4)]])
    assert await told(Cache()) == ["a 1", "b 2", "b 5", "c 3", "d 4"]


async def test_what_is_known_is_not_told_again_and_its_successor_is(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache()
    for body in (listed("a", 3), listed("b", 3), listed("c", 3)):
        cache.observe_token(None, body)
    pages(monkeypatch, [[listed("a", 3), listed("b", 2), listed("c", 4, uid="another"), listed("d", 1)]])
    assert await told(cache) == ["c 4", "d 1"]


@pytest.mark.parametrize("answers", [[[listed("a", 1)], 403], [410]])
async def test_other_errors_of_a_list_are_kopf_s(monkeypatch: pytest.MonkeyPatch, answers: list[Any]) -> None:
    """A first page that is gone is one of them: to ask for it without end would wear the API server out."""
    pages(monkeypatch, answers)
    with pytest.raises(errors.APIClientError):
        await told(Cache())


@pytest.mark.parametrize("resource", [REGISTRY_TOKENS, SCOPE_MAPS, NAMESPACES, SERVICE_ACCOUNTS, SECRETS])
async def test_an_object_of_each_kind_is_held_once_it_was_observed(resource: Resource) -> None:
    world = World()
    world.token(pullSecret={"serviceAccounts": ["default"]})
    await world.work()
    bodies = [
        body
        for body in world.api.of(resource)
        if resource is not SECRETS or names.COMPONENT_LABEL in (body["metadata"].get("labels") or {})
    ]
    assert bodies
    for body in bodies:
        newer = {**body, "metadata": {**body["metadata"], "resourceVersion": "999999"}}
        other = {**body, "metadata": {**body["metadata"], "uid": "another"}}
        assert not Cache().holds(resource.plural, body)
        assert world.cache.holds(resource.plural, body)
        assert not world.cache.holds(resource.plural, newer)
        assert not world.cache.holds(resource.plural, other)
