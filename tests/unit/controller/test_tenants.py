"""Tenants who write into their own namespaces whatever they like: no harm to others, and nothing of theirs to be had.

The victim is the token `web/reader`, which also goes to `staging`; `mallory` is a namespace that consents to nobody.
"""

import copy
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullpass.api import names
from pullpass.controller.places.plan import AT_ONCE
from pullpass.controller.queue import BACKOFF, Key
from pullpass.kube.client import Refused
from pullpass.kube.resources import NAMESPACES, SECRETS, SERVICE_ACCOUNTS
from tests.unit.controller.fake_api import Body, Place
from tests.unit.controller.world import KEY, World, hours, password_in

SPEC: dict[str, Any] = {
    "passwords": {"lifetime": "3h", "overlap": "10m"},
    "pullSecret": {"serviceAccounts": ["default"], "namespaces": ["staging", "zone"]},
}
OWN, GUEST, OTHER = [(namespace, "reader-pull") for namespace in ("web", "staging", "zone")]
DEAD = "00000000-dead"


async def new_world() -> World:
    world = World()
    world.namespace("zone", "web")
    world.namespace("mallory")
    for namespace in ("zone", "mallory"):
        world.account(namespace, "default")
    world.token(**SPEC)
    await settle(world)
    assert world.condition() == ("True", "Ready")
    assert set(world.passwords()) == {OWN, GUEST, OTHER}
    return world


@pytest.fixture
async def world() -> World:
    return await new_world()


async def settle(world: World) -> None:
    """Works on every key that the watches bring, until they bring no more."""
    for _ in range(20):
        keys = world.deliver()
        if not keys:
            return
        for key in sorted(keys):
            if key.kind != "signing-keys":
                await world.work(key)
    raise AssertionError(f"it does not settle: {keys}")


def elsewhere(world: World) -> dict[Place, Body]:
    """All that is not in Mallory's namespace, to the last version."""
    return copy.deepcopy({place: body for place, body in world.api.objects.items() if place[1] != "mallory"})


# What looks like ours in his namespace

uids = st.sampled_from(["VICTIM", DEAD, "", "x y", "../..", "\N{SNOWMAN}", "u" * 64])
components = st.sampled_from([names.PULL_SECRET, names.CREDENTIAL_RECORD, names.SIGNING_KEY, "", "other"])
tokens = st.sampled_from(
    [
        "web/reader",
        "mallory/mine",
        "credentials/rt-VICTIM",
        "release/pullpass-seed",
        "../../secrets",
        "web/reader\nx",
        "",
    ]
)
secret_names = st.sampled_from(
    ["reader-pull", "rt-VICTIM", f"rt-{DEAD}", "pullpass-signing", "pullpass-seed", "mine-pull"]
)
entries = st.lists(st.tuples(st.sampled_from(["reader-pull", "other", "mine-pull", ""]), uids), max_size=4)


@st.composite
def forged_secrets(draw: st.DrawFn) -> Body:
    metadata: Body = {
        "namespace": "mallory",
        "name": draw(secret_names),
        "labels": {
            names.MANAGED_BY_LABEL: names.MANAGED_BY,
            names.COMPONENT_LABEL: draw(components),
            names.TOKEN_UID_LABEL: draw(uids),
        },
        "annotations": {
            names.TOKEN_ANNOTATION: draw(tokens),
            names.DELETION_POLICY_ANNOTATION: draw(st.sampled_from(["Retain", "Delete", ""])),
        },
    }
    if draw(st.booleans()):
        metadata["ownerReferences"] = [{"kind": "RegistryToken", "name": "reader", "uid": draw(uids)}]
    type_ = draw(st.sampled_from([names.PULL_SECRET_TYPE, "Opaque", "pullpass.dev/credential-record"]))
    return {"metadata": metadata, "type": type_, "data": draw(st.sampled_from([{}, {"record.json": "e30="}]))}


@st.composite
def forged_accounts(draw: st.DrawFn) -> Body:
    text = ",".join(f"{secret}={uid}" for secret, uid in draw(entries))
    listed = draw(st.lists(st.sampled_from(["reader-pull", "other", "mine-pull"]), unique=True))
    return {
        "metadata": {
            "namespace": "mallory",
            "name": draw(st.sampled_from(["default", "builder"])),
            "annotations": {names.ENTRIES_ANNOTATION: text},
        },
        "imagePullSecrets": [{"name": name} for name in listed],
    }


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(forged_secrets() | forged_accounts(), min_size=1, max_size=6), st.booleans())
async def test_whatever_he_forges_nothing_of_others_changes(forged: list[Body], with_token: bool) -> None:
    world = await new_world()
    uid = world.uid()
    if with_token:
        world.token("mallory", "mine", pullSecret={"serviceAccounts": ["*"], "namespaces": ["web", "staging"]})
        await settle(world)
    world.api.after_write = lambda: None
    before = elsewhere(world)
    secrets_before = set(world.passwords().values())
    for body in forged:
        filled = json.loads(json.dumps(body).replace("VICTIM", uid))
        world.api.put(SECRETS if "type" in filled else SERVICE_ACCOUNTS, filled)
        await settle(world)
    world.restart()
    for key in list(world.cache.every_key()):
        await world.work(key)
    await settle(world)
    assert elsewhere(world) == before
    his = json.dumps([body for body in world.api.of(SECRETS) if body["metadata"]["namespace"] == "mallory"])
    leaked = [text for text in secrets_before if text in his and not with_token]
    assert not leaked


async def test_a_record_outside_the_credentials_namespace_is_none(world: World) -> None:
    uid = world.uid()
    record = copy.deepcopy(world.api.objects["secrets", "credentials", names.record_name(uid)])
    record["metadata"] |= {"namespace": "mallory", "uid": "forged"}
    record["data"]["record.json"] = "e30="
    world.api.put(SECRETS, record)
    assert world.deliver() == set()
    assert world.cache.records[uid].namespace == "credentials"


# Consent


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet="web*,. \t-/[]\"'x", max_size=12) | st.text(max_size=8))
async def test_consent_is_the_name_and_nothing_like_it(value: str) -> None:
    world = World()
    world.namespace("mallory", value)
    world.account("mallory", "default")
    world.token(pullSecret={"serviceAccounts": ["*"], "namespaces": ["mallory"]})
    await settle(world)
    consents = "web" in [part.strip() for part in value.split(",")]
    assert (("mallory", "reader-pull") in world.passwords()) == consents
    assert world.entries("mallory") == (["reader-pull"] if consents else [])


# Namespaces that consent, and then are in the way. A rotation is due; `staging` comes before `zone`.


def churn(world: World, place: Place, change: Callable[[], None]) -> None:
    """Changes something just before each write to a place, so that no write there ever comes first."""

    def before_write(verb: str, written: Place) -> None:
        if written == place and verb != "delete":
            change()

    world.api.before_write = before_write


def busy_account(world: World) -> None:
    """The guest's ServiceAccount has lost our entry, and changes all the time."""
    world.api.edit(SERVICE_ACCOUNTS, "staging", "default", lambda body: body.update(imagePullSecrets=[]))

    def change() -> None:
        world.api.edit(
            SERVICE_ACCOUNTS, "staging", "default", lambda body: body.update(secrets=[{"name": str(world.api.version)}])
        )

    churn(world, ("serviceaccounts", "staging", "default"), change)


def refused_account(world: World) -> None:
    """The guest's ServiceAccount has lost our entry, and a policy there refuses it."""
    world.api.edit(SERVICE_ACCOUNTS, "staging", "default", lambda body: body.update(imagePullSecrets=[]))
    world.api.refusing["patch", ("serviceaccounts", "staging", "default")] = Refused("policy", 403)


def forged_account(world: World) -> None:
    """A ServiceAccount of somebody else names our token, and changes all the time."""
    world.api.put(
        SERVICE_ACCOUNTS,
        {
            "metadata": {
                "namespace": "mallory",
                "name": "default",
                "annotations": {names.ENTRIES_ANNOTATION: f"reader-pull={world.uid()}"},
            },
            "imagePullSecrets": [{"name": "reader-pull"}],
        },
    )

    def change() -> None:
        world.api.edit(
            SERVICE_ACCOUNTS, "mallory", "default", lambda body: body.update(secrets=[{"name": str(world.api.version)}])
        )

    churn(world, ("serviceaccounts", "mallory", "default"), change)


def busy_secret(world: World) -> None:
    """The guest's pull secret changes all the time."""

    def change() -> None:
        world.api.edit(SECRETS, *GUEST, lambda body: body.update(data={".dockerconfigjson": str(world.api.version)}))

    churn(world, ("secrets", *GUEST), change)


def refused_secret(world: World) -> None:
    """The guest's pull secret is immutable."""
    world.api.refusing["apply", ("secrets", *GUEST)] = Refused("HTTP 422", 422)


def forged_secret(world: World) -> None:
    """A Secret of somebody else names our token, and is protected from deletion."""
    labels = world.api.objects["secrets", *OWN]["metadata"]["labels"]
    metadata = {"namespace": "mallory", "name": "reader-pull", "labels": dict(labels)}
    world.api.put(SECRETS, {"metadata": metadata, "type": names.PULL_SECRET_TYPE, "data": {}})
    world.api.refusing["delete", ("secrets", "mallory", "reader-pull")] = Refused("policy", 403)


IN_THE_WAY = [busy_account, refused_account, forged_account, busy_secret, refused_secret, forged_secret]


@pytest.mark.parametrize("get_in_the_way", IN_THE_WAY)
async def test_who_gets_in_the_way_does_not_keep_others_from_the_new_password(
    world: World, get_in_the_way: Callable[[World], None]
) -> None:
    world.api.after_write = lambda: None
    before = published(world)
    world.now += hours(2)
    get_in_the_way(world)
    await world.work(rounds=4)
    after = published(world)
    assert after[0] != before[0]
    assert after[1] == after[0]
    # By the end of the old password, at the latest, there is a published one that is valid.
    world.now += hours(1.1)
    await world.work(rounds=4)
    assert all(world.lets_in(world.uid(), text) for text in published(world))
    assert world.condition("PasswordsValid") == ("True", "PasswordActive")


def published(world: World) -> list[str]:
    """The passwords in the places of those who are in nobody's way."""
    return [password_in(world.pull_secrets()[place]) for place in (OWN, OTHER)]


@pytest.mark.parametrize("get_in_the_way", IN_THE_WAY)
async def test_all_is_well_once_nobody_is_in_the_way(world: World, get_in_the_way: Callable[[World], None]) -> None:
    world.api.after_write = lambda: None
    world.now += hours(2)
    get_in_the_way(world)
    await world.work(rounds=4)
    world.api.before_write = lambda *_: None
    world.api.refusing.clear()
    world.now += hours(0.5)
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert len(set(world.passwords().values())) == 1
    assert world.entries("staging") == ["reader-pull"]


async def test_a_place_that_is_never_written_costs_the_others_no_password(world: World) -> None:
    """Whatever the back-off has grown to: the next step is taken when a password ends, and before the next one does."""
    world.api.after_write = lambda: None
    world.token(**SPEC | {"passwords": {"lifetime": "2m", "renewBefore": "90s", "overlap": "10s"}})
    world.api.refusing["apply", ("secrets", *GUEST)] = Refused("HTTP 422", 422)
    end, seen = world.now + hours(1), set()
    while world.now < end:
        outcome = await world.work(rounds=1)
        seen.update(published(world))
        # The longest back-off, or the due time if that comes first.
        backoff = world.now + timedelta(seconds=BACKOFF.longest)
        world.now = backoff if outcome.due is None else min(outcome.due, backoff)
        assert all(world.lets_in(world.uid(), text) for text in published(world))
    assert len(seen) > 20


# Many


async def test_one_pass_does_no_more_than_its_share(world: World) -> None:
    """Somebody with thousands of ServiceAccounts gets what he asks for, and others their turn in between."""
    for number in range(230):
        world.account("mallory", f"builder-{number}")
    world.token("mallory", "mine", pullSecret={"serviceAccounts": ["*"]})
    key = world.place("mallory", "mallory", "mine")
    world.deliver()
    passes = 0
    due: datetime | None = world.now
    while due is not None and due <= world.now:
        writes = len(world.api.writes)
        outcome = await world.one(key)
        due = outcome.due
        assert len(world.api.writes) - writes <= AT_ONCE
        passes += 1
    assert passes == 5
    await world.work(Key("token", "mallory", "mine"))
    assert all(world.entries("mallory", f"builder-{number}") == ["mine-pull"] for number in range(230))
    assert world.status("mallory", "mine")["conditions"][0]["reason"] == "Ready"


async def test_one_sweep_does_no_more_than_its_share(world: World) -> None:
    text = f"reader-pull={DEAD}"
    for number in range(120):
        world.account("mallory", f"builder-{number}", "reader-pull")
        change = {"annotations": {names.ENTRIES_ANNOTATION: text}}
        world.api.edit(SERVICE_ACCOUNTS, "mallory", f"builder-{number}", lambda body: body["metadata"].update(change))  # noqa: B023
    world.deliver()
    key = Key("place", "mallory", DEAD)
    outcome = await world.one(key)
    assert outcome.follow == {Key("cleanup", name=DEAD)}, "nothing goes before the API server was asked"
    await world.one(Key("cleanup", name=DEAD))
    due: datetime | None = world.now
    passes = 0
    while due is not None and due <= world.now:
        writes = len(world.api.writes)
        outcome = await world.one(key)
        due = outcome.due
        assert len(world.api.writes) - writes <= AT_ONCE
        passes += 1
    assert passes == 3
    assert all(world.entries("mallory", f"builder-{number}") == [] for number in range(120))


# One name for two


async def test_the_first_of_two_tokens_has_the_secret_and_keeps_it(world: World) -> None:
    world.namespace("staging", "web,mallory")
    world.token("mallory", "mine", pullSecret={"name": "reader-pull", "namespaces": ["staging"]})
    before = elsewhere(world)
    key = Key("token", "mallory", "mine")
    for _ in range(5):
        await world.work(key, rounds=2)
        await world.work(KEY)
        world.now += hours(0.01)
    assert {place: body for place, body in elsewhere(world).items() if place in before} == before
    assert world.status("mallory", "mine")["conditions"][0]["reason"] == "SecretNotOwned"
    assert "RegistryToken web/reader" in world.status("mallory", "mine")["conditions"][0]["message"]
    assert world.passwords()[GUEST] == world.passwords()[OWN] != world.passwords()["mallory", "reader-pull"]
    assert world.condition() == ("True", "Ready")
    # When the first one goes, the second takes the name over, as a Secret of its own.
    world.api.edit(NAMESPACES, "", "staging", lambda body: body["metadata"].update(annotations={}))
    await world.work(KEY)
    world.namespace("staging", "mallory")
    await world.work(key)
    assert world.passwords()[GUEST] == world.passwords()["mallory", "reader-pull"]
