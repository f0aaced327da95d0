"""A place harms only itself: whatever is wrong in one namespace, the others have every password on time.

The token `web/reader` has three places: its own namespace, `staging` and `zone`. Its passwords live for two minutes.
"""

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from pullpass.api import names
from pullpass.controller.queue import BACKOFF, Key
from pullpass.credentials.password import parse
from pullpass.kube.client import Conflict, Gone, KubeError, NotFound, Refused, Unavailable
from pullpass.kube.resources import NAMESPACES, REGISTRY_TOKENS, SECRETS, SERVICE_ACCOUNTS
from tests.unit.controller.fake_api import Place
from tests.unit.controller.world import KEY, World

SPEC: dict[str, Any] = {
    "passwords": {"lifetime": "2m", "renewBefore": "1m", "overlap": "10s"},
    "pullSecret": {"serviceAccounts": ["default"], "namespaces": ["staging", "zone"]},
}
PLACES = ("web", "staging", "zone")
ERRORS: dict[str, Callable[[], Exception]] = {
    "refused": lambda: Refused('admission webhook "x.example.com" denied it', 403),
    "invalid": lambda: Refused("HTTP 422", 422),
    "webhook is down": lambda: Unavailable("HTTP 500", 500),
    "too many requests": lambda: Unavailable("HTTP 429", 429, 10),
    "no answer": lambda: Unavailable("no answer from the API server (TimeoutError)"),
    "conflict": lambda: Conflict("changed meanwhile", 409),
    "an answer that nobody expects": lambda: KeyError("metadata"),
}
KINDS = {"Secrets": ("secrets",), "ServiceAccounts": ("serviceaccounts",), "both": ("secrets", "serviceaccounts")}


def break_places(world: World, error: Callable[[], Exception], kinds: tuple[str, ...], broken: tuple[str, ...]) -> None:
    """Whatever is written there fails from now on."""

    def before_write(verb: str, place: Place) -> None:
        if place[0] in kinds and place[1] in broken:
            raise error()

    world.api.before_write = before_write


class Clients:
    """Look all the time whether what stands in healthy places is accepted."""

    def __init__(self, world: World, broken: tuple[str, ...]) -> None:
        self.world = world
        self.healthy = [place for place in PLACES if place not in broken]
        self.seen: dict[str, set[str]] = {place: set() for place in self.healthy}
        self.due: datetime | None = None

    async def pass_time(self, seconds: int) -> None:
        """Lets time pass; the operator works when the queue would have it work."""
        world, end = self.world, self.world.now + timedelta(seconds=seconds)
        retry = world.now
        while world.now < end:
            if (self.due is not None and self.due <= world.now) or retry <= world.now:
                self.due = (await world.work(KEY, rounds=1)).due
                retry = world.now + timedelta(seconds=BACKOFF.longest)
            self.look()
            world.now += timedelta(seconds=1)

    def look(self) -> None:
        passwords = self.world.passwords()
        for place in self.healthy:
            text = passwords[place, "reader-pull"]
            self.seen[place].add(text)
            assert self.world.lets_in(self.world.uid(), text), f"a login with what stands in {place} is refused"


async def new_world() -> World:
    world = World()
    world.namespace("zone", "web")
    world.account("zone", "default")
    world.token(**SPEC)
    await world.work()
    assert world.condition() == ("True", "Ready")
    # In a broken place may stand what has ended.
    world.api.after_write = lambda: None
    return world


@pytest.mark.parametrize("broken", [("staging",), ("web",), ("staging", "zone"), ("web", "zone")], ids="+".join)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ERRORS)
async def test_ten_rotations_while_places_are_broken(name: str, kind: str, broken: tuple[str, ...]) -> None:
    world = await new_world()
    for place in broken:
        world.api.edit(SERVICE_ACCOUNTS, place, "default", lambda body: body.update(imagePullSecrets=[]))
    break_places(world, ERRORS[name], KINDS[kind], broken)
    clients = Clients(world, broken)
    await clients.pass_time(11 * 60)
    assert all(len(texts) > 10 for texts in clients.seen.values()), "each rotation came to the healthy places"
    status, reason = world.condition("PullSecretsSynced")
    assert (status, reason) in {("False", "WriteRefused"), ("False", "WriteFailed")}
    assert world.condition()[0] == "False", "Ready tells the truth"
    message = _message(world, "PullSecretsSynced")
    assert all(place in message for place in broken)
    assert not any(f"{place}/" in message for place in clients.healthy)
    assert {"WriteRefused", "WriteFailed"} & set(world.events())
    world.api.before_write = lambda *_: None
    world.now += timedelta(seconds=BACKOFF.longest)
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert len(set(world.passwords().values())) == 1
    assert all(world.entries(place) == ["reader-pull"] for place in PLACES)
    if name != "an answer that nobody expects":
        world.assert_secret("")
    # What was in the way of one is forgotten.
    clients = Clients(world, ())
    await clients.pass_time(180)


def _message(world: World, type_: str) -> str:
    (message,) = [c["message"] for c in world.status()["conditions"] if c["type"] == type_]
    return str(message)


async def test_a_blip_is_not_told_and_delays_nothing() -> None:
    world = await new_world()
    world.now += timedelta(seconds=60)
    failures = iter([Unavailable("HTTP 500", 500)])

    def before_write(verb: str, place: Place) -> None:
        if place[:2] == ("secrets", "staging"):
            error = next(failures, None)
            if error is not None:
                raise error

    world.api.before_write = before_write
    told = Counter(world.events())
    await world.work()
    assert world.condition() == ("True", "Ready")
    assert Counter(world.events()) - told == Counter({"PasswordRotated": 1})
    assert len(set(world.passwords().values())) == 1


async def test_the_log_names_token_and_namespace_of_an_unexpected_error(caplog: pytest.LogCaptureFixture) -> None:
    world = await new_world()
    break_places(world, lambda: KeyError("metadata"), ("secrets",), ("staging",))
    world.now += timedelta(seconds=60)
    await world.work()
    assert "unexpected error over RegistryToken web/reader in namespace staging" in caplog.text


def unsettled(reason: str) -> float:
    return REGISTRY.get_sample_value("pullpass_operator_unsettled_tokens", {"reason": reason}) or 0


@pytest.mark.parametrize("deleted", [False, True])
async def test_a_token_is_counted_while_a_place_is_in_its_way(deleted: bool) -> None:
    world = await new_world()
    before = unsettled("WriteFailed")
    break_places(world, ERRORS["webhook is down"], ("secrets",), ("staging",))
    world.now += timedelta(seconds=60)
    await world.work()
    assert unsettled("WriteFailed") == before + 1
    if deleted:
        uid = world.uid()
        world.api.remove(REGISTRY_TOKENS, "web", "reader")
        world.deliver()
        await world.work(Key("cleanup", name=uid), rounds=2)
    else:
        world.api.before_write = lambda *_: None
        await world.work()
    assert unsettled("WriteFailed") == before


async def test_a_leaked_password_ends_everywhere_although_a_place_is_broken() -> None:
    """After a regeneration the old password is refused, also where the new one cannot be written."""
    world = await new_world()
    old = world.passwords()["web", "reader-pull"]
    break_places(world, ERRORS["webhook is down"], ("secrets",), ("staging",))
    world.api.edit(
        REGISTRY_TOKENS,
        "web",
        "reader",
        lambda body: body["metadata"].update(annotations={names.REGENERATE_ANNOTATION: "x"}),
    )
    await world.work()
    assert not world.lets_in(world.uid(), old)
    passwords = world.passwords()
    assert passwords["staging", "reader-pull"] == old
    assert passwords["web", "reader-pull"] == passwords["zone", "reader-pull"] != old
    assert world.lets_in(world.uid(), passwords["web", "reader-pull"])


async def test_a_namespace_that_terminates_in_the_middle_is_waited_for_by_nobody() -> None:
    world = await new_world()
    clients = Clients(world, ("staging",))
    await clients.pass_time(30)
    world.api.edit(NAMESPACES, "", "staging", lambda body: body["metadata"].update(deletionTimestamp="now"))
    await clients.pass_time(300)
    assert all(len(texts) > 4 for texts in clients.seen.values())
    assert world.condition() == ("False", "NamespaceNotFound")
    assert "staging" in _message(world, "Ready")


@pytest.mark.parametrize("bad", [{"b"}, {"a", "b", "c"}], ids=["one", "three"])
@pytest.mark.parametrize("name", ["refused", "webhook is down", "conflict"])
async def test_a_service_account_harms_neither_the_others_nor_the_pull_secret(name: str, bad: set[str]) -> None:
    world = await new_world()
    for account in "abcde":
        world.account("staging", account)
    world.api.remove(SECRETS, "staging", "reader-pull")

    def before_write(verb: str, place: Place) -> None:
        if place[:2] == ("serviceaccounts", "staging") and place[2] in bad:
            raise ERRORS[name]()

    world.api.before_write = before_write
    world.token(**SPEC | {"pullSecret": SPEC["pullSecret"] | {"serviceAccounts": ["*"]}})
    await world.work(rounds=3)
    assert len(set(world.passwords().values())) == 1
    assert ("staging", "reader-pull") in world.passwords()
    good = [account for account in ("a", "b", "c", "d", "e", "default") if account not in bad]
    assert all(world.entries("staging", account) == ["reader-pull"] for account in good)
    assert world.condition()[0] == "False"
    assert all(f"ServiceAccount staging/{account}" in _message(world, "Ready") for account in bad)


@pytest.mark.parametrize("count", [60, 130])
@pytest.mark.parametrize("name", ["refused", "webhook is down"])
async def test_many_bad_service_accounts_cost_nobody_else_anything(name: str, count: int) -> None:
    """More of them than one pass tries: for a new token, which then rotates."""
    world = World()
    world.namespace("zone", "web")
    world.api.after_write = lambda: None
    for number in range(count):
        world.account("staging", f"a{number:03}")
    world.account("staging", "good")

    def before_write(verb: str, place: Place) -> None:
        if place[:2] == ("serviceaccounts", "staging") and place[2].startswith("a"):
            raise ERRORS[name]()

    world.api.before_write = before_write
    world.token(**SPEC | {"pullSecret": SPEC["pullSecret"] | {"serviceAccounts": ["*"]}})
    await world.work(rounds=1)
    assert len(set(world.passwords().values())) == 1
    assert len(world.passwords()) == 3, "the pull secret waits for no ServiceAccount"
    clients = Clients(world, ())
    await clients.pass_time(300)
    assert all(len(texts) > 4 for texts in clients.seen.values())
    assert world.entries("staging", "good") == ["reader-pull"]
    assert world.condition()[0] == "False"
    assert "ServiceAccount staging/a" in _message(world, "Ready")


async def test_what_cannot_be_taken_away_keeps_nothing_else_that_a_token_has_left() -> None:
    world = await new_world()
    uid = world.uid()
    for number in range(60):
        world.account("staging", f"a{number:02}", "reader-pull")
        mark = {"annotations": {names.ENTRIES_ANNOTATION: f"reader-pull={uid}"}}
        world.api.edit(SERVICE_ACCOUNTS, "staging", f"a{number:02}", lambda body: body["metadata"].update(mark))  # noqa: B023
    world.api.refusing["delete", ("secrets", "staging", "reader-pull")] = ERRORS["refused"]()
    for number in range(55):
        world.api.refusing["patch", ("serviceaccounts", "staging", f"a{number:02}")] = ERRORS["refused"]()
    world.api.remove(REGISTRY_TOKENS, "web", "reader")
    await world.work(Key("cleanup", name=uid), rounds=4)
    assert all(world.entries("staging", f"a{number:02}") == [] for number in range(55, 60))
    assert world.entries("staging") == []


async def test_an_immutable_secret_is_called_so_and_made_anew_once_it_is_deleted() -> None:
    world = await new_world()
    world.api.edit(SECRETS, "staging", "reader-pull", lambda body: body.update(immutable=True))
    clients = Clients(world, ("staging",))
    await clients.pass_time(90)
    assert world.condition() == ("False", "WriteRefused")
    assert "Secret staging/reader-pull is immutable; delete it" in _message(world, "Ready")
    world.api.remove(SECRETS, "staging", "reader-pull")
    await world.work(rounds=1)
    assert len(set(world.passwords().values())) == 1
    assert world.condition() == ("True", "Ready")


async def test_a_foreign_secret_in_one_place_is_left_alone_and_delays_nobody() -> None:
    world = await new_world()
    world.api.remove(SECRETS, "staging", "reader-pull")
    world.api.put(SECRETS, {"metadata": {"namespace": "staging", "name": "reader-pull"}, "type": "Opaque"})
    clients = Clients(world, ("staging",))
    await clients.pass_time(300)
    assert all(len(texts) > 4 for texts in clients.seen.values())
    assert world.condition() == ("False", "SecretNotOwned")


# What every token needs: the records, and the status


@pytest.mark.parametrize("name", ["refused", "webhook is down", "no answer"])
async def test_where_no_record_can_be_written_places_are_repaired_and_the_status_says_so(name: str) -> None:
    world = await new_world()
    break_places(world, ERRORS[name], ("secrets",), ("credentials",))
    world.now += timedelta(seconds=60)
    world.api.remove(SECRETS, "zone", "reader-pull")
    await world.work(rounds=2)
    assert world.condition() == ("True", "Ready"), "the password in use is valid"
    assert world.condition("Reconciling") == ("True", "RecordNotWritten")
    assert "RecordNotWritten" in world.events()
    assert len(set(world.passwords().values())) == 1, "and put back where it was missing"
    world.api.before_write = lambda *_: None
    await world.work()
    assert world.condition("Reconciling") == ("", "")
    assert world.record_of(world.uid()).published == "password2"


@pytest.mark.parametrize("name", ["refused", "webhook is down"])
async def test_where_no_record_can_be_written_a_new_token_says_so(name: str) -> None:
    world = World()
    break_places(world, ERRORS[name], ("secrets",), ("credentials",))
    world.token(**SPEC)
    await world.work(rounds=2)
    assert world.condition() == ("Unknown", "RecordNotWritten")
    assert "RecordNotWritten" in world.events()
    assert world.entries() == ["reader-pull"]


@pytest.mark.parametrize("name", ["refused", "webhook is down", "conflict"])
async def test_where_no_status_can_be_written_places_have_their_passwords(name: str) -> None:
    world = await new_world()
    break_places(world, ERRORS[name], ("registrytokens",), ("web",))
    clients = Clients(world, ())
    await clients.pass_time(300)
    assert all(len(texts) > 4 for texts in clients.seen.values())


async def test_of_two_registries_the_trouble_of_one_is_not_that_of_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token server has a key of the registry `other`."""
    world = World()
    world.scope_map(name="others", registry="other")
    world.token("web", "stuck", scopeMapRef={"name": "others"})
    confirm = world.servers.confirm

    async def confirm_one(token_uid: str, password_id: str, record_version: str, registry: str) -> None:
        world.servers.busy = registry == "other"
        await confirm(token_uid, password_id, record_version, registry)

    monkeypatch.setattr(world.servers, "confirm", confirm_one)
    world.token(**SPEC | {"pullSecret": {}})
    await world.work(KEY._replace(name="stuck"), rounds=2)
    await world.work()
    assert world.condition() == ("True", "Ready")
    found = [c for c in world.status("web", "stuck")["conditions"] if c["type"] == "Ready"]
    assert [c["reason"] for c in found] == ["WaitingForTokenServer"]
    assert parse(world.passwords()["web", "reader-pull"]) is not None


async def test_where_the_token_servers_cannot_be_found_the_status_says_that(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not the record that is in the way."""
    world = await new_world()

    async def confirm(*_: str) -> None:
        raise Unavailable("GET endpointslices: HTTP 500", 500)

    monkeypatch.setattr(world.servers, "confirm", confirm)
    world.now += timedelta(seconds=60)
    await world.work(rounds=2)
    assert world.condition() == ("True", "Ready")
    assert world.condition("Reconciling") == ("True", "WaitingForTokenServer")
    assert "endpointslices" in _message(world, "Reconciling")


def test_every_error_is_one_of_the_client_or_a_defect() -> None:
    assert {type(error()) for error in ERRORS.values()} - {KeyError} == set(KubeError.__subclasses__()) - {
        Gone,
        NotFound,
    }


async def test_a_shorter_lifetime_holds_although_a_place_cannot_be_written() -> None:
    world = World()
    world.namespace("zone", "web")
    pull_secret = {"namespaces": ["staging", "zone"]}
    world.token(passwords={"lifetime": "720h", "overlap": "10s"}, pullSecret=pull_secret)
    await world.work()
    old = world.passwords()["staging", "reader-pull"]
    world.api.after_write = lambda: None  # what stands in `staging` is to be refused in the end
    break_places(world, ERRORS["refused"], ("secrets",), ("staging",))
    asked = {names.ROTATE_ANNOTATION: "one"}
    world.api.edit(REGISTRY_TOKENS, "web", "reader", lambda body: body["metadata"].update(annotations=asked))
    await world.work(rounds=5)
    assert world.lets_in(world.uid(), old)
    world.token(passwords={"lifetime": "10m", "overlap": "10s"}, pullSecret=pull_secret)
    for _ in range(45):
        await world.work(rounds=2)
        world.now += timedelta(seconds=15)
    assert not world.lets_in(world.uid(), old)
    assert world.lets_in(world.uid(), world.passwords()["zone", "reader-pull"])
