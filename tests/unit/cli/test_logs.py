"""Log lines: their form, when they are written, and that no exception's text is in any."""

import asyncio
import io
import json
import logging
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from pullpass.cli import logs
from pullpass.tokenserver.audit import Entry

SECRET = "pullpass_not_to_be_seen"
log = logging.getLogger("pullpass.test_logs")


@pytest.fixture
def stream(logging_of_its_own: None, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error."""
    written = io.StringIO()
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=written))  # pytest replaces that of sys itself
    return written


def _plain() -> None:
    raise ValueError(SECRET)


def _noted() -> None:
    error = ValueError("x")
    error.add_note(SECRET)
    raise error


def _from_cause() -> None:
    try:
        _plain()
    except ValueError as error:
        raise RuntimeError(SECRET) from error


def _while_handling() -> None:
    try:
        _plain()
    except ValueError:
        dict[str, str]()[SECRET]


def _grouped() -> None:
    inner = ValueError(SECRET)
    inner.add_note(SECRET)
    raise ExceptionGroup(SECRET, [inner, TypeError(SECRET)])


def _unparsable() -> None:
    compile(f"{SECRET} =", SECRET, "exec")


RAISING = (_plain, _noted, _from_cause, _while_handling, _grouped, _unparsable)


@pytest.mark.parametrize("form", ["json", "text"])
@pytest.mark.parametrize("fail", RAISING)
def test_an_exception_is_logged_with_its_frames_and_without_its_text(
    stream: io.StringIO, form: str, fail: Callable[[], None]
) -> None:
    logs.configure("info", form)
    try:
        fail()
    except Exception:
        log.exception("it failed")
    written = stream.getvalue()
    assert SECRET not in written
    assert "it failed" in written
    assert __file__ in written
    for name in ("test_an_exception_is_logged_with_its_frames_and_without_its_text", fail.__name__):
        assert f" in {name}" in written


@pytest.mark.parametrize("form", ["json", "text"])
def test_every_exception_of_a_chain_is_named(stream: io.StringIO, form: str) -> None:
    logs.configure("info", form)
    for fail in (_from_cause, _while_handling, _grouped):
        try:
            fail()
        except Exception:
            log.exception("it failed")
    written = stream.getvalue()
    for type_ in ("ValueError", "RuntimeError", "KeyError", "ExceptionGroup", "TypeError"):
        assert type_ in written
    assert " in _plain" in written


def test_exceptions_that_were_caused_by_each_other_are_named_once(stream: io.StringIO) -> None:
    logs.configure("info", "text")
    one, other = ValueError(SECRET), TypeError(SECRET)
    one.__cause__, other.__cause__ = other, one
    log.error("it failed", exc_info=one)
    assert stream.getvalue().splitlines()[1:] == ["TypeError", "which was the cause of", "ValueError"]


def test_what_another_formatter_left_on_the_record_is_not_written(stream: io.StringIO) -> None:
    logs.configure("info", "text")
    try:
        _plain()
    except ValueError:
        record = logging.LogRecord("a", logging.ERROR, "", 0, "it failed", None, sys.exc_info())
    assert SECRET in logging.Formatter().format(record)
    logging.getLogger().handle(record)
    assert SECRET not in stream.getvalue()
    assert "ValueError" in stream.getvalue()


async def test_asyncios_own_lines_quote_no_values(stream: io.StringIO) -> None:
    logs.configure("info", "json")

    async def fail() -> None:
        _plain()

    loop = asyncio.get_running_loop()
    task = loop.create_task(fail())
    await asyncio.wait([task])
    loop.call_exception_handler({"message": "Task failed", "exception": task.exception(), "task": task})
    loop.call_soon(lambda text: _plain(), SECRET)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first, second = map(json.loads, stream.getvalue().splitlines())
    assert (first["message"], second["message"]) == (
        "Task failed",
        f"Exception in callback {test_asyncios_own_lines_quote_no_values.__qualname__}.",
    )
    assert SECRET not in stream.getvalue()


def test_a_line_that_cannot_be_written_shows_nothing(stream: io.StringIO) -> None:
    logs.configure("info", "json")
    log.info("%d", SECRET)
    assert stream.getvalue() == ""


def test_fields_are_beside_time_and_level(stream: io.StringIO) -> None:
    entry = Entry(decision="granted", client='"}\n{')
    logs.configure("info", "json")
    log.info(entry)
    line = json.loads(stream.getvalue())
    assert line.pop("time").endswith("+00:00")
    assert line == {"level": "info", "logger": log.name, "decision": "granted", "client": '"}\n{'}


def test_fields_are_json_behind_the_usual_prefix_in_text(stream: io.StringIO) -> None:
    entry = Entry(decision="granted", client='"}\n{')
    logs.configure("info", "text")
    log.info(entry)
    assert stream.getvalue().count("\n") == 1
    prefix, _, content = stream.getvalue().partition(f" {log.name}: ")
    assert prefix.endswith("INFO   ")
    assert json.loads(content) == entry


async def test_lines_of_one_turn_of_the_loop_are_written_together(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs.configure("info", "json")
    writes: list[str] = []
    monkeypatch.setattr(stream, "write", writes.append)
    for turn in range(2):
        for number in range(3):
            log.info("%d", number)
        assert len(writes) == turn
        await asyncio.sleep(0)
        assert len(writes) == turn + 1
        assert [json.loads(line)["message"] for line in writes[turn].splitlines()] == ["0", "1", "2"]


async def test_a_warning_waits_for_nothing_and_keeps_the_order(stream: io.StringIO) -> None:
    logs.configure("info", "json")
    log.info("first")
    log.warning("second")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["first", "second"]


def test_nothing_is_lost_when_a_loop_ends_or_the_process_does(stream: io.StringIO) -> None:
    logs.configure("info", "json")

    async def write(text: str) -> None:
        log.info(text)

    asyncio.run(write("one loop"))
    asyncio.run(write("another loop"))
    log.info("no loop")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == [
        "one loop",
        "another loop",
        "no loop",
    ]

    async def end() -> None:
        log.info("the end")
        assert "the end" not in stream.getvalue()
        logging.shutdown()  # what Python does at exit
        assert "the end" in stream.getvalue()

    asyncio.run(end())


def test_the_level_is_kept_to(stream: io.StringIO) -> None:
    logs.configure("warning", "text")
    log.info(Entry(decision="granted"))
    assert stream.getvalue() == ""
