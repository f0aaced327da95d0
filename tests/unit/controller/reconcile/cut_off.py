"""The operator, cut off at every call of one piece of work, in both ways that a call can end."""

from collections.abc import Awaitable, Callable
from typing import Literal

import pytest

from pullpass.kube.client import Unavailable
from tests.unit.controller.fake_api import Killed
from tests.unit.controller.reconcile.scene import FAR, OWN
from tests.unit.controller.world import World

Effect = Literal["before", "after"]

in_every_way = pytest.mark.parametrize(
    ("ends", "watch", "effect"),
    [
        pytest.param(ends, watch, effect, id=f"{name}-{'' if watch else 'lagging-'}watch-{effect}")
        for name, ends in (("killed", Killed), ("unavailable", Unavailable))
        for watch in (True, False)
        for effect in ("before", "after")
    ],
)


async def at_every_call(
    begin: Callable[[World], Awaitable[str]],
    check: Callable[[World, str], None],
    ends: type[BaseException],
    effect: Effect,
    *,
    watch: bool,
) -> None:
    """Begins anew for each call, is cut off there, and goes on to the end: one password was made, and it stands in both
    places in the pull secrets that were there. `begin` returns the token's UID, `check` looks at the rest."""
    number = 0
    while True:
        number += 1
        world = World()
        uid = await begin(world)
        made_before = len(world.nonces)
        fault = world.api.fault = (world.api.calls + number, effect, ends("cut off"))
        try:
            await world.work(watch=watch)
        except Killed:
            world.api.fault = None
            world.restart()
            await world.work(watch=watch)
        reached = world.api.calls >= fault[0]
        assert world.condition() == ("True", "Ready"), f"cut off at call {number}: needs the watch to go on"
        world.deliver()
        await world.work()
        assert world.condition() == ("True", "Ready"), number
        assert len(world.nonces) == made_before + 1, f"cut off at call {number}: a second password was made"
        assert set(world.passwords()) == {OWN, FAR}
        assert all(len(uids) == 1 for uids in world.uids.values()), "a pull secret was made anew"
        check(world, uid)
        world.assert_secret("")
        if not reached:
            break
    assert number > 8
