"""A pull secret that loses what names its token: it is told, and mended once it can be."""

import base64
import json
from datetime import timedelta
from functools import partial

import pytest

from pullpass.api import names
from pullpass.kube.client import Refused, Unavailable
from pullpass.kube.resources import REGISTRY_TOKENS, SECRETS
from tests.unit.controller.fake_api import Body
from tests.unit.controller.places.test_harms_only_itself import SPEC, Clients, _message
from tests.unit.controller.stripping_api import StrippingApi
from tests.unit.controller.world import World


def annotate(annotations: dict[str, str], body: Body) -> None:
    body["metadata"]["annotations"] = annotations


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


async def test_the_user_name_alone_makes_no_secret_ours() -> None:
    world = World()
    config = json.dumps({"auths": {"registry.example": {"username": "web.reader", "password": "of somebody else"}}})
    data = {names.PULL_SECRET_KEY: base64.b64encode(config.encode()).decode()}
    body = {"metadata": {"namespace": "web", "name": "reader-pull"}, "type": names.PULL_SECRET_TYPE, "data": data}
    foreign = world.api.put(SECRETS, body)
    world.token()
    await go_on(world)
    assert world.condition() == ("False", "SecretNotOwned")
    assert world.api.objects["secrets", "web", "reader-pull"] == foreign


@pytest.mark.parametrize("named", [{}, {names.TOKEN_ANNOTATION: "web/other"}], ids=["of nobody", "of another token"])
async def test_labels_that_were_taken_off_by_hand_come_back_unless_it_names_another_token(
    named: dict[str, str],
) -> None:
    world = World()
    world.token()
    await go_on(world)
    before = world.api.objects["secrets", "web", "reader-pull"]["metadata"]

    def change(body: Body) -> None:
        body["metadata"] |= {"labels": {}, "annotations": named}

    world.api.edit(SECRETS, "web", "reader-pull", change)
    world.restart()
    world.now += timedelta(seconds=15)
    await go_on(world)
    assert world.condition()[1] == ("SecretNotOwned" if named else "Ready")
    after = world.api.objects["secrets", "web", "reader-pull"]["metadata"]
    assert after["uid"] == before["uid"]
    assert (after["labels"] == before["labels"]) == (not named)


@pytest.mark.parametrize("annotation", [names.ROTATE_ANNOTATION, names.REGENERATE_ANNOTATION])
async def test_a_policy_is_told_as_long_as_it_is_there(monkeypatch: pytest.MonkeyPatch, annotation: str) -> None:
    """However often the password in the Secret is replaced, also where the one before is forgotten at once."""
    api = StrippingApi("staging", "labels", "annotations")
    monkeypatch.setattr("tests.unit.controller.world.FakeApi", lambda: api)
    world = World()
    world.token(passwords={"overlap": "0s"}, pullSecret={"namespaces": ["staging"]})
    for number in range(3):
        await go_on(world)
        assert world.condition() == ("False", "WriteRefused")
        api.edit(REGISTRY_TOKENS, "web", "reader", partial(annotate, {annotation: str(number)}))
    api.kinds = ()
    await go_on(world)
    assert world.condition() == ("True", "Ready")
    assert len(set(world.passwords().values())) == 1


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
