"""Long work lets others run."""

import asyncio

from pullpass.kube.timeslice import SLICE_SECONDS, TimeSlice


async def test_it_yields_when_the_slice_is_over_and_not_before() -> None:
    time, turns = 0.0, 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    slice_ = TimeSlice(lambda: time)
    seen = []
    for _ in range(6):
        time += SLICE_SECONDS / 2
        await slice_.yield_if_over()
        seen.append(turns)
    assert seen == [0, 1, 1, 2, 2, 3]
    task.cancel()
