"""Rotating, regenerating and revoking by hand, with the operator cut off (promise 1)."""

from typing import Literal

import pytest

from pullpass.kube.client import Unavailable
from tests.unit.controller.fake_api import Killed
from tests.unit.controller.reconcile.by_hand import ask, revoke, settled, standing
from tests.unit.controller.reconcile.scene import EVERYWHERE, FAR, OWN, REVOKING
from tests.unit.controller.world import World, hours

PHASES = {
    # The slot that is published in the end, and how many are in use.
    "rotate": ("password2", 2),
    "regenerate in an overlap": ("password1", 1),
    "revoke in an overlap": ("password2", 2),
    "end and rotate": ("password1", 1),
}


async def begin(world: World, phase: str) -> str:
    """A settled token that something is asked of; returns its UID."""
    uid, current = await settled(world, **(REVOKING if phase.startswith("end") else EVERYWHERE))
    if phase.endswith("in an overlap"):
        ask(world, rotate="before")
        await world.work()
        current = standing(world)
    if phase.startswith("end"):
        world.now += hours(3)
        world.dead.add(current)
    if phase.startswith("revoke"):
        revoke(world, current)
    if phase.endswith("rotate"):
        ask(world, rotate="now")
    if phase.startswith("regenerate"):
        ask(world, rotate="before", regenerate="now")
    return uid


@pytest.mark.parametrize("effect", ["before", "after"])
@pytest.mark.parametrize("watch", [True, False], ids=["watch", "lagging-watch"])
@pytest.mark.parametrize("ends", [Killed, Unavailable], ids=["killed", "unavailable"])
@pytest.mark.parametrize("phase", PHASES)
async def test_cut_off_at_every_call(
    phase: str, ends: type[BaseException], watch: bool, effect: Literal["before", "after"]
) -> None:
    slot, in_use = PHASES[phase]
    number = 0
    while True:
        number += 1
        world = World()
        uid = await begin(world, phase)
        world.deliver()
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
        assert world.record_of(uid).published == slot
        assert len(world.record_of(uid).slots) == in_use
        assert set(world.passwords()) == {OWN, FAR}
        assert world.lets_in(uid, standing(world))
        assert all(len(uids) == 1 for uids in world.uids.values()), "a pull secret was made anew"
        assert world.status()["lastHandledRotateRequest"] == ("before" if phase.endswith("overlap") else "now")
        assert world.status().get("lastHandledRegenerateRequest") == ("now" if "regenerate" in phase else None)
        world.assert_secret("")
        if not reached:
            break
    assert number > 8
