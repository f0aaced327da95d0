"""The API server and etcd fail and come back, and a quiet cluster stays quiet."""

import asyncio
import os
from collections.abc import Callable

import pytest

from tests.chaos import faults, run
from tests.chaos.api import written
from tests.chaos.promises import kept
from tests.chaos.stage import Stage
from tests.chaos.waiting import until

pytestmark = [pytest.mark.controlplane, pytest.mark.asyncio(loop_scope="package")]

QUIET_SECONDS = 20
SEED = int(os.environ.get("CHAOS_SEED", "1"))
ROTATIONS = 60


@pytest.mark.parametrize("program", ["api_server", "etcd"])
async def test_a_control_plane_that_fails_and_comes_back(stage: Stage, program: str) -> None:
    async with kept(stage) as customers:
        # Who has never read a secret has nothing to come with while none can be read.
        await customers.round()
        await stage.tokens.storm()
        await until(stage.tokens.rotating, "a rotation is under way", every=0.005)
        await asyncio.to_thread(getattr(stage.cluster, f"stop_{program}"))
        try:
            before = customers.logins
            # Customers try to read their secrets first, which takes time now.
            await until(lambda: customers.logins > before + 10, "logins go on")
        finally:
            await asyncio.to_thread(getattr(stage.cluster, f"start_{program}"))
        before = stage.ledger.rotations
        await until(lambda: stage.ledger.rotations > before, "rotations go on")


async def test_a_restart_and_time_in_which_nothing_is_due_write_nothing(stage: Stage) -> None:
    async with kept(stage):
        await stage.settled(retired=True)
        for operator in stage.operators:
            operator.let_end()
            operator.program.terminate()
        for operator in stage.operators:
            assert await operator.end() == 0
        counted = written(await stage.api.metrics())
        began = asyncio.get_running_loop().time()
        for operator in stage.operators:
            operator.keep()
        await stage.leader()
        await asyncio.sleep(QUIET_SECONDS)
        sent = [request for request in stage.requests() if request.at > began and request.changes and not request.lease]
        assert [str(request) for request in sent] == []
        assert written(await stage.api.metrics()) == counted


async def test_a_short_run_of_random_faults(stage: Stage, say: Callable[[str], None]) -> None:
    """`make chaos` is the long one, with all kinds of them."""
    stage.restore()
    await stage.settled()
    outcome = await run.run(stage, ROTATIONS, SEED, say, kinds=faults.BRIEF)
    assert outcome.broken == []
    assert outcome.unserved == 0
    assert outcome.logins > 0
