"""A pull secret that loses what names its token: it is told, and mended once it can be."""

from datetime import timedelta

import pytest

from pullpass.api import names
from pullpass.kube.client import Refused, Unavailable
from pullpass.kube.resources import SECRETS
from tests.unit.controller.places.test_harms_only_itself import SPEC, Clients, _message
from tests.unit.controller.stripping_api import StrippingApi
from tests.unit.controller.world import World


async def go_on(world: World) -> None:
    for _ in range(4):
        await world.work(rounds=3)
        world.now += timedelta(seconds=15)


@pytest.mark.parametrize(
    ("kinds", "lost"),
    [
        (("labels",), names.TOKEN_UID_LABEL),
        (("annotations",), names.TOKEN_ANNOTATION),
        (("labels", "annotations"), names.MANAGED_BY_LABEL),
    ],
)
async def test_by_a_policy(monkeypatch: pytest.MonkeyPatch, kinds: tuple[str, ...], lost: str) -> None:
    api = StrippingApi("staging", *kinds)
    monkeypatch.setattr("tests.unit.controller.world.FakeApi", lambda: api)
    world = World()
    world.namespace("zone", "web")
    world.account("zone", "default")
    world.token(**SPEC)
    await go_on(world)
    assert world.condition() == ("False", "WriteRefused")
    assert "Secret staging/reader-pull cannot be written" in _message(world, "Ready")
    assert lost in _message(world, "Ready")
    clients = Clients(world, ("staging",))
    await clients.pass_time(300)
    assert all(len(texts) > 4 for texts in clients.seen.values())
    api.kinds = ()
    await go_on(world)
    assert world.condition() == ("True", "Ready")
    assert world.lets_in(world.uid(), world.passwords()["staging", "reader-pull"])


async def test_a_secret_for_somebody_else_is_left_alone() -> None:
    world = World()
    other = {"metadata": {"namespace": "web", "name": "reader-pull"}, "type": names.PULL_SECRET_TYPE}
    for data in ({}, {names.PULL_SECRET_KEY: "e30="}, {names.PULL_SECRET_KEY: "eyJhdXRocyI6eyJhIjp7fX19"}):
        world.api.put(SECRETS, {**other, "data": data})
        world.token()
        await go_on(world)
        assert world.condition() == ("False", "SecretNotOwned")
        assert world.api.objects["secrets", "web", "reader-pull"]["data"] == data


async def test_removed_is_told_once_it_is_so() -> None:
    world = World()
    world.namespace("zone", "web")
    broken = ["staging"]

    def before_write(verb: str, place: tuple[str, str, str]) -> None:
        if verb == "delete" and place[1] in broken:
            raise Refused("HTTP 403", 403)

    world.api.before_write = before_write
    end = (world.now + timedelta(seconds=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
    world.token(**SPEC | {"expiresAt": end, "pullSecret": SPEC["pullSecret"] | {"whenRevoked": "Remove"}})
    await world.work()
    world.now += timedelta(seconds=60)
    await go_on(world)
    assert world.condition("PullSecretsSynced") == ("False", "WriteRefused")
    assert "Secret staging/reader-pull cannot be deleted" in _message(world, "PullSecretsSynced")
    assert world.condition() == ("False", "TokenExpired")
    broken.clear()
    await go_on(world)
    assert world.condition("PullSecretsSynced") == ("True", "Removed")
    assert world.pull_secrets() == {}


async def test_a_first_password_that_waits_for_a_place_says_which() -> None:
    world = World()
    world.namespace("zone", "web")

    def before_write(_: str, place: tuple[str, str, str]) -> None:
        if place[:2] == ("secrets", "staging"):
            raise Unavailable("no answer from the API server (TimeoutError)")

    world.api.before_write = before_write
    world.token(**SPEC)
    await world.work(rounds=1)
    world.now += timedelta(seconds=6)
    await world.work(rounds=1)
    assert world.condition()[0] != "True"
    assert "is being published, and waits for namespace staging" in _message(world, "Ready")
