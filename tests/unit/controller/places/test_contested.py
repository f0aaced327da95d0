"""Another controller that undoes what we do: how often we repair it, what is told, and what never waits."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import pytest

from pullpass.api.times import format_time
from pullpass.controller.queue import Key
from pullpass.kube.client import Refused
from pullpass.kube.resources import NAMESPACES, REGISTRY_TOKENS, SECRETS, SERVICE_ACCOUNTS
from tests.unit.controller.fake_api import Body, Place
from tests.unit.controller.world import KEY, START, World, hours

SPEC: dict[str, Any] = {
    "passwords": {"lifetime": "3h", "overlap": "10m"},
    "pullSecret": {"serviceAccounts": ["default"], "namespaces": ["staging"]},
}
ACCOUNT: Place = ("serviceaccounts", "web", "default")
SECRET: Place = ("secrets", "web", "reader-pull")
STATUS: Place = ("registrytokens", "web", "reader")


@pytest.fixture
async def world() -> World:
    world = World()
    # Others spoil pull secrets here, so what stands in them is not always accepted.
    world.api.after_write = lambda: None
    world.account("web", "default", "own")
    world.token(**SPEC)
    await world.work()
    assert world.condition() == ("True", "Ready")
    return world


def change_account(world: World, change: Callable[[Body], None]) -> None:
    world.api.edit(SERVICE_ACCOUNTS, "web", "default", change)


def strip(world: World) -> None:
    """Takes our entry out of the list, and leaves the annotation."""
    if "reader-pull" in world.entries():
        change_account(world, lambda body: body["imagePullSecrets"].pop())


def rewrite(world: World) -> None:
    """Writes list and annotations as they stand in some repository."""

    def as_written(body: Body) -> None:
        body["imagePullSecrets"] = [{"name": "own"}]
        body["metadata"]["annotations"] = {}

    change_account(world, as_written)


def spoil(world: World) -> None:
    """Writes another content into the pull secret."""
    world.api.edit(SECRETS, "web", "reader-pull", lambda body: body["data"].update({".dockerconfigjson": "e30="}))


def delete(world: World) -> None:
    """Deletes the pull secret."""
    if SECRET in world.api.objects:
        world.api.remove(SECRETS, "web", "reader-pull")


MADE = ("create", "secrets")


@dataclass
class Fight:
    """The other undoes it as soon as it is done; the queue brings the key for news and when it is due."""

    world: World
    undo: Callable[[World], None]
    key: Key = KEY
    due: datetime | None = None
    seen: list[tuple[str, str]] = field(default_factory=list)
    """What the Ready condition was, without repetitions."""

    async def last(self, seconds: float, step: float = 0.5) -> list[Place]:
        """Lets time pass; returns the places that we wrote to, events left out."""
        world = self.world
        before, end = len(world.api.writes), world.now + timedelta(seconds=seconds)
        while world.now < end:
            self.undo(world)
            news = world.deliver()
            if news or (self.due is not None and self.due <= world.now):
                self.due = (await world.work(self.key, news=news)).due
            if ("registrytokens", "web", "reader") in world.api.objects and self.seen[-1:] != [world.condition()]:
                self.seen.append(world.condition())
            world.now += timedelta(seconds=step)
        # A Secret that is made anew is created and then applied to, which is one repair.
        return [place for verb, place in world.api.writes[before:] if place[0] != "events" and (verb, place[0]) != MADE]


PEACE: Callable[[World], None] = lambda _: None  # noqa: E731

FIGHTS: dict[str, tuple[Callable[[World], None], Place]] = {
    "entry taken out": (strip, ACCOUNT),
    "list and annotations rewritten": (rewrite, ACCOUNT),
    "pull secret rewritten": (spoil, SECRET),
    "pull secret deleted": (delete, SECRET),
}


@pytest.mark.parametrize("name", FIGHTS)
async def test_a_fight_costs_few_writes_and_is_told_once(world: World, name: str) -> None:
    undo, place = FIGHTS[name]
    fight = Fight(world, undo)
    writes = await fight.last(60)
    # The first repair is at once, the next after 10 and 20 seconds, the one after that after 40.
    assert writes.count(place) == 3
    assert writes.count(STATUS) == 1
    assert set(writes) == {place, STATUS}
    assert fight.seen == [("True", "Ready"), ("False", "Contested")]
    assert world.condition("PullSecretsSynced") == ("False", "Contested")
    assert world.condition("Stalled") == ("True", "Contested")
    writes = await fight.last(3600, step=10)
    # A Secret that is missing comes back within 30 seconds, however often it was deleted.
    assert writes.count(place) <= (3600 / 30 if name == "pull secret deleted" else 10)
    assert set(writes) == {place}
    assert world.events().count("Contested") == 1


@pytest.mark.parametrize("name", FIGHTS)
async def test_it_heals_by_itself_once_the_other_stops(world: World, name: str) -> None:
    undo, place = FIGHTS[name]
    fight = Fight(world, undo)
    await fight.last(60)
    fight.undo = PEACE
    writes = await fight.last(300)
    assert writes.count(place) <= 1
    assert writes.count(STATUS) == 1
    assert fight.seen == [("True", "Ready"), ("False", "Contested"), ("True", "Ready")]
    assert world.entries() == ["own", "reader-pull"]
    assert len(set(world.passwords().values())) == 1
    assert await fight.last(3600, step=10) == []


async def test_a_secret_that_was_deleted_for_an_hour_is_back_soon_after_that(world: World) -> None:
    fight = Fight(world, delete)
    await fight.last(3600, step=5)
    delete(world)
    fight.undo = PEACE
    await fight.last(30)
    assert SECRET in world.api.objects


@pytest.mark.parametrize("name", FIGHTS)
async def test_one_accident_is_repaired_at_once_and_is_no_fight(world: World, name: str) -> None:
    FIGHTS[name][0](world)
    fight = Fight(world, PEACE)
    world.deliver()
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert await fight.last(1200, step=5) == []
    assert fight.seen == [("True", "Ready")]


@pytest.mark.parametrize("name", ["entry taken out", "list and annotations rewritten"])
async def test_a_user_settles_it_by_naming_the_secret_himself(world: World, name: str) -> None:
    undo, _ = FIGHTS[name]
    fight = Fight(world, undo)
    await fight.last(60)
    undo(world)
    change_account(world, lambda body: body["imagePullSecrets"].append({"name": "reader-pull"}))
    fight.undo = PEACE
    writes = await fight.last(1)
    assert writes == [STATUS], "it counts as present whoever put it there, and at once"
    assert fight.seen[-1] == ("True", "Ready")
    assert await fight.last(3600, step=10) == []


async def test_a_user_settles_it_by_leaving_the_account_out(world: World) -> None:
    fight = Fight(world, strip)
    await fight.last(60)
    world.token(**SPEC | {"pullSecret": {"namespaces": ["staging"]}})
    await fight.last(1)
    assert fight.seen[-1] == ("True", "Ready")


async def test_a_changed_spec_does_not_wait(world: World) -> None:
    fight = Fight(world, strip)
    await fight.last(60)
    world.token(**SPEC | {"passwords": {"lifetime": "4h", "overlap": "10m"}})
    assert ACCOUNT in await fight.last(0.5)


async def test_a_rotation_does_not_wait(world: World) -> None:
    world.now = START + hours(2) - timedelta(seconds=45)
    fight = Fight(world, spoil)
    await fight.last(45)
    fight.undo = PEACE
    spoil(world)
    writes = await fight.last(0.5)
    assert writes.count(SECRET) == 1
    assert world.record_of(world.uid()).published == "password2"
    assert len(set(world.passwords().values())) == 1


async def test_a_rotation_that_cannot_end_fights_no_more_than_others(world: World) -> None:
    """As long as one place refuses the new password, it is being published; meanwhile another is rewritten."""
    world.api.refusing["apply", ("secrets", "staging", "reader-pull")] = Refused("exceeded quota", 403)
    world.now += hours(2)
    writes = await Fight(world, spoil).last(60)
    assert writes.count(SECRET) <= 4
    assert world.condition() == ("False", "WriteRefused")


async def test_consent_withdrawn_does_not_wait(world: World) -> None:
    def toggle(consents: bool) -> None:
        accepts = {"pullpass.dev/accept-pull-secrets-from": "web"} if consents else {}
        world.api.edit(NAMESPACES, "", "staging", lambda body: body["metadata"].update(annotations=accepts))

    for round_ in range(20):
        toggle(bool(round_ % 2))
        await world.work()
        there = bool(round_ % 2)
        assert (("staging", "reader-pull") in world.passwords()) == there
        assert world.entries("staging") == (["reader-pull"] if there else [])
        world.now += timedelta(seconds=1)


END: dict[str, tuple[Callable[[World], Any], str]] = {
    "disabled": (lambda world: world.token(**SPEC, enabled=False), "TokenDisabled"),
    "ended": (lambda world: world.token(**SPEC, expiresAt=format_time(world.now)), "TokenExpired"),
    "not allowed": (lambda world: world.scope_map({"from": "Names", "names": []}), "NamespaceNotAllowed"),
}


@pytest.mark.parametrize("name", END)
async def test_a_token_without_access_is_not_called_contested(world: World, name: str) -> None:
    change, reason = END[name]
    fight = Fight(world, strip)
    await fight.last(30.5)
    assert world.entries() == ["own", "reader-pull"], "put back just now"
    fight.undo = PEACE
    change(world)
    await fight.last(1)
    assert fight.seen[-1] == ("False", reason)
    assert world.condition("PullSecretsSynced") == ("True", "Synced")


async def test_an_account_that_is_gone_is_not_fought_over(world: World) -> None:
    fight = Fight(world, strip)
    await fight.last(60)
    world.api.remove(SERVICE_ACCOUNTS, "web", "default")
    fight.undo = PEACE
    await fight.last(1)
    assert fight.seen[-1] == ("False", "ServiceAccountNotFound")


async def test_fights_over_many_accounts_are_apart(world: World) -> None:
    """A fight over one does not hold up the others, and the one message has all of them."""
    for name in ("a", "b"):
        world.account("web", name)
    world.token(**SPEC | {"pullSecret": {"serviceAccounts": ["*"]}})
    fight = Fight(world, strip)
    await fight.last(60)
    assert world.entries("web", "a") == world.entries("web", "b") == ["reader-pull"]
    world.account("web", "later")
    await fight.last(0.5)
    assert world.entries("web", "later") == ["reader-pull"], "the first adding never waits"


async def test_the_message_names_the_thing_and_never_changes(world: World) -> None:
    def strip_and_spoil(world: World) -> None:
        strip(world)
        spoil(world)

    fight = Fight(world, strip_and_spoil)
    messages = set()
    for _ in range(60):
        await fight.last(30, step=2)
        messages |= {c["message"] for c in world.status()["conditions"] if c["reason"] == "Contested"}
    (message,) = messages
    assert "ServiceAccount web/default" in message
    assert "Secret web/reader-pull" in message
    assert "spec.pullSecret.serviceAccounts" in message
    assert not any(character.isdigit() for character in message)


async def test_after_a_restart_it_begins_anew_and_is_bounded_again(world: World) -> None:
    fight = Fight(world, strip)
    await fight.last(60)
    world.restart()
    fight.due = world.now
    writes = await fight.last(60)
    assert writes.count(ACCOUNT) == 4


# What we take away and others put back


LABELS = {
    "app.kubernetes.io/managed-by": "pullpass",
    "pullpass.dev/component": "pull-secret",
}


def copy(world: World, uid: str) -> None:
    """Mirrors the pull secret with all of its labels into another namespace."""
    metadata = {
        "namespace": "release",
        "name": "reader-pull",
        "labels": LABELS | {"pullpass.dev/token-uid": uid},
        "annotations": {"pullpass.dev/token": "web/reader"},
    }
    if ("secrets", "release", "reader-pull") not in world.api.objects:
        world.api.put(SECRETS, {"metadata": metadata, "type": "kubernetes.io/dockerconfigjson", "data": {}})


def mark(world: World, uid: str) -> None:
    """Writes a ServiceAccount as it was when the token still named it."""

    def as_written(body: Body) -> None:
        body["imagePullSecrets"] = [{"name": "reader-pull"}]
        body["metadata"]["annotations"] = {"pullpass.dev/image-pull-secrets": f"reader-pull={uid}"}

    world.account("web", "old")
    world.api.edit(SERVICE_ACCOUNTS, "web", "old", as_written)


def _with(do: Callable[[World, str], None], uid: str) -> Callable[[World], None]:
    return lambda world: do(world, uid)


PUT_BACK: dict[str, tuple[Callable[[World, str], None], Place]] = {
    "pull secret copied": (copy, ("secrets", "release", "reader-pull")),
    "entry put back": (mark, ("serviceaccounts", "web", "old")),
}


@pytest.mark.parametrize("name", PUT_BACK)
async def test_what_is_put_back_is_taken_away_ever_more_rarely(world: World, name: str) -> None:
    do, place = PUT_BACK[name]
    fight = Fight(world, _with(do, world.uid()))
    writes = await fight.last(60)
    # The first removal, and repeated at once, then after 10 and 20 seconds.
    assert writes.count(place) == 4
    assert set(writes) == {place}, "anybody can forge that, so the token's status says nothing of it"
    assert fight.seen == [("True", "Ready")]
    fight.undo = PEACE
    writes = await fight.last(300)
    assert writes.count(place) <= 1
    assert place not in world.api.objects or world.entries("web", "old") == []
    assert await fight.last(3600, step=10) == []


@pytest.mark.parametrize("name", PUT_BACK)
async def test_the_sweep_backs_off_as_well(world: World, name: str) -> None:
    do, place = PUT_BACK[name]
    uid = world.uid()
    world.api.remove(REGISTRY_TOKENS, "web", "reader")
    await world.sweep(uid)
    fight = Fight(world, _with(do, uid), Key("cleanup", name=uid))
    writes = await fight.last(60)
    assert writes.count(place) == 4
    fight.undo = PEACE
    assert len(await fight.last(300)) <= 1
    assert place not in world.api.objects or world.entries("web", "old") == []


async def test_a_contested_rest_does_not_keep_the_other_rests(world: World) -> None:
    uid = world.uid()
    fight = Fight(world, _with(copy, uid))
    await fight.last(60)
    world.api.remove(REGISTRY_TOKENS, "web", "reader")
    await world.sweep(uid)
    assert world.passwords() == {}
    assert world.entries() == ["own"]
