"""What is in the way of a credential record, however long: the token says so, and goes on by itself afterwards."""

from datetime import timedelta

import pytest

from pullpass.api import names
from pullpass.credentials.record import Record
from pullpass.kube.client import Conflict
from pullpass.kube.resources import SECRETS
from tests.unit.controller.fake_api import Place
from tests.unit.controller.stripping_api import StrippingApi
from tests.unit.controller.world import World


async def go_on(world: World) -> None:
    for _ in range(5):
        await world.work(rounds=4)
        world.now += timedelta(seconds=15)


def said(world: World) -> str:
    (ready,) = (c for c in world.status()["conditions"] if c["type"] == "Ready")
    assert (ready["status"], ready["reason"]) == ("Unknown", "RecordNotWritten")
    assert "RecordNotWritten" in world.events()
    return str(ready["message"])


async def test_a_webhook_that_answers_409_for_ever() -> None:
    world = World()

    def before_write(_: str, place: Place) -> None:
        if place[:2] == ("secrets", "credentials"):
            raise Conflict("admission webhook 'x' denied it", 409)

    world.api.before_write = before_write
    world.token()
    await go_on(world)
    assert "webhook 'x'" in said(world)
    world.api.before_write = lambda *_: None
    await go_on(world)
    assert world.condition() == ("True", "Ready")


async def test_a_lost_race_is_not_told() -> None:
    world, left = World(), [2]

    def before_write(_: str, place: Place) -> None:
        if place[:2] == ("secrets", "credentials") and left[0]:
            left[0] -= 1
            raise Conflict("changed meanwhile", 409)

    world.api.before_write = before_write
    world.token()
    await go_on(world)
    assert world.condition() == ("True", "Ready")
    assert "RecordNotWritten" not in world.events()


@pytest.mark.parametrize("content", [{}, {"record": "e30="}, {"record": "AAAA"}])
async def test_another_secret_of_that_name(content: dict[str, str]) -> None:
    world = World()
    name = names.record_name(world.token())
    world.api.put(SECRETS, {"metadata": {"namespace": "credentials", "name": name}, "data": content})
    await go_on(world)
    assert f"Secret credentials/{name} is in the way" in said(world)
    assert "delete it" in said(world)
    world.api.remove(SECRETS, "credentials", name)
    await go_on(world)
    assert world.condition() == ("True", "Ready")


async def test_a_record_in_a_secret_of_another_type() -> None:
    world = World()
    uid = world.token()
    body = Record(uid, "web", "reader").to_secret("credentials")
    body["metadata"].pop("labels")
    world.api.put(SECRETS, body | {"type": "Opaque"})
    await go_on(world)
    assert "delete it" in said(world)


async def test_labels_that_are_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """No watch brings such a record, so a token server would refuse what is in it."""
    api = StrippingApi("credentials", "labels")
    monkeypatch.setattr("tests.unit.controller.world.FakeApi", lambda: api)
    world = World()
    uid = world.token()
    await go_on(world)
    assert f"without {names.MANAGED_BY_LABEL}" in said(world)
    assert world.passwords() == {}
    api.kinds = ()
    await go_on(world)
    assert world.condition() == ("True", "Ready")
    labels = world.api.objects["secrets", "credentials", names.record_name(uid)]["metadata"]["labels"]
    assert labels[names.TOKEN_UID_LABEL] == uid
