"""Clusters side by side never get the same ports."""

import pytest

from . import ports


def test_a_claimed_pair_is_two_neighbours_in_the_range() -> None:
    claim = ports.claim_pair()
    try:
        assert claim.token_port == claim.registry_port + 1
        assert ports.FIRST_PAIR <= claim.registry_port <= ports.LAST_PAIR
        assert (claim.registry_port - ports.FIRST_PAIR) % 2 == 0
    finally:
        claim.close()


def test_a_second_claim_gets_another_pair() -> None:
    first, second = ports.claim_pair(), ports.claim_pair()
    try:
        assert {first.registry_port, first.token_port}.isdisjoint({second.registry_port, second.token_port})
    finally:
        first.close()
        second.close()


def test_half_a_free_pair_is_no_pair() -> None:
    whole = ports.claim_pair()
    whole.registry.close()
    try:
        other = ports.claim_pair()
        assert other.registry_port != whole.token_port - 1
        other.close()
    finally:
        whole.close()


def test_a_port_in_use_is_refused() -> None:
    listener = ports.listen_anywhere()
    try:
        with pytest.raises(OSError, match="in use"):
            ports.listen(listener.getsockname()[1])
    finally:
        listener.close()


def test_free_ports_are_below_the_ephemeral_range() -> None:
    assert all(20000 <= ports.free() < 30000 for _ in range(20))
