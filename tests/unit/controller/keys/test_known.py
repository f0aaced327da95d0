"""Many registries: what their passes read of each other, and one whose objects are broken among the others."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pullpass.api.registries import Registries, Registry
from pullpass.controller.keys import known, serving, signing
from pullpass.controller.keys.known import FRESH_SECONDS, KnownCAs
from pullpass.controller.keys.storage import KeySecretError
from pullpass.controller.settings import ServerCertificate
from pullpass.kube.client import KubeError, Refused, Unavailable
from pullpass.kube.resources import CONFIG_MAPS, SECRETS, Resource
from pullpass.signing.certificates import KeyPair, new_ca
from tests.unit.controller.keys.stored_keys import DAY, NOW, SETTINGS, files, pair_of, secret
from tests.unit.signing.memory import Key, Memory

COUNT = 64
MANY = Registries(
    registries=tuple(
        Registry(
            name="default" if not number else f"registry-{number}",
            service=f"service-{number}",
            issuer="pullpass",
            hosts=(f"registry-{number}.example",),
        )
        for number in range(COUNT)
    )
)
MANY_SETTINGS = replace(SETTINGS, registries=MANY)
FEW = Registries(registries=MANY.registries[:3])
FIRST, SECOND, THIRD = FEW
FEW_SETTINGS = replace(
    SETTINGS, registries=FEW, server_certificates=(ServerCertificate("tokens-tls", ("tokens.release.svc",)),)
)

Trouble = Callable[[], Any]


class Counting(Memory):
    """Counts what is read; `trouble` is what happens to whoever reads an object, instead of an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.read: Counter[tuple[str, str]] = Counter()
        self.trouble: dict[Key, Trouble] = {}
        self.before_write: dict[str, Trouble] = {}
        """What happens just before an object of that name is written for the first time."""

    async def get(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
        self.read[resource.plural, name] += 1
        await asyncio.sleep(0)
        if trouble := self.trouble.get((resource, str(namespace), name)):
            await trouble()
        return await super().get(resource, namespace, name)

    async def replace(
        self, resource: Resource, namespace: str | None, name: str, body: dict[str, Any]
    ) -> dict[str, Any]:
        if happens := self.before_write.pop(name, None):
            await happens()
        return await super().replace(resource, namespace, name, body)


async def refused() -> None:
    raise Refused("the request was refused", 403)


async def unavailable() -> None:
    raise Unavailable("no answer from the API server")


async def hanging() -> None:
    await asyncio.Event().wait()


def trust_map(registry: Registry) -> Key:
    return CONFIG_MAPS, "release", registry.trust_config_map


def ca_secret(registry: Registry) -> Key:
    return SECRETS, "release", registry.ca_secret


def leaf(kube: Memory, registry: Registry) -> KeyPair:
    return pair_of(kube, (SECRETS, "credentials", registry.signing_secret))


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


async def passes(kube: Memory, shared: KnownCAs, *, workers: int) -> None:
    """One round: a pass for each of the many registries, so many at once."""
    todo = list(MANY)

    async def work() -> None:
        while todo:
            await signing.reconcile(kube, MANY_SETTINGS, todo.pop(0), NOW, shared)

    await asyncio.gather(*(work() for _ in range(workers)))


@pytest.mark.parametrize("workers", [1, 8])
async def test_what_is_read_in_a_round_grows_with_the_registries_and_not_with_their_square(workers: int) -> None:
    kube, clock = Counting(), Clock()
    shared = KnownCAs(kube, MANY_SETTINGS, monotonic=clock)
    await passes(kube, shared, workers=workers)
    assert kube.read.total() <= 8 * COUNT, "the first round, in which every key is new"
    for again in (shared, KnownCAs(kube, MANY_SETTINGS, monotonic=clock)):  # and after a restart
        kube.read.clear()
        kube.calls.clear()
        clock.seconds += 600
        await passes(kube, again, workers=workers)
        assert kube.read.total() <= 6 * COUNT
        assert kube.calls == []
    kube.read.clear()
    clock.seconds += 600
    await serving.reconcile(kube, MANY_SETTINGS, NOW, shared)
    assert kube.read.total() <= 3 * COUNT


@pytest.mark.parametrize("trouble", [refused, unavailable, hanging])
@pytest.mark.parametrize("key", [trust_map, ca_secret])
async def test_a_registry_whose_objects_cannot_be_read_does_not_hold_up_the_others(
    key: Callable[[Registry], Key], trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known, "READ_SECONDS", 0.01)
    kube = Counting()
    shared = KnownCAs(kube, FEW_SETTINGS)
    kube.trouble[key(FIRST)] = trouble
    for registry in (SECOND, THIRD):
        await signing.reconcile(kube, FEW_SETTINGS, registry, NOW, shared)
    await serving.reconcile(kube, FEW_SETTINGS, NOW, shared)
    if trouble is not hanging:
        with pytest.raises(KubeError):
            await signing.reconcile(kube, FEW_SETTINGS, FIRST, NOW, shared)
    # Also when their leaves are due, and after a restart.
    for registry in (SECOND, THIRD):
        await signing.reconcile(kube, FEW_SETTINGS, registry, NOW + 61 * DAY, KnownCAs(kube, FEW_SETTINGS))
        assert leaf(kube, registry).not_before > NOW + 60 * DAY
    kube.trouble.clear()
    await signing.reconcile(kube, FEW_SETTINGS, FIRST, NOW + 61 * DAY, shared)
    assert leaf(kube, FIRST).not_before > NOW + 60 * DAY


async def test_a_ca_that_cannot_be_parsed_does_not_hold_up_the_others() -> None:
    kube = Counting()
    shared = KnownCAs(kube, FEW_SETTINGS)
    kube.put(ca_secret(FIRST), secret({"tls.crt": b"garbage", "tls.key": b"garbage"}))
    with pytest.raises(KeySecretError, match="cannot be used as a CA"):
        await signing.reconcile(kube, FEW_SETTINGS, FIRST, NOW, shared)
    for registry in (SECOND, THIRD):
        await signing.reconcile(kube, FEW_SETTINGS, registry, NOW, shared)
        assert leaf(kube, registry)


async def test_a_ca_that_was_brought_waits_until_it_can_be_compared_and_the_old_leaf_goes_on() -> None:
    kube, clock = Counting(), Clock()
    shared = KnownCAs(kube, FEW_SETTINGS, monotonic=clock)
    for registry in FEW:
        await signing.reconcile(kube, FEW_SETTINGS, registry, NOW, shared)
    before = leaf(kube, SECOND)
    kube.put(ca_secret(SECOND), secret(files(new_ca(NOW))))
    kube.trouble[trust_map(FIRST)] = refused
    clock.seconds += FRESH_SECONDS + 1
    with pytest.raises(KeySecretError, match="cannot tell whether the CA in Secret release/pullpass-ca-registry-1"):
        await signing.reconcile(kube, FEW_SETTINGS, SECOND, NOW, shared)
    assert leaf(kube, SECOND).certificate == before.certificate
    kube.trouble.clear()
    clock.seconds += FRESH_SECONDS + 1
    await signing.reconcile(kube, FEW_SETTINGS, SECOND, NOW, shared)
    assert (
        pair_of(kube, ca_secret(SECOND)).certificate_pem.decode() in kube.objects[trust_map(SECOND)]["data"]["ca.crt"]
    )


@pytest.mark.parametrize(("one", "other"), [(FIRST, THIRD), (THIRD, FIRST)], ids=["later", "earlier"])
async def test_of_two_passes_at_once_with_one_key_the_first_to_decide_publishes_it(
    one: Registry, other: Registry
) -> None:
    kube, ca = Counting(), new_ca(NOW)
    shared = KnownCAs(kube, FEW_SETTINGS, monotonic=Clock())
    for registry in FEW:
        await signing.reconcile(kube, FEW_SETTINGS, registry, NOW, shared)
    kube.put(ca_secret(one), secret(files(ca)))

    async def the_other() -> None:
        kube.put(ca_secret(other), secret(files(ca)))
        with pytest.raises(KeySecretError, match=f"has a key that registry {one.name} has, too"):
            await signing.reconcile(kube, FEW_SETTINGS, other, NOW, shared)

    kube.before_write[one.trust_config_map] = the_other
    await signing.reconcile(kube, FEW_SETTINGS, one, NOW, shared)
    pem = ca.certificate_pem.decode()
    assert [pem in kube.objects[trust_map(registry)]["data"]["ca.crt"] for registry in (one, other)] == [True, False]


async def test_what_another_process_has_published_is_seen_before_a_new_key_is() -> None:
    kube, clock = Counting(), Clock()
    shared = KnownCAs(kube, FEW_SETTINGS, monotonic=clock)
    for registry in FEW:
        await signing.reconcile(kube, FEW_SETTINGS, registry, NOW, shared)
    ca = new_ca(NOW)
    kube.put(ca_secret(THIRD), secret(files(ca)))
    await signing.reconcile(kube, FEW_SETTINGS, THIRD, NOW, KnownCAs(kube, FEW_SETTINGS))
    kube.put(ca_secret(FIRST), secret(files(ca)))
    clock.seconds += FRESH_SECONDS + 1
    with pytest.raises(KeySecretError, match="has a key that registry registry-2 has, too"):
        await signing.reconcile(kube, FEW_SETTINGS, FIRST, NOW, shared)
