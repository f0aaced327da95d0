"""What changes while the operator works, and what is told of it."""

from collections.abc import Callable

import pytest

from pullpass.kube.client import Refused
from pullpass.kube.resources import EVENTS, NAMESPACES, REGISTRY_TOKENS, SCOPE_MAPS, SECRETS, SERVICE_ACCOUNTS
from tests.unit.controller.fake_api import Place
from tests.unit.controller.reconcile.scene import EVERYWHERE, FAR, OWN, ROTATING
from tests.unit.controller.world import KEY, World, auths_in, hours


async def test_a_new_spec_that_comes_with_an_answer_is_not_missed(world: World) -> None:
    """The answer to the status write brings the new spec; the watch then has no news, so the key must come again."""
    world.token(passwords=ROTATING)

    def sneak(verb: str, place: Place) -> None:
        if place[0] == "registrytokens":
            world.api.before_write = lambda *_: None
            world.token(**EVERYWHERE)

    world.api.before_write = sneak
    world.deliver()
    await world.work(watch=False)
    assert FAR in world.passwords()


async def test_a_token_deleted_while_worked_on_stays_away(world: World) -> None:
    uid = world.token(passwords=ROTATING)

    def sneak(verb: str, place: Place) -> None:
        if place[0] == "registrytokens":
            world.api.before_write = lambda *_: None
            world.api.remove(REGISTRY_TOKENS, "web", "reader")

    world.api.before_write = sneak
    await world.work()
    world.deliver()
    assert KEY not in world.cache.tokens
    await world.sweep(uid)
    assert world.passwords() == {}


async def test_a_token_that_is_unknown_costs_nothing(world: World) -> None:
    assert (await world.one(KEY)).due is None
    assert world.api.writes == []


def begin_deletion(world: World) -> None:
    deletion = {"deletionTimestamp": "2027-03-01T12:00:00Z", "finalizers": ["example.com/keep"]}
    world.api.edit(REGISTRY_TOKENS, "web", "reader", lambda body: body["metadata"].update(deletion))


async def test_a_token_that_is_being_deleted_gets_no_password(world: World) -> None:
    world.token(**EVERYWHERE)
    begin_deletion(world)
    await world.work()
    assert [place[0] for _, place in world.api.writes] == ["registrytokens", "events"]


async def test_a_token_that_is_kept_from_being_deleted_is_not_ready_and_says_by_what(world: World) -> None:
    """Token servers refuse its passwords from the beginning of the deletion."""
    world.token(**EVERYWHERE)
    await world.work()
    begin_deletion(world)
    world.api.writes.clear()
    await world.work()
    assert world.condition() == world.condition("PasswordsValid") == ("False", "Deleting")
    (message,) = [one["message"] for one in world.status()["conditions"] if one["type"] == "Ready"]
    assert "example.com/keep" in message
    assert [place[0] for _, place in world.api.writes] == ["registrytokens", "events"], "nothing but the status"
    world.api.writes.clear()
    world.restart()
    await world.work()
    assert world.api.writes == [], "and that once"


def remove_namespace(world: World, name: str) -> None:
    for resource in (SECRETS, SERVICE_ACCOUNTS):
        for body in world.api.of(resource):
            if body["metadata"]["namespace"] == name:
                world.api.remove(resource, name, body["metadata"]["name"])
    world.api.remove(NAMESPACES, "", name)


CHANGES: dict[str, tuple[Callable[[World], None], str]] = {
    "scope map deleted": (lambda w: w.api.remove(SCOPE_MAPS, "", "demo"), "ScopeMapNotFound"),
    "scope map unreadable": (
        lambda w: w.api.edit(SCOPE_MAPS, "", "demo", lambda b: b.update(spec={"rules": 1})),
        "ScopeMapInvalid",
    ),
    "registry not known": (lambda w: w.scope_map(registry="elsewhere"), "RegistryNotFound"),
    "not allowed any more": (lambda w: w.scope_map({"from": "Names", "names": []}), "NamespaceNotAllowed"),
    "consent withdrawn": (lambda w: w.namespace("staging"), "NamespaceNotConsenting"),
    "far namespace deleted": (
        lambda w: remove_namespace(w, "staging"),
        "NamespaceNotFound",
    ),
    "service account deleted": (
        lambda w: w.api.remove(SERVICE_ACCOUNTS, "web", "default"),
        "ServiceAccountNotFound",
    ),
    "spec unreadable": (
        lambda w: w.api.edit(REGISTRY_TOKENS, "web", "reader", lambda b: b["spec"].update(passwords={"lifetime": 1})),
        "SpecInvalid",
    ),
}


@pytest.mark.parametrize("case", CHANGES)
async def test_what_others_change_is_told_and_heals(world: World, case: str) -> None:
    change, reason = CHANGES[case]
    world.token(**EVERYWHERE)
    await world.work()
    before = world.passwords()
    change(world)
    assert KEY in world.deliver()
    await world.work()
    assert world.condition() == ("False", reason)
    assert world.passwords()[OWN] == before[OWN]
    assert (FAR in world.passwords()) == (case not in ("consent withdrawn", "far namespace deleted"))
    world.scope_map()
    world.namespace("staging", "web")
    world.account("web", "default")
    world.account("staging", "default")
    world.token(**EVERYWHERE)
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert world.passwords() == before


async def test_a_pull_secret_is_for_the_hosts_of_its_registry_and_follows_the_scope_map(world: World) -> None:
    world.scope_map(name="elsewhere", registry="other")
    world.token(**EVERYWHERE)
    await world.work()
    before = world.passwords()
    assert {frozenset(auths_in(body)) for body in world.pull_secrets().values()} == {
        frozenset(["registry.example", "registry.example:5000"])
    }
    world.token(**EVERYWHERE, scopeMapRef={"name": "elsewhere"})
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert {frozenset(auths_in(body)) for body in world.pull_secrets().values()} == {frozenset(["other.example"])}
    assert world.passwords() == before
    world.now += hours(2)
    await world.work()  # the token servers are asked for the service of the other registry
    assert world.passwords() != before


async def test_a_password_is_for_other_hosts_only_once_token_servers_accept_it_there(world: World) -> None:
    world.scope_map(name="elsewhere", registry="other")
    world.token(**EVERYWHERE)
    await world.work()
    before = world.pull_secrets()
    world.token(**EVERYWHERE, scopeMapRef={"name": "elsewhere"})
    world.servers.refusing = True
    await world.work()
    assert world.pull_secrets() == before
    assert world.condition("Reconciling") == ("True", "WaitingForTokenServer")
    world.servers.refusing = False
    world.now += hours(1)
    await world.work()
    assert {frozenset(auths_in(body)) for body in world.pull_secrets().values()} == {frozenset(["other.example"])}


async def test_a_registry_that_is_not_known_is_told_with_those_that_are(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    world.token(**EVERYWHERE)
    await world.work()
    before = world.pull_secrets()
    world.scope_map(registry="elsewhere")
    await world.work()
    told = (
        "ScopeMap demo is for registry elsewhere, and pullpass has the registries default, other; "
        "have that registry added to it, or name a ScopeMap for one that it has"
    )
    (ready,) = [c for c in world.status()["conditions"] if c["type"] == "Ready"]
    assert (ready["reason"], ready["message"]) == ("RegistryNotFound", told)
    (event,) = [body for body in world.api.of(EVENTS) if body["reason"] == "RegistryNotFound"]
    assert event["note"] == told
    assert told in caplog.text
    assert world.pull_secrets() == before


async def test_the_reason_is_told_as_an_event_once(world: World) -> None:
    world.token(**EVERYWHERE)
    await world.work()
    world.api.remove(SCOPE_MAPS, "", "demo")
    await world.work()
    await world.work()
    world.restart()
    await world.work()
    assert world.events().count("ScopeMapNotFound") == 1
    world.scope_map()
    await world.work()
    assert world.events().count("Ready") == 2


async def test_an_event_that_cannot_be_posted_is_forgotten(world: World) -> None:
    world.api.before_write = lambda _, place: _forbid(place)
    world.token(**EVERYWHERE)
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert world.events() == []


def _forbid(place: Place) -> None:
    if place[0] == "events":
        raise Refused("events are forbidden", 403)


async def test_a_rotation_is_told_as_an_event_with_both_ids(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    await world.work()
    world.now += hours(2)
    await world.work()
    (event,) = [b for (plural, _, _), b in world.api.objects.items() if b.get("reason") == "PasswordRotated"]
    assert world.slot(uid, "password1").id in event["note"]
    assert world.slot(uid, "password2").id in event["note"]
    assert event["regarding"]["uid"] == uid
