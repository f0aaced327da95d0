"""What is told where token servers lack a signing leaf: on tokens of that registry only, and not before it lasts."""

from datetime import timedelta
from typing import Any

import pytest

from pullpass.controller.keys import availability
from pullpass.controller.process import AVAILABILITY
from pullpass.controller.queue import Key
from pullpass.kube.client import Unavailable
from tests.unit.controller.world import World

OF_OTHER = Key("token", "web", "of-other")
READY, WITHOUT_KEY = ("True", "Ready"), ("False", "SigningKeyUnavailable")
SECOND = timedelta(seconds=1)


class Scene(World):
    """A token of each of two registries, settled, with token servers that have leaves of both."""

    async def begin(self) -> None:
        self.scope_map(name="other", registry="other")
        self.token()
        self.token(name=OF_OTHER.name, scopeMapRef={"name": "other"})
        await self.work(news=[OF_OTHER])
        await self.after(timedelta())
        assert self.said() == {"reader": READY, OF_OTHER.name: READY}

    async def after(self, time: timedelta) -> None:
        """Time passes, and what is due is done."""
        self.now += time
        await self.work(AVAILABILITY)

    def said(self) -> dict[str, tuple[str, str]]:
        """The condition Ready of each token."""
        found = {}
        for name in ("reader", OF_OTHER.name):
            ready = next(c for c in self.status(name=name)["conditions"] if c["type"] == "Ready")
            found[name] = (ready["status"], ready["reason"])
        return found


@pytest.fixture
async def world() -> Scene:
    scene = Scene()
    await scene.begin()
    return scene


def lose(world: World) -> None:
    world.servers.issuing_for = {"default"}


async def lost(world: Scene) -> None:
    """The leaf of the other registry is lost for so long that it is told."""
    lose(world)
    await world.after(SECOND)
    await world.after(availability.DOUBT)
    assert world.said() == {"reader": READY, OF_OTHER.name: WITHOUT_KEY}


async def test_the_tokens_of_that_registry_say_so_and_again_when_it_is_back(world: Scene) -> None:
    await lost(world)
    ready, *_, reconciling = world.status(name=OF_OTHER.name)["conditions"]
    assert "registry other are answered with 503" in ready["message"]
    assert (reconciling["type"], reconciling["reason"]) == ("Reconciling", "SigningKeyUnavailable")
    assert world.events().count("SigningKeyUnavailable") == 1
    world.servers.issuing_for = None
    await world.after(availability.DOUBT)
    assert world.said() == {"reader": READY, OF_OTHER.name: READY}


async def test_a_leaf_that_is_only_on_its_way_is_no_news(world: Scene) -> None:
    writes = world.api.calls
    lose(world)
    await world.after(SECOND)
    await world.after(availability.DOUBT - SECOND)
    world.servers.issuing_for = None
    await world.after(SECOND)
    lose(world)
    await world.after(SECOND)
    assert world.said()[OF_OTHER.name] == READY
    assert world.api.calls == writes


async def test_no_token_server_that_answers_is_no_news_of_a_registry(world: Scene) -> None:
    world.servers.issuing_for = "nobody"
    for _ in range(3):
        await world.after(availability.ASK_AGAIN)
    assert world.said()[OF_OTHER.name] == READY
    await lost(world)
    world.servers.issuing_for = "nobody"
    await world.after(availability.ASK_AGAIN)
    assert world.said()[OF_OTHER.name] == WITHOUT_KEY


async def test_while_it_lasts_nothing_is_written_again(world: Scene) -> None:
    await lost(world)
    writes = world.api.calls
    for _ in range(10):
        await world.after(availability.DOUBT)
    assert world.api.calls == writes


async def test_a_new_leader_takes_it_over_without_a_write(world: Scene) -> None:
    await lost(world)
    world.restart()
    writes = world.api.calls
    await world.work(news=[OF_OTHER])
    await world.after(SECOND)
    await world.after(availability.DOUBT)
    assert world.said()[OF_OTHER.name] == WITHOUT_KEY
    assert world.api.calls == writes
    world.restart()
    world.servers.issuing_for = None
    await world.work(news=[OF_OTHER])
    await world.after(SECOND)
    assert world.said()[OF_OTHER.name] == READY


async def test_a_clock_that_is_set_back_keeps_nothing_from_being_told(world: Scene) -> None:
    lose(world)
    await world.after(SECOND)
    await world.after(-timedelta(hours=1))
    await world.after(availability.DOUBT)
    assert world.said()[OF_OTHER.name] == WITHOUT_KEY


async def test_an_api_server_that_does_not_answer_changes_nothing(
    world: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def issuing(*_: Any) -> None:
        raise Unavailable("no answer")

    await lost(world)
    monkeypatch.setattr(world.servers, "issuing", issuing)
    await world.after(availability.DOUBT)
    assert world.said()[OF_OTHER.name] == WITHOUT_KEY
