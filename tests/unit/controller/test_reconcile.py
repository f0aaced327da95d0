"""The life of a token over an API server in memory, and the promises of the design put to the test there."""

import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, Literal

import pytest

from pullpass.api.times import format_time
from pullpass.controller.queue import Key
from pullpass.controller.reconcile import ASK_AGAIN
from pullpass.kube.client import Conflict, Refused, Unavailable
from pullpass.kube.resources import EVENTS, NAMESPACES, REGISTRY_TOKENS, SCOPE_MAPS, SECRETS, SERVICE_ACCOUNTS
from tests.unit.controller.fake_api import Body, Killed, Place
from tests.unit.controller.world import KEY, START, World, auths_in, hours

ROTATING = {"lifetime": "3h", "overlap": "10m"}
EVERYWHERE: dict[str, Any] = {
    "passwords": ROTATING,
    "pullSecret": {"serviceAccounts": ["default"], "namespaces": ["staging"]},
}
OWN, FAR = ("web", "reader-pull"), ("staging", "reader-pull")


@pytest.fixture(autouse=True)
def _nothing_is_told(caplog: pytest.LogCaptureFixture, world: World) -> Iterator[None]:
    """Promise 3, after every test of this module."""
    caplog.set_level(logging.DEBUG)
    yield
    if world.texts:
        world.assert_secret("".join(str(vars(record)) + record.getMessage() for record in caplog.get_records("call")))


@pytest.fixture
def world() -> World:
    return World()


async def test_the_whole_life_of_a_token(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    outcome = await world.work()
    assert world.condition() == ("True", "Ready")
    assert outcome.due == START + hours(2)
    assert set(world.passwords()) == {OWN, FAR}
    assert len(set(world.passwords().values())) == 1
    assert world.entries("web") == world.entries("staging") == ["reader-pull"]
    assert set(world.events()) == {"PasswordPublished", "Ready"}
    first = world.passwords()[OWN]

    world.now = START + hours(2)
    outcome = await world.work()
    second = world.passwords()[OWN]
    assert second != first
    assert world.lets_in(uid, first)
    assert world.record_of(uid).published == "password2"
    assert [entry["state"] for entry in world.status()["passwords"]] == ["Retiring", "Active"]
    assert outcome.due == world.now + timedelta(minutes=10)
    assert (world.status()["nextTransition"], world.status()["nextTransitionTime"]) == (
        "Retire",
        format_time(world.now + timedelta(minutes=10)),
    )

    world.now += timedelta(minutes=10)
    assert not world.lets_in(uid, first)
    await world.work()
    assert set(world.record_of(uid).slots) == {"password2"}
    assert world.passwords()[OWN] == second

    world.token(**EVERYWHERE, enabled=False)
    await world.work()
    assert world.condition() == ("False", "TokenDisabled")
    assert world.passwords()[OWN] == second

    world.token(**EVERYWHERE, expiresAt=format_time(START + hours(3)))
    outcome = await world.work()
    assert world.condition() == ("True", "Ready")
    assert outcome.due == START + hours(3)
    world.now = START + hours(3)
    await world.work()
    assert world.condition() == ("False", "TokenExpired")
    assert world.passwords()[OWN] == second, "whenRevoked is Keep"

    world.token(
        expiresAt=format_time(START + hours(3)),
        passwords=ROTATING,
        pullSecret=EVERYWHERE["pullSecret"] | {"whenRevoked": "Remove"},
    )
    await world.work()
    assert world.passwords() == {}
    assert world.condition("PullSecretsSynced") == ("True", "Removed")
    assert {place: len(uids) for place, uids in world.uids.items()} == {OWN: 1, FAR: 1}
    assert len(world.nonces) == 2


async def test_order_of_the_first_writes(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    await world.work()
    places = [(verb, plural, namespace) for verb, (plural, namespace, _) in world.api.writes]
    assert places == [
        ("patch", "serviceaccounts", "web"),
        ("patch", "serviceaccounts", "staging"),
        ("create", "secrets", "credentials"),
        ("create", "secrets", "web"),
        ("apply", "secrets", "web"),
        ("create", "secrets", "staging"),
        ("apply", "secrets", "staging"),
        ("replace", "secrets", "credentials"),
        ("create", "events", "web"),
        ("apply", "registrytokens", "web"),
        ("create", "events", "web"),
    ]
    assert [id_ for _, id_ in world.servers.logins] == [world.slot(uid, "password1").id]


# Promise 1


@pytest.mark.parametrize("effect", ["before", "after"])
@pytest.mark.parametrize("watch", [True, False], ids=["watch", "lagging-watch"])
@pytest.mark.parametrize("ends", [Killed, Unavailable], ids=["killed", "unavailable"])
@pytest.mark.parametrize("phase", ["first", "rotation"])
async def test_cut_off_at_every_call(
    phase: str, ends: type[BaseException], watch: bool, effect: Literal["before", "after"]
) -> None:
    number = 0
    while True:
        number += 1
        world = World()
        uid = world.token(**EVERYWHERE)
        world.deliver()
        if phase == "rotation":
            await world.work()
            world.now = START + hours(2)
        made_before = len(world.nonces)
        fault = world.api.fault = (world.api.calls + number, effect, ends("cut off"))
        try:
            await world.work(watch=watch)
        except Killed:
            world.api.fault = None
            world.restart()
            await world.work(watch=watch)
        reached = world.api.calls >= fault[0]
        assert world.condition() == ("True", "Ready"), f"cut off at call {number}: needs the watch to go on"
        world.deliver()
        await world.work()
        assert world.condition() == ("True", "Ready"), number
        assert len(world.nonces) == made_before + 1, f"cut off at call {number}: a second password was made"
        assert world.record_of(uid).published == ("password1" if phase == "first" else "password2")
        assert set(world.passwords()) == {OWN, FAR}
        assert len(set(world.passwords().values())) == 1
        assert all(len(uids) == 1 for uids in world.uids.values()), "a pull secret was made anew"
        assert world.entries("web") == world.entries("staging") == ["reader-pull"]
        world.assert_secret("")
        if not reached:
            break
    assert number > 8


async def test_without_acceptance_nothing_is_published(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    await world.work()
    before = world.passwords()
    world.now = START + hours(2)
    world.servers.refusing = True
    outcome = await world.work(rounds=3)
    assert outcome.retry is not None
    assert world.passwords() == before
    assert world.record_of(uid).published == "password1"
    assert world.condition() == ("True", "Ready")
    assert world.condition("Reconciling") == ("True", "WaitingForTokenServer")
    assert len(world.nonces) == 2
    world.servers.refusing = False
    await world.work()
    assert world.record_of(uid).published == "password2"
    assert world.condition("Reconciling") == ("", "")
    assert len(world.nonces) == 2


async def test_the_first_password_waits_as_well(world: World) -> None:
    world.token(**EVERYWHERE)
    world.servers.refusing = True
    await world.work(rounds=2)
    assert world.passwords() == {}
    assert world.condition() == ("Unknown", "WaitingForTokenServer")
    assert world.entries() == ["reader-pull"], "the entry comes before the Secret"


async def test_token_servers_that_accept_nothing_at_all_are_told_and_left_alone_for_longer_and_longer(
    world: World,
) -> None:
    world.token(**EVERYWHERE)
    world.servers.refusing = True
    refused = await world.work(rounds=1)
    world.servers.busy = True
    busy = await world.work(rounds=1)
    assert refused.due == world.now + ASK_AGAIN
    assert (busy.due, busy.retry is not None) == (None, True)
    assert world.condition() == ("Unknown", "WaitingForTokenServer")
    (ready,) = [c for c in world.status()["conditions"] if c["type"] == "Ready"]
    assert "no signing key" in ready["message"]
    assert world.passwords() == {}


async def test_a_password_that_ends_before_it_is_accepted_gives_way_to_another(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    world.servers.refusing = True
    await world.work(rounds=2)
    world.servers.refusing = False
    world.now = START + hours(4)
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert world.lets_in(uid, world.passwords()[OWN])
    assert len(world.nonces) == 2


async def test_where_a_write_is_refused_the_old_password_goes_on(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    await world.work()
    old = world.passwords()[FAR]
    world.now = START + hours(2)
    world.api.refusing["apply", ("secrets", *FAR)] = Refused("exceeded quota", 403)
    outcome = await world.work(rounds=4)
    assert outcome.retry is not None
    assert "exceeded quota" in outcome.retry
    assert world.condition("PullSecretsSynced") == ("False", "WriteRefused")
    assert world.passwords()[FAR] == old != world.passwords()[OWN]
    assert world.slot(uid, "password1").valid_until is None
    world.api.refusing.clear()
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert world.passwords()[FAR] == world.passwords()[OWN] != old
    assert len(world.nonces) == 2


async def test_a_refused_place_does_not_keep_the_first_password_from_the_others(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    world.api.refusing["create", ("secrets", *FAR)] = Refused("exceeded quota", 403)
    await world.work(rounds=3)
    assert set(world.passwords()) == {OWN}
    assert world.record_of(uid).published == "password1"
    assert world.condition() == ("False", "WriteRefused")


async def test_a_mirror_that_lags_publishes_no_old_password(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    await world.work()
    stale = world.mirror
    world.now = START + hours(2)
    world.restart()
    await world.work()
    rotated = world.passwords()
    # A former leader that knows nothing of it wakes up.
    world.restart()
    world.tokens = world.reconciler(stale)
    await world.work(watch=False)
    assert world.passwords() == rotated
    assert world.record_of(uid).published == "password2"
    assert len(world.nonces) == 2


async def test_a_mirror_that_lags_takes_no_pull_secret_back(world: World) -> None:
    world.token(**EVERYWHERE)
    await world.work()
    stale, seen = world.mirror, len(world.api.watched)
    world.restart()
    world.token(**EVERYWHERE | {"passwords": {"lifetime": "90m"}})
    world.now = START + hours(1)
    await world.work()
    rotated = world.passwords()
    # A former leader hears of the pull secrets, of the record not yet.
    world.restart()
    former = world.reconciler(stale)
    for type_, plural, body in world.api.watched[seen:]:
        if plural == "secrets" and body["metadata"]["namespace"] != "credentials":
            stale.observe_secret(type_, body, "credentials")
    with pytest.raises(Conflict):
        await former.reconcile(KEY)
    assert world.passwords() == rotated


@pytest.mark.parametrize("watch", [True, False])
async def test_a_deleted_pull_secret_comes_back_with_the_same_password(world: World, watch: bool) -> None:
    world.token(**EVERYWHERE)
    await world.work()
    before = world.passwords()
    world.api.remove(SECRETS, *OWN)
    assert KEY in world.deliver()
    await world.work(watch=watch)
    assert world.passwords() == before


async def test_a_changed_pull_secret_is_set_right_in_place(world: World) -> None:
    world.token(**EVERYWHERE)
    await world.work()
    before = world.passwords()
    world.api.edit(SECRETS, *OWN, lambda body: body["data"].update({".dockerconfigjson": "e30="}))
    assert KEY in world.deliver()
    await world.work()
    assert world.passwords() == before
    assert len(world.uids[OWN]) == 1


async def test_another_seed_makes_another_password_and_the_old_one_works_on(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    await world.work()
    old = world.passwords()[OWN]
    world.seed = b"another seed, also 32 bytes long"
    world.restart()
    await world.work()
    assert world.passwords()[OWN] != old
    assert world.lets_in(uid, old)
    assert len(world.nonces) == 2


async def test_an_unreadable_record_is_replaced(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    body = {
        "metadata": {
            "name": f"rt-{uid}",
            "namespace": "credentials",
            "labels": {
                "app.kubernetes.io/managed-by": "pullpass",
                "pullpass.dev/component": "credential-record",
                "pullpass.dev/token-uid": uid,
            },
        },
        "data": {"record.json": "garbage"},
    }
    world.api.put(SECRETS, body)
    await world.work()
    assert world.condition() == ("True", "Ready")


# Promise 4


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
    other = Key("token", "web", "other")
    await world.work(other)
    world.token(**EVERYWHERE)
    world.deliver()
    world.api.edit(SERVICE_ACCOUNTS, "web", "default", lambda body: body.update(imagePullSecrets=[]))
    await world.tokens.reconcile(KEY)
    assert other in {*world.woken, *world.deliver()}


# Promise 6


@pytest.mark.parametrize(
    "spec",
    [
        {},
        EVERYWHERE,
        {"passwords": {"lifetime": "1h", "onExpiry": "Revoke"}},
        {"pullSecret": {"serviceAccounts": ["*"], "deletionPolicy": "Retain"}},
        {"pullSecret": {"namespaces": ["nowhere", "release"], "serviceAccounts": ["missing"]}},
        {"enabled": False},
        {"scopeMapRef": {"name": "missing"}},
        {"expiresAt": "2027-01-01T00:00:00Z"},
        {"passwords": {"lifetime": "nonsense"}},
    ],
)
@pytest.mark.parametrize("restart", [True, False])
async def test_a_settled_token_costs_no_write(world: World, spec: dict[str, Any], restart: bool) -> None:
    world.token(**spec)
    await world.work()
    assert world.status()
    if restart:
        world.restart()
    calls, writes = world.api.calls, len(world.api.writes)
    world.now += timedelta(minutes=1)
    await world.work()
    assert len(world.api.writes) == writes
    assert world.api.calls == calls


# What changes meanwhile


async def test_a_new_spec_that_comes_with_an_answer_is_not_missed(world: World) -> None:
    """The answer to the status write brings the new spec; the watch then has no news, so the key must come again."""
    world.token(passwords=ROTATING)

    def sneak(verb: str, place: Place) -> None:
        if place[0] == "registrytokens":
            world.api.before_write = lambda *_: None
            world.token(**EVERYWHERE)

    world.api.before_write = sneak
    world.deliver()
    await world.tokens.reconcile(KEY)
    assert KEY in {*world.woken, *world.deliver()}
    await world.work()
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
    assert KEY not in world.mirror.tokens
    await world.sweep(uid)
    assert world.passwords() == {}


async def test_a_token_that_is_unknown_or_being_deleted_costs_nothing(world: World) -> None:
    assert (await world.tokens.reconcile(KEY)).due is None
    world.token(**EVERYWHERE)
    world.api.edit(
        REGISTRY_TOKENS, "web", "reader", lambda b: b["metadata"].update(deletionTimestamp="2027-03-01T12:00:00Z")
    )
    await world.work()
    assert world.api.writes == []


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
