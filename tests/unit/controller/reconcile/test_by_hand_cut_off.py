"""Rotating, regenerating and revoking by hand, with the operator cut off (promise 1)."""

import pytest

from tests.unit.controller.reconcile.by_hand import ask, revoke, settled, standing
from tests.unit.controller.reconcile.cut_off import Effect, at_every_call, in_every_way
from tests.unit.controller.reconcile.scene import EVERYWHERE, REVOKING
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


@in_every_way
@pytest.mark.parametrize("phase", PHASES)
async def test_cut_off_at_every_call(phase: str, ends: type[BaseException], watch: bool, effect: Effect) -> None:
    slot, in_use = PHASES[phase]

    async def begun(world: World) -> str:
        uid = await begin(world, phase)
        world.deliver()
        return uid

    def check(world: World, uid: str) -> None:
        assert world.record_of(uid).published == slot
        assert len(world.record_of(uid).slots) == in_use
        assert world.lets_in(uid, standing(world))
        assert world.status()["lastHandledRotateRequest"] == ("before" if phase.endswith("overlap") else "now")
        assert world.status().get("lastHandledRegenerateRequest") == ("now" if "regenerate" in phase else None)

    await at_every_call(begun, check, ends, effect, watch=watch)
