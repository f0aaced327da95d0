"""How the process ends: whatever of it ends first, none of it works on."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, NoReturn

import kopf
import pytest

from pullpass.controller import process
from pullpass.kube.client import Kube
from tests.unit.controller.world import SETTINGS


class EndedError(Exception):
    """In place of the end of the process."""


class Parts:
    """Stands in for everything that the process is made of; each part goes on until it is told otherwise."""

    def __init__(self) -> None:
        self.watch_fails = asyncio.Event()
        self.kopf_ends = asyncio.Event()
        self.leading = False

    async def spawn_tasks(self, *, ready_flag: asyncio.Event, stop_flag: asyncio.Event, **_: Any) -> list[Any]:
        ready_flag.set()
        return [asyncio.create_task(self._watch()), asyncio.create_task(stop_flag.wait())]

    async def _watch(self) -> None:
        await self.watch_fails.wait()

    async def run_tasks(self, tasks: list[Any], **_: Any) -> None:
        await self.kopf_ends.wait()

    async def lead(self, *_: Any) -> NoReturn:
        self.leading = True
        try:
            await asyncio.Event().wait()
        finally:
            self.leading = False
        raise AssertionError


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> Parts:
    made = Parts()

    @asynccontextmanager
    async def connect(_: str | None) -> AsyncIterator[None]:
        yield

    def exit_(status: int) -> NoReturn:
        assert not made.leading
        raise EndedError(f"exit status {status}")

    async def for_ever(*_: Any) -> None:
        await asyncio.Event().wait()

    nothing = SimpleNamespace(shutdown=lambda: None, server_close=lambda: None, join=lambda: None)
    monkeypatch.setattr(Kube, "connect", connect)
    monkeypatch.setattr(kopf, "spawn_tasks", made.spawn_tasks)
    monkeypatch.setattr(kopf, "run_tasks", made.run_tasks)
    monkeypatch.setattr(process, "start_http_server", lambda _: (nothing, nothing))
    monkeypatch.setattr(process, "_compare", for_ever)
    monkeypatch.setattr(process, "_lead", made.lead)
    monkeypatch.setattr(process, "KOPF_SECONDS", 0.05)
    monkeypatch.setattr(os, "_exit", exit_)
    return made


async def begun(parts: Parts) -> "asyncio.Task[None]":
    running = asyncio.create_task(process.run(SETTINGS))
    for _ in range(10):
        await asyncio.sleep(0)
    assert parts.leading
    return running


async def test_who_watches_no_more_ends_also_where_kopf_waits_for_itself(parts: Parts) -> None:
    """Otherwise it would lead on, and hear of nothing."""
    running = await begun(parts)
    parts.watch_fails.set()
    with pytest.raises(EndedError, match="exit status 1"):
        await running


async def test_where_kopf_ends_the_process_ends_with_a_reason(parts: Parts) -> None:
    running = await begun(parts)
    parts.watch_fails.set()
    parts.kopf_ends.set()
    with pytest.raises(process.OperatorEndedError, match="Kopf ended"):
        await running
    assert not parts.leading


async def test_who_has_not_read_everything_does_not_ask_for_the_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without processor time it would lose the Lease while it reads, end, and begin to read everything."""
    asked = asyncio.Event()

    async def lead(*_: Any, **__: Any) -> str:
        asked.set()
        return "lost"

    monkeypatch.setattr(process, "lead", lead)
    state = process.OperatorState()
    leading = asyncio.create_task(process._lead(Kube(None), state, SETTINGS))  # type: ignore[arg-type]
    for _ in range(10):
        await asyncio.sleep(0)
    assert not asked.is_set()
    state.synced.set()
    with pytest.raises(process.OperatorEndedError, match="Lease"):
        await leading
    assert asked.is_set()
