"""Rotation over days of fake time, with delays, crashes and new specs."""

from collections.abc import Iterator
from datetime import timedelta
from itertools import repeat

from hypothesis import given, settings
from hypothesis import strategies as st

from pullpass.api.registrytoken import Passwords, RegistryTokenSpec, ScopeMapRef
from pullpass.credentials import rotation
from tests.unit.credentials.simulation import SECOND, START, Operator, crashes, delays, policies


@settings(max_examples=150, deadline=None)
@given(policies(), delays, crashes, st.integers(1, 12))
def test_a_published_password_works_and_a_replaced_one_as_long_as_said(
    passwords: Passwords, delays: Iterator[int], crashes: Iterator[bool], lifetimes: int
) -> None:
    operator = Operator(passwords, delays, crashes)
    operator.live_until(START + lifetimes * (passwords.lifetime or timedelta(days=3)))
    if passwords.lifetime is None:
        assert operator.made == 1
    assert operator.made - len(operator.published) in (0, 1), "a password was made twice"
    assert len(set(operator.published)) == len(operator.published)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(policies(), st.integers(1, 60 * 60 * 24 * 2)), min_size=2, max_size=8), delays, crashes)
def test_a_published_password_works_whatever_becomes_of_the_spec(
    changes: list[tuple[Passwords, int]], delays: Iterator[int], crashes: Iterator[bool]
) -> None:
    operator = Operator(changes[0][0], delays, crashes)
    for passwords, seconds in changes:
        operator.passwords = passwords
        # A shorter lifetime may need the slot of a password that retires.
        operator.replaced.clear()
        operator.live_until(operator.now + seconds * SECOND)
    assert operator.made - len(operator.published) in (0, 1), "a password was made twice"


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60 * 48), st.lists(st.integers(1, 60 * 60 * 24), max_size=20), crashes)
def test_under_revoke_nothing_is_valid_after_the_first_lifetime(
    minutes: int, visits: list[int], crashes: Iterator[bool]
) -> None:
    lifetime = timedelta(minutes=minutes)
    spec = RegistryTokenSpec(
        scope_map_ref=ScopeMapRef(name="demo"), passwords=Passwords(lifetime=lifetime, on_expiry="Revoke")
    )
    operator = Operator(spec.passwords, repeat(0), crashes)
    for seconds in (0, *visits):
        operator.now += seconds * SECOND
        while True:
            step = rotation.next_step(operator.record, spec, operator.asked, "seed", operator.now)
            if isinstance(step, rotation.Settled | rotation.Ended) or next(operator.crashes):
                break
            operator.apply(step)
        first = operator.record.slots.get("password1")
        if first is not None:
            over = operator.now >= first.created_at + lifetime
            assert over != any(slot.valid_at(operator.now) for slot in operator.record.slots.values())
    assert operator.made <= 1
