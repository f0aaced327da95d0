"""Clusters side by side never get the same ports."""

from contextlib import closing

import pytest

from . import ports


def test_a_free_pair_is_two_neighbours_in_the_range() -> None:
    registry, token = ports.free_pair()
    assert token == registry + 1
    assert ports.FIRST_PAIR <= registry <= ports.LAST_PAIR
    assert (registry - ports.FIRST_PAIR) % 2 == 0


@pytest.mark.parametrize("half", [0, 1])
def test_half_a_free_pair_is_no_pair(half: int) -> None:
    whole = ports.free_pair()
    with closing(ports.listen(whole[half])):
        assert set(ports.free_pair()).isdisjoint(whole)


def test_a_port_in_use_is_refused() -> None:
    listener = ports.listen_anywhere()
    try:
        with pytest.raises(OSError, match="in use"):
            ports.listen(listener.getsockname()[1])
    finally:
        listener.close()


def test_free_ports_are_below_the_ephemeral_range() -> None:
    assert all(20000 <= ports.free() < 30000 for _ in range(20))
