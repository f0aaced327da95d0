"""The threads that hash: they give way to the event loop, from whatever priority the process has, or not at all."""

import os
import threading
from collections.abc import Iterator

import pytest

from pullpass.credentials import hashing
from pullpass.tokenserver.bcrypt_pool import NICENESS, Checks
from tests.unit.tokenserver.world import COST

HASH = hashing.hash_password("right", COST)


@pytest.fixture
def checks() -> Iterator[Checks]:
    made = Checks(hashing.dummy_hash(COST), threads=1)
    yield made
    made.close()


def priority_of_this_thread() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


async def test_passwords_are_checked_where_no_thread_may_change_its_priority(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under seccomp."""

    def forbidden(*_: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setpriority", forbidden)
    assert await checks.begin("right", HASH)
    assert not await checks.begin("wrong", HASH)
    assert not await checks.begin("right", None)


async def test_hashing_threads_start_from_the_priority_of_the_process(
    checks: Checks, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that was started with a low one may not go back to a higher one."""
    seen: list[int] = []
    check = hashing.check

    def noted(text: str, hash_: str) -> bool:
        seen.append(priority_of_this_thread())
        return check(text, hash_)

    monkeypatch.setattr(hashing, "check", noted)
    assert await checks.begin("right", HASH)
    assert seen == [min(19, priority_of_this_thread() + NICENESS)]
