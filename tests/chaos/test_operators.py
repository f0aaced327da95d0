"""The operator's processes: one works, and whatever happens to it, the other goes on where it stopped."""

import asyncio
from collections.abc import Callable

import pytest

from tests.chaos import faults
from tests.chaos.api import TOKENS
from tests.chaos.promises import kept
from tests.chaos.proxy import Cut, Disturbance
from tests.chaos.replicas import Operator
from tests.chaos.stage import Stage
from tests.chaos.traffic import Request
from tests.chaos.waiting import eventually, until

pytestmark = [pytest.mark.controlplane, pytest.mark.asyncio(loop_scope="package")]

Say = Callable[[str], None]


async def rotating(stage: Stage) -> None:
    """Begins a storm of rotations, and returns in the middle of them."""
    await stage.tokens.storm()
    await until(stage.tokens.rotating, "a rotation is under way", every=0.005)


async def goes_on(stage: Stage) -> None:
    """Waits until as many rotations as there are tokens have been made from now on."""
    wanted = stage.ledger.rotations + len(stage.tokens.names)
    await until(lambda: stage.ledger.rotations >= wanted, "rotations go on")


async def read_up(operator: Operator) -> None:
    """Waits until the proxy has read and passed on whatever a paused process had sent before."""

    def nothing_new() -> bool:
        requests = operator.proxy.requests
        return all(request.ended is not None for request in requests if not request.watch) and (
            not requests or clock() - requests[-1].at > 1
        )

    clock = asyncio.get_running_loop().time
    await until(nothing_new, f"{operator.name} has sent nothing for a second")


def writes_under_way(operator: Operator) -> list[Request]:
    """The writes that it has sent and that are not answered."""
    return [request for request in operator.proxy.requests if request.works and request.ended is None]


def works_since(operator: Operator, moment: float) -> list[Request]:
    """The writes that it has sent since."""
    return [request for request in operator.proxy.requests if request.works and request.at > moment]


async def test_a_killed_leader_is_replaced(stage: Stage, say: Say) -> None:
    async with kept(stage):
        leader = await stage.leader()
        leader.let_end()
        await rotating(stage)
        killed = asyncio.get_running_loop().time()
        leader.kill()
        other = await stage.other_leader(leader)
        assert other is not leader
        say(f"failover after a kill: {await faults.work_after(stage, killed, but=leader):.1f} s")
        leader.keep()


async def test_a_stopped_leader_gives_the_lease_back(stage: Stage, say: Say) -> None:
    async with kept(stage):
        leader = await stage.leader()
        leader.let_end()
        await rotating(stage)
        stopped = asyncio.get_running_loop().time()
        leader.program.terminate()
        assert await leader.end() == 0
        assert await stage.holder() is not leader
        await stage.other_leader(leader)
        say(f"failover after a stop: {await faults.work_after(stage, stopped, but=leader):.1f} s")


async def test_a_leader_that_was_paused_writes_nothing_any_more(stage: Stage, say: Say) -> None:
    """Neither what follows on the answers that it finds, nor again what got no answer before its connection broke."""
    async with kept(stage):
        leader = await stage.leader()
        leader.let_end()
        leader.proxy.delay = 1.0
        await rotating(stage)
        await until(lambda: writes_under_way(leader), "writes are under way", every=0.005)
        paused = asyncio.get_running_loop().time()
        leader.pause()
        await asyncio.sleep(leader.proxy.delay / 2)
        leader.proxy.cut(Cut.HANG)
        other = await stage.other_leader(leader)
        await until(lambda: works_since(other, paused), "the other one works")
        leader.proxy.calm()
        await read_up(leader)
        resumed = asyncio.get_running_loop().time()
        leader.resume()
        status = await leader.end()
        sent = works_since(leader, resumed)
        took = [r for r in leader.proxy.requests if r.at > resumed and r.takes_lease]
        say(f"failover after a pause: {works_since(other, paused)[0].at - paused:.1f} s")
        assert [str(request) for request in sent] == []
        assert took == []
        assert status == 1


async def test_a_leader_that_was_cut_off_writes_nothing_any_more(stage: Stage, say: Say) -> None:
    async with kept(stage):
        leader = await stage.leader()
        leader.let_end()
        await rotating(stage)
        cut = asyncio.get_running_loop().time()
        leader.proxy.cut(Cut.HANG)
        other = await stage.other_leader(leader)
        took_over = asyncio.get_running_loop().time()
        await until(lambda: works_since(other, cut), "the other one works")
        # What it has sent into the void arrives now, as a network can have it; none of it was sent late.
        leader.proxy.heal(deliver=True)
        assert await leader.end() == 1
        assert [str(request) for request in works_since(leader, took_over)] == []
        say(f"failover after a partition: {works_since(other, cut)[0].at - cut:.1f} s")


async def test_a_leader_that_cannot_renew_stops_before_another_begins(stage: Stage) -> None:
    """All but the Lease is in its reach, and it has plenty to do."""
    async with kept(stage):
        leader = await stage.leader()
        leader.let_end()
        await rotating(stage)
        leader.proxy.disturbances = (Disturbance(1, 503, to=lambda request: request.lease),)
        refused = asyncio.get_running_loop().time()
        assert await leader.end() == 1
        assert works_since(leader, refused), "it had nothing to do, so this test has shown nothing"
        await stage.other_leader(leader)


async def test_an_operator_whose_watches_are_refused_ends_and_begins_anew(stage: Stage) -> None:
    """Kopf cannot go on from a watch that the API server refuses as too old, so the process must end, and not hang."""
    async with kept(stage):
        await rotating(stage)
        for operator in stage.operators:
            operator.let_end()
            operator.proxy.disturbances = (Disturbance(1, 410, to=lambda request: request.watch),)
            operator.proxy.cut_watches()
        for operator in stage.operators:
            assert await operator.end() == 1


async def test_the_api_server_in_a_bad_state(stage: Stage) -> None:
    """Slow, overloaded, contradicting, and some writes are done of which nobody is told."""
    async with kept(stage):
        await rotating(stage)
        for replica in stage.replicas:
            replica.proxy.delay = 0.1
            replica.proxy.disturbances = (
                Disturbance(0.1, 409, to=lambda r: r.works),
                Disturbance(0.1, 429, retry_after=1),
                Disturbance(0.1, 500),
                Disturbance(0.05, 0),
                Disturbance(0.1, 0, to=lambda r: r.changes, forwarded=True),
            )
        before = stage.ledger.rotations
        await until(lambda: stage.ledger.rotations >= before + 10, "some rotations are done all the same")


async def test_watches_that_break_and_expire(stage: Stage) -> None:
    """The cache of the standby stays complete as well, as its turn may come."""
    async with kept(stage):
        leader = await stage.leader()
        standby = next(operator for operator in stage.operators if operator is not leader)
        await rotating(stage)
        for replica in stage.replicas:
            replica.proxy.page = 5
            replica.proxy.disturbances = (Disturbance(0.5, 410, to=lambda r: r.watch, in_stream=True),)
            replica.proxy.cut_watches()
        await goes_on(stage)
        stage.restore()

        async def knows_all() -> bool:
            there = (await stage.api.get(TOKENS))["items"]
            metrics = await standby.metrics(stage.endpoints.session)
            return metrics.get("pullpass_operator_registry_tokens") == len(there)

        await eventually(knows_all, f"{standby.name} knows every token")
