"""Real registries while a CA is replaced: they load the bundle one after the other, and none refuses a token."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from pullpass.signing import trust
from pullpass.signing.certificates import KeyPair, new_ca, new_key, new_leaf
from tests.contract.test_registry_accepts import VERSIONS, Registry, running, token
from tests.unit.signing.authorities import given_ca

REPLICAS = 2


class Replica:
    """A registry that reads its trust files when it starts, and at no other time."""

    def __init__(self, version: str, directory: Path, stack: ExitStack) -> None:
        self._version = version
        self._directory = directory
        self._here = stack.enter_context(ExitStack())
        self._registry: Registry | None = None

    def load(self, ca: KeyPair, published: Mapping[str, str]) -> None:
        """Starts, or starts again, with what is published."""
        self._here.close()
        self._registry = self._here.enter_context(running(self._version, ca, published, self._directory))

    def push(self, access_token: str) -> int:
        assert self._registry
        return self._registry.push(access_token)

    def pull(self, access_token: str) -> int:
        assert self._registry
        return self._registry.pull(access_token)


@pytest.fixture
def replicas(tmp_path: Path) -> Iterator[list[Replica]]:
    with ExitStack() as stack:
        made = []
        for version in VERSIONS:
            for number in range(REPLICAS):
                directory = tmp_path / f"{version}-{number}"
                directory.mkdir()
                made.append(Replica(version, directory, stack))
        yield made


def publish(
    before: Mapping[str, str], wanted: list[KeyPair], leaf: KeyPair, now: datetime, *, over: bool = False
) -> Mapping[str, str]:
    """What the ConfigMap holds next; `over`: when the CA that left has had its time."""
    certificates: list[x509.Certificate] = [ca.certificate for ca in wanted]
    bundle = trust.trusted(trust.authorities(before, now), certificates, now, distrust=over)
    return trust.contents(bundle, [leaf.certificate], before, now)


def test_a_ca_is_replaced_step_by_step_and_no_registry_refuses_a_token(replicas: list[Replica]) -> None:
    now = datetime.now(UTC)
    old, new = new_ca(now), new_ca(now)
    old_leaf, renewed_leaf, new_leaf_ = new_leaf(old, now), new_leaf(old, now), new_leaf(new, now)
    first = publish({}, [old], old_leaf, now)
    for replica in replicas:
        replica.load(old, first)
        assert replica.push(token(old, leaf=old_leaf, actions=["pull", "push"])) == 201
        # Whoever has not loaded the new CA takes nothing of it: hence the steps.
        assert replica.pull(token(new, leaf=new_leaf_)) == 401

    both = publish(first, [old, new], old_leaf, now)
    for replica in replicas:
        replica.load(new, both)
        assert accepted(replicas, token(old, leaf=old_leaf))
        assert accepted(replicas, token(old, leaf=renewed_leaf))

    issued_before = token(old, leaf=old_leaf)
    switched = publish(both, [new], new_leaf_, now)
    assert accepted(replicas, token(new, leaf=new_leaf_))
    assert accepted(replicas, issued_before)
    for replica in replicas:
        replica.load(new, switched)
        assert accepted(replicas, token(new, leaf=new_leaf_))
        assert accepted(replicas, issued_before)

    alone = publish(switched, [new], new_leaf_, now, over=True)
    for replica in replicas:
        replica.load(new, alone)
        assert accepted(replicas, token(new, leaf=new_leaf_))
        assert replica.pull(issued_before) == 401


def test_a_registry_with_a_slow_clock_accepts_a_ca_that_was_renewed_over_its_key(replicas: list[Replica]) -> None:
    now = datetime.now(UTC)
    old = given_ca(now, new_key())
    leaf = new_leaf(old, now)
    renewed = given_ca(now, old.key, begins=now + timedelta(hours=1))  # so it looks to a clock that is an hour behind
    first = publish({}, [old], leaf, now)
    both, alone = publish(first, [renewed], leaf, now), publish(first, [renewed], leaf, now, over=True)
    for replica in replicas:
        replica.load(old, first)
        assert replica.push(token(old, leaf=leaf, actions=["pull", "push"])) == 201
        replica.load(renewed, alone)
        assert replica.pull(token(old, leaf=leaf)) == 401
        replica.load(renewed, both)
        assert replica.pull(token(old, leaf=leaf)) == 200


def accepted(replicas: list[Replica], access_token: str) -> bool:
    return [replica.pull(access_token) for replica in replicas] == [200] * len(replicas)
