"""A token is given again to the very same request only, for seconds only, and only while nothing behind it changes."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.tokenserver import reuse
from pullpass.tokenserver.audit import Granted
from pullpass.tokenserver.cache import AccessCache
from pullpass.tokenserver.issuing import Issued
from pullpass.tokenserver.reuse import MIN_REMAINING_SECONDS, SECONDS, Decision, Reuse
from tests.registries import DEFAULT, ONE
from tests.unit.tokenserver.world import SIGNING_SECRET, World

LIFE = 300
SECRET = b"the access token"


def decided(cache: AccessCache, second: int, life: int = LIFE, opening: bytes = SECRET) -> Decision:
    """What was granted in that second."""
    issued = Issued("id", second, second + life, opening)
    granted = Granted("granted", DEFAULT, "web.reader", (), "repository:demo/nginx:pull", "aaaaaa", "id")
    return Decision(cache.decision_inputs("web.reader", DEFAULT.name), issued, granted)


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def memory(world: World) -> Reuse:
    return Reuse(world.cache)


def test_a_decision_holds_for_some_seconds(world: World, memory: Reuse) -> None:
    key = memory.key(("a",))
    decision = decided(world.cache, 100)
    memory.keep(key, decision)
    found = {second: memory.find(key, second) for second in range(90, 120)}
    assert {second for second, it in found.items() if it is decision} == set(range(100, 100 + SECONDS))
    assert {second for second, it in found.items() if it is not None} == set(range(100, 100 + SECONDS))
    assert memory.find(memory.key(("b",)), 100) is None
    assert memory.count == SECONDS


@pytest.mark.parametrize(
    ("life", "seconds"),
    [
        (MIN_REMAINING_SECONDS + SECONDS, SECONDS),
        (MIN_REMAINING_SECONDS + 2, 3),
        (MIN_REMAINING_SECONDS, 1),
        (MIN_REMAINING_SECONDS - 1, 0),
    ],
)
def test_what_is_given_again_lives_as_long_as_clients_take_for_granted(
    world: World, memory: Reuse, life: int, seconds: int
) -> None:
    key = memory.key(("a",))
    memory.keep(key, decided(world.cache, 100, life))
    assert sum(memory.find(key, second) is not None for second in range(90, 120)) == seconds


OWN: dict[str, Callable[[World], None]] = {
    "token": lambda world: world.token(),
    "token gone": lambda world: world.cache.on_token(
        "DELETED", {"metadata": {"name": "reader", "namespace": "web", "uid": "uid-1"}}
    ),
    "token that cannot be read": lambda world: world.token(enabled=None),
    "record": lambda world: world.record(),
    "record gone": lambda world: world.cache.on_secret("DELETED", {"metadata": {"name": "rt-uid-1"}}),
    "scope map": lambda world: world.scope_map(),
    "scope map gone": lambda world: world.cache.on_scope_map("DELETED", {"metadata": {"name": "demo", "uid": "m"}}),
    "namespace": lambda world: world.namespace(labels={"team": "web"}),
    "record without its label": lambda world: world.cache.on_secret("MODIFIED", {"metadata": {"name": "rt-uid-1"}}),
    "namespace gone": lambda world: world.cache.on_namespace("DELETED", {"metadata": {"name": "web", "uid": "n"}}),
    "leaf": lambda world: world.cache.on_secret("MODIFIED", SIGNING_SECRET),
}


@pytest.mark.parametrize("write", OWN.values(), ids=OWN.keys())
def test_any_write_of_what_it_rests_on_ends_it(world: World, memory: Reuse, write: Callable[[World], None]) -> None:
    """Also one that changes nothing: whoever disables a token and enables it again gets new access tokens."""
    key = memory.key(("a",))
    memory.keep(key, decided(world.cache, 100))
    assert memory.find(key, 100) is not None
    write(world)
    assert memory.find(key, 100) is None


OTHERS: dict[str, Callable[[World], None]] = {
    "token": lambda world: world.token("uid-2", {"name": "writer"}),
    "record": lambda world: world.record("uid-2"),
    "scope map": lambda world: world.cache.on_scope_map(
        "ADDED",
        {
            "metadata": {"name": "other", "uid": "m2"},
            "spec": {
                "rules": [{"repositories": ["x"], "actions": ["content/read"]}],
                "allowedNamespaces": {"from": "All"},
            },
        },
    ),
    "namespace": lambda world: world.namespace("other"),
    "unlabelled Secret": lambda world: world.cache.on_secret("ADDED", {"metadata": {"name": "rt-uid-2"}}),
}


@pytest.mark.parametrize("write", OTHERS.values(), ids=OTHERS.keys())
def test_what_is_written_about_others_ends_nothing(world: World, memory: Reuse, write: Callable[[World], None]) -> None:
    key = memory.key(("a",))
    memory.keep(key, decided(world.cache, 100))
    write(world)
    assert memory.find(key, 100) is not None


def test_what_is_kept_is_bounded_and_the_oldest_goes_first(
    world: World, memory: Reuse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reuse, "BYTES", 3 * decided(world.cache, 100).size)
    keys = [memory.key((str(number),)) for number in range(4)]
    for key in (keys[0], keys[1], keys[2], keys[0], keys[3]):
        memory.keep(key, decided(world.cache, 100))
    assert len(memory) == 3
    assert [memory.find(key, 100) is not None for key in keys] == [True, False, True, True]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.integers(1, 900)), max_size=40))
def test_long_answers_leave_room_for_fewer(kept: list[tuple[int, int, int]]) -> None:
    """Whoever may ask for much must not fill the memory with it."""
    cache, second, sizes = World().cache, 100, dict[bytes, int]()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reuse, "BYTES", 3000)
        memory = Reuse(cache)
        for name, later, length in kept:
            second += later
            decision, key = decided(cache, second, opening=b"a" * length), memory.key((str(name),))
            memory.keep(key, decision)
            sizes[key] = decision.size
            assert decision.size > 2 * length
            assert memory.find(key, second) is decision
            assert sum(sizes[key] for key in memory._decisions) <= 3000


def test_what_is_over_is_not_kept(world: World, memory: Reuse) -> None:
    for number in range(10):
        memory.keep(memory.key((str(number),)), decided(world.cache, 100))
    memory.keep(memory.key(("later",)), decided(world.cache, 100 + SECONDS))
    memory.keep(memory.key(("dying",)), decided(world.cache, 100 + SECONDS, MIN_REMAINING_SECONDS - 1))
    assert len(memory) == 1


PARTS = st.lists(st.text("ab:'\", \\\udc80", max_size=3), max_size=4).map(tuple)


@given(PARTS, PARTS)
def test_different_requests_have_different_keys(one: tuple[str, ...], other: tuple[str, ...]) -> None:
    memory = Reuse(AccessCache(ONE))
    assert (memory.key(one) == memory.key(other)) == (one == other)


def test_another_process_has_other_keys() -> None:
    assert Reuse(AccessCache(ONE)).key(("a",)) != Reuse(AccessCache(ONE)).key(("a",))


def test_a_decision_does_not_show_its_token(world: World) -> None:
    assert SECRET.decode() not in repr(decided(world.cache, 100))
