"""What stands in a pull secret works, wherever the operator is cut off (promise 1)."""

from dataclasses import replace

import pytest

from pullpass.credentials import hashing
from pullpass.kube.client import Refused
from pullpass.kube.resources import SECRETS
from tests.unit.controller.reconcile.cut_off import Effect, at_every_call, in_every_way
from tests.unit.controller.reconcile.scene import EVERYWHERE, FAR, OWN
from tests.unit.controller.world import START, World, hours


@in_every_way
@pytest.mark.parametrize("phase", ["first", "rotation"])
async def test_cut_off_at_every_call(phase: str, ends: type[BaseException], watch: bool, effect: Effect) -> None:
    async def begin(world: World) -> str:
        uid = world.token(**EVERYWHERE)
        world.deliver()
        if phase == "rotation":
            await world.work()
            world.now = START + hours(2)
        return uid

    def check(world: World, uid: str) -> None:
        assert world.record_of(uid).published == ("password1" if phase == "first" else "password2")
        assert len(set(world.passwords().values())) == 1
        assert world.entries("web") == world.entries("staging") == ["reader-pull"]

    await at_every_call(begin, check, ends, effect, watch=watch)


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
    world.servers.busy = True
    busy = await world.work(rounds=2)
    assert (busy.due, busy.retry is not None) == (None, True)
    assert world.condition() == ("Unknown", "WaitingForTokenServer")
    (ready,) = [c for c in world.status()["conditions"] if c["type"] == "Ready"]
    assert "cannot be asked" in ready["message"]
    assert world.passwords() == {}


def damage(world: World, uid: str) -> None:
    """Puts the hash of another password into every slot of a record."""
    record = world.record_of(uid)
    for name, slot in record.slots.items():
        record = record.with_slot(name, replace(slot, hash=hashing.hash_password("another", 4)))
    world.api.put(SECRETS, record.to_secret("credentials"))


async def test_a_new_password_whose_hash_is_not_its_own_is_never_published(world: World) -> None:
    """Token servers, which are told no password, would confirm it."""
    uid = world.token(**EVERYWHERE)
    world.servers.refusing = True
    await world.work(rounds=1)
    bad = world.slot(uid, "password1").id
    damage(world, uid)
    world.servers.refusing = False
    refused = await world.work(rounds=1)
    assert refused.retry is not None
    assert f"the hash of password {bad} in the credential record is not that of the password" in refused.retry
    assert world.passwords() == {}
    await world.work()
    assert world.slot(uid, "password1").id != bad
    assert world.lets_in(uid, world.passwords()[OWN])
    assert bad not in [id_ for _, id_ in world.servers.asked][1:]


async def test_a_published_password_whose_hash_is_not_its_own_is_left_to_people(world: World) -> None:
    """Its end may be that of all access, so it is not replaced by itself; it is looked at before it goes to further
    hosts."""
    world.scope_map(name="elsewhere", registry="other")
    uid = world.token(**EVERYWHERE)
    await world.work()
    before, slot = world.pull_secrets(), world.slot(uid, "password1")
    world.dead |= set(world.passwords().values())
    damage(world, uid)
    world.token(**EVERYWHERE, scopeMapRef={"name": "elsewhere"})
    outcome = await world.work(rounds=2)
    assert outcome.retry is not None
    assert "pullpass.dev/regenerate-requested-at" in outcome.retry
    assert (world.pull_secrets(), world.slot(uid, "password1").id) == (before, slot.id)


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


async def test_a_cache_that_lags_publishes_no_old_password(world: World) -> None:
    uid = world.token(**EVERYWHERE)
    await world.work()
    stale = world.cache
    world.now = START + hours(2)
    world.restart()
    await world.work()
    rotated = world.passwords()
    # A former leader that knows nothing of it wakes up.
    world.restart()
    world.lead(stale)
    await world.work(watch=False)
    assert world.passwords() == rotated
    assert world.record_of(uid).published == "password2"
    assert len(world.nonces) == 2


async def test_a_cache_that_lags_takes_no_pull_secret_back(world: World) -> None:
    world.token(**EVERYWHERE)
    await world.work()
    stale, seen = world.cache, len(world.api.watched)
    world.restart()
    world.token(**EVERYWHERE | {"passwords": {"lifetime": "90m"}})
    world.now = START + hours(1)
    await world.work()
    rotated = world.passwords()
    # A former leader hears of the pull secrets, of the record not yet.
    world.restart()
    world.lead(stale)
    for type_, plural, body in world.api.watched[seen:]:
        if plural == "secrets" and body["metadata"]["namespace"] != "credentials":
            stale.observe_secret(type_, body, "credentials")
    await world.work(watch=False, rounds=1)
    assert any("changed meanwhile" in error for error in world.errors)
    assert world.passwords() == rotated


@pytest.mark.parametrize("watch", [True, False])
async def test_a_deleted_pull_secret_comes_back_with_the_same_password(world: World, watch: bool) -> None:
    world.token(**EVERYWHERE)
    await world.work()
    before = world.passwords()
    world.api.remove(SECRETS, *OWN)
    assert world.deliver() == {world.place()}
    await world.work(watch=watch)
    assert world.passwords() == before


async def test_a_changed_pull_secret_is_set_right_in_place(world: World) -> None:
    world.token(**EVERYWHERE)
    await world.work()
    before = world.passwords()
    world.api.edit(SECRETS, *OWN, lambda body: body["data"].update({".dockerconfigjson": "e30="}))
    assert world.deliver() == {world.place()}
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
