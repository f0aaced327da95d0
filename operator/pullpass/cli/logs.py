"""How log lines look: JSON for machines, text for people.

One policy about exceptions holds for every line: where one arose (file, line and function of each frame) and of which
type it is, with those that it was raised from. Its text is left out, as it may quote what it stumbled over: a password.
"""

import asyncio
import json
import logging
import re
import sys
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, TextIO

_encode = json.JSONEncoder().encode
"""As json.dumps does it, without a look at its arguments for each line."""
_QUOTES_VALUES = re.compile(r"[\n(<]")
"""Where asyncio's message about an exception begins to quote tasks, callbacks and their arguments."""


def describe_exception(error: BaseException) -> str:
    """Describes an exception and those behind it: frames and types, and nothing that they say."""
    return "\n".join(_described(error, {id(error)}))


def _described(error: BaseException, seen: set[int]) -> Iterator[str]:
    before, link = error.__cause__, "which was the cause of"
    if before is None and not error.__suppress_context__:
        before, link = error.__context__, "and while that was handled"
    if before is not None and id(before) not in seen:
        seen.add(id(before))
        yield from _described(before, seen)
        yield link
    yield type(error).__qualname__
    for frame in traceback.StackSummary.extract(traceback.walk_tb(error.__traceback__), lookup_lines=False):
        yield f"  {frame.filename}:{frame.lineno} in {frame.name}"
    if isinstance(error, BaseExceptionGroup):
        for number, member in enumerate(error.exceptions, 1):
            yield f"  {number}. of its exceptions:"
            yield from (f"  {line}" for line in _described(member, seen))


class TextFormatter(logging.Formatter):
    """Time, level, logger and message in one line; below it where an exception arose."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)-7s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """Formats one record."""
        # Another formatter may have left its own description there, with the exception's text.
        record.exc_text = None
        return super().format(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802  # logging's name
        """Describes an exception without its text."""
        return describe_exception(ei[1])


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (RFC 3339, UTC), level, logger, message. A message that is a dictionary stands for
    fields beside these."""

    def format(self, record: logging.LogRecord) -> str:
        """Formats one record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        if isinstance(record.msg, dict):
            line |= record.msg
        else:
            line["message"] = record.getMessage()
        if record.exc_info and record.exc_info[1] is not None:
            line["exception"] = describe_exception(record.exc_info[1])
        return _encode(line)


class LineHandler(logging.StreamHandler[TextIO]):
    """Writes the lines of one turn of the event loop at its end, in one go: a token server under load has dozens.

    A warning, and whatever is logged outside a loop or when the process ends, is written at once, in its order.
    """

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._lines: list[str] = []
        self._flushed_by: asyncio.AbstractEventLoop | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Takes one record."""
        try:
            self._lines.append(self.format(record) + self.terminator)
            loop = _running_loop()
            if loop is None or record.levelno >= logging.WARNING:
                self.flush()
            elif loop is not self._flushed_by:
                loop.call_soon(self.flush)
                self._flushed_by = loop
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        """Writes what was put together."""
        with self.lock:  # type: ignore[union-attr]  # every handler that was initialized has one
            lines, self._lines, self._flushed_by = self._lines, [], None
            if lines:
                self.stream.write("".join(lines))
                self.stream.flush()


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _without_values(record: logging.LogRecord) -> bool:
    """Leaves of asyncio's message about an exception only what says nothing of values."""
    if record.exc_info:
        record.msg, record.args = _QUOTES_VALUES.split(record.getMessage(), maxsplit=1)[0].rstrip(), None
    return True


def configure(level: str, form: str) -> None:
    """Sends all log lines of the given level and above to standard error."""
    handler = LineHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("asyncio").addFilter(_without_values)
    # Not in any line of ours, and looked up for each of them.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    # A line that cannot be written must not show its arguments.
    logging.raiseExceptions = False
