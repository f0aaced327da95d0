"""How the queue is worked: what else has to run gets its turn, however much there is to do."""

import asyncio
from contextlib import suppress

from pullpass.controller.dispatch import dispatch
from pullpass.controller.outcome import Outcome
from pullpass.controller.queue import Key, WorkQueue

PASSES = 100


async def test_one_pass_begins_in_each_turn_of_the_event_loop() -> None:
    """The renewal of the Lease needs several turns, and with little processor time a pass takes long."""
    queue, turn, begun, over = WorkQueue(workers=32), 0, [], asyncio.Event()

    async def work_on(_: Key) -> Outcome:
        begun.append(turn)
        if len(begun) == PASSES:
            over.set()
        return Outcome()

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    for number in range(PASSES):
        queue.add(Key("token", f"team-{number}", "reader"))
    working, counting = asyncio.create_task(dispatch(queue, {"token": work_on})), asyncio.create_task(count())
    async with asyncio.timeout(30):
        await over.wait()
    for task in (working, counting):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert len(set(begun)) == PASSES, "several began in one turn"
