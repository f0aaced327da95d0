"""An answer is repeated in its own second and state only, and to the very same request only."""

from hypothesis import given
from hypothesis import strategies as st

from pullpass.tokenserver import repeats
from pullpass.tokenserver.repeats import Answer, Repeats

ANSWER = Answer("granted", b"{}")


def test_an_answer_holds_for_its_second_and_state() -> None:
    memory = Repeats()
    key = memory.key(["a"])
    memory.keep(key, 10, 1, ANSWER)
    assert memory.find(key, 10, 1) is ANSWER
    assert memory.find(key, 11, 1) is None
    assert memory.find(key, 10, 2) is None
    assert memory.find(memory.key(["b"]), 10, 1) is None
    memory.keep(memory.key(["b"]), 11, 1, ANSWER)
    assert memory.find(key, 11, 1) is None
    assert memory.count == 1


def test_what_is_kept_is_bounded() -> None:
    memory = Repeats()
    keys = [memory.key([str(n)]) for n in range(repeats.MOST + 1)]
    for key in keys:
        memory.keep(key, 10, 1, ANSWER)
    assert memory.find(keys[-2], 10, 1) is ANSWER
    assert memory.find(keys[-1], 10, 1) is None


PARTS = st.lists(st.text("ab:1", max_size=3), max_size=4)


@given(PARTS, PARTS)
def test_different_requests_have_different_keys(one: list[str], other: list[str]) -> None:
    memory = Repeats()
    assert (memory.key(one) == memory.key(other)) == (one == other)


def test_an_answer_does_not_show_its_token() -> None:
    assert "{}" not in repr(ANSWER)
