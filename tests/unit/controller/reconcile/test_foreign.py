"""What is not ours is left as it is (promise 4)."""

import pytest

from pullpass.controller.queue import Key
from pullpass.kube.resources import REGISTRY_TOKENS, SECRETS, SERVICE_ACCOUNTS
from tests.unit.controller.fake_api import Body, Place
from tests.unit.controller.reconcile.scene import EVERYWHERE, FAR, OWN, ROTATING
from tests.unit.controller.world import World


@pytest.mark.parametrize(
    ("labels", "annotations"),
    [
        ({}, {}),
        ({"app.kubernetes.io/managed-by": "pullpass"}, {}),
        (
            {
                "app.kubernetes.io/managed-by": "pullpass",
                "pullpass.dev/component": "pull-secret",
                "pullpass.dev/token-uid": "uid-of-another",
            },
            {"pullpass.dev/token": "web/another"},
        ),
    ],
    ids=["foreign", "half-labelled", "of another token"],
)
async def test_a_foreign_secret_is_left_as_it_is(
    world: World, labels: dict[str, str], annotations: dict[str, str]
) -> None:
    foreign = world.api.put(
        SECRETS,
        {
            "metadata": {"namespace": "web", "name": "reader-pull", "labels": labels, "annotations": annotations},
            "type": "Opaque",
            "data": {"key": "dmFsdWU="},
        },
    )
    world.token(**EVERYWHERE)
    world.api.after_write = lambda: None
    outcome = await world.work(rounds=3)
    assert outcome.retry is not None
    assert world.api.objects["secrets", "web", "reader-pull"] == foreign
    assert world.condition() == ("False", "SecretNotOwned")
    assert world.condition("Stalled") == ("True", "SecretNotOwned")
    assert FAR in world.passwords(), "the other places do not wait for it"
    writes = len(world.api.writes)
    await world.work(rounds=3)
    assert len(world.api.writes) == writes
    world.api.remove(SECRETS, "web", "reader-pull")
    world.api.after_write = world.holds
    await world.work()
    assert world.condition() == ("True", "Ready")


async def test_a_secret_made_just_before_the_write_is_left_as_it_is(world: World) -> None:
    foreign: Body = {}

    def sneak(verb: str, place: Place) -> None:
        if verb == "apply" and place == ("secrets", *OWN) and not foreign:
            foreign.update(
                world.api.put(SECRETS, {"metadata": {"namespace": "web", "name": "reader-pull"}, "data": {}})
            )

    world.api.before_write = sneak
    world.token(**EVERYWHERE)
    await world.work(rounds=3)
    assert world.api.objects["secrets", *OWN] == foreign
    assert world.condition() == ("False", "SecretNotOwned")


async def test_a_successor_takes_the_secret_over_in_place(world: World) -> None:
    world.token(passwords=ROTATING, pullSecret={"deletionPolicy": "Retain"})
    await world.work()
    secret = world.api.objects["secrets", *OWN]["metadata"]
    world.api.remove(REGISTRY_TOKENS, "web", "reader")
    uid = world.token(passwords=ROTATING, pullSecret={"deletionPolicy": "Retain"})
    await world.work()
    taken = world.api.objects["secrets", *OWN]["metadata"]
    assert taken["uid"] == secret["uid"]
    assert taken["labels"]["pullpass.dev/token-uid"] == uid != secret["labels"]["pullpass.dev/token-uid"]


async def test_foreign_entries_of_a_service_account_stay(world: World) -> None:
    world.account("web", "default", "one", "two")
    world.token(**EVERYWHERE)
    await world.work()
    assert world.entries() == ["one", "two", "reader-pull"]
    world.token(passwords=ROTATING)
    await world.work()
    assert world.entries() == ["one", "two"]
    assert world.entries("staging") == []


@pytest.mark.parametrize("watch", [True, False])
async def test_a_service_account_that_changes_meanwhile_keeps_both_changes(world: World, watch: bool) -> None:
    changed: list[bool] = []

    def sneak(verb: str, place: Place) -> None:
        if place == ("serviceaccounts", "web", "default") and not changed:
            changed.append(True)
            world.api.edit(
                SERVICE_ACCOUNTS, "web", "default", lambda body: body.update(imagePullSecrets=[{"name": "new"}])
            )

    world.token(**EVERYWHERE)
    world.deliver()
    world.api.before_write = sneak
    await world.work(watch=watch)
    assert world.entries() == ["new", "reader-pull"]


async def test_others_hear_of_a_change_that_was_met_on_the_way(world: World) -> None:
    """The watch has no news of what was read on the way, so the keys have to be queued there."""
    world.token("web", "other", pullSecret={"serviceAccounts": ["default"]})
    await world.work(Key("token", "web", "other"))
    world.token(**EVERYWHERE)
    world.deliver()
    world.api.edit(SERVICE_ACCOUNTS, "web", "default", lambda body: body.update(imagePullSecrets=[]))
    await world.one(world.place())
    assert world.place(name="other") in {*world.woken, *world.deliver()}
