"""What the process writes to stderr: one JSON object a line, or text for a person at a terminal.

`set_up` is all that anybody needs; who has something to say uses the standard library's loggers. Whatever a record
holds, it is one line, and each character that a terminal would obey or nobody could see is spelled out. What goes wrong
outside of any request (warnings, uncaught errors) comes in the same form.

Errors are logged with their stacks. Their own words are left out wherever they may quote what a client sent.
"""

import asyncio
import contextlib
import datetime
import logging
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Coroutine
from types import TracebackType
from typing import Any, Final, TextIO, TypeVar

from bbr.system.writer import UnblockedWriter
from bbr.telemetry.allowance import Allowance, more
from bbr.text import dumps, printable, printable_json

T = TypeVar("T")

# The logger of requests (bbr.telemetry.access_log). It has a setting of its own, and bounds itself.
ACCESS: Final = "bbr.access"

# Of one text, in characters: container runtimes cut lines at 16 KiB.
MAX_TEXT: Final = 4096
MAX_STACK: Final = 8192

# Lines of one place in the code: so many in so many seconds, as many as one change of the model table may call for.
MAX_SAME_LINES: Final = 20
SAME_LINES_SECONDS: Final = 10.0

# Loggers of code that holds what clients sent: an error's words could quote it.
_PRIVATE: Final = ("bbr.transports", "bbr.admin", "grpc", "asyncio")

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "private"}
_PLAIN: Final = re.compile(r"[^\s\"=\\]+")

_Formatter = Callable[[logging.LogRecord, str], str]

log = logging.getLogger(__name__)


def set_up(level: str = "info", form: str = "auto", stream: TextIO | None = None) -> str:
    """Let all that is logged, warned of and not caught go to a stream, in place of what was set up before.

    Args:
        level: one of config.LOG_LEVELS; it is about bbr's own lines. Of libraries' "debug" lines none is written: they
            hold header fields. Requests (`ACCESS`) are written at any level.
        form: one of config.LOG_FORMATS; "auto" is text for a terminal, else JSON.
        stream: stderr, if there is none.

    Returns:
        The form that was chosen, "json" or "text".
    """
    stream = sys.stderr if stream is None else stream
    if form == "auto":
        form = "text" if _is_terminal(stream) else "json"
    _keep_descriptors()
    root = logging.getLogger()
    for old in [each for each in root.handlers if isinstance(each, Lines)]:
        root.removeHandler(old)
        old.close()
    # Python has no stderr if the descriptor was closed before it started.
    root.addHandler(Lines(_writer(stream), as_json if form == "json" else as_text) if stream else logging.NullHandler())
    number = logging.getLevelNamesMapping()[level.upper()]
    root.setLevel(max(number, logging.INFO))
    logging.getLogger("bbr").setLevel(number)
    logging.getLogger(ACCESS).setLevel(logging.INFO)
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    sys.unraisablehook = _unraisable
    threading.excepthook = _thread_failed
    return form


async def watched(main: Coroutine[Any, Any, T]) -> T:
    """Await `main`, and log what fails in its event loop and is awaited by nobody."""
    asyncio.get_running_loop().set_exception_handler(_loop_failed)
    return await main


class Lines(logging.Handler):
    """Writes each record as one line, in one call.

    Of lines from the same place in the code at most MAX_SAME_LINES are written in SAME_LINES_SECONDS; the next one, or
    `close`, says how many were left out. Requests bound themselves, and "debug" lines are for who wants them all.

    A stream that is closed, full, broken or not read takes lines away, and nothing else; the next line that can be
    written says how many.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        form: _Formatter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._write = write
        self._form = form
        self._clock = clock
        self._places: dict[tuple[str, int], Allowance] = {}
        self._unwritten = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless there were too many like it."""
        try:
            left_out = 0
            if record.levelno > logging.DEBUG and record.name != ACCESS:
                place = (record.pathname, record.lineno)
                allowance = self._places.get(place)
                if allowance is None:
                    allowance = self._places[place] = Allowance(MAX_SAME_LINES, SAME_LINES_SECONDS)
                if not allowance.take(self._clock()):
                    return
                left_out = allowance.take_left_out()
            lost = f" ({self._unwritten} lines before it could not be written)" if self._unwritten else ""
            line = self._form(record, more(left_out) + lost)
            self._write(line.encode("utf-8", "backslashreplace") + b"\n")
            self._unwritten = 0
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Do without a line: the standard library would write what the record holds, in a form of its own."""
        error = sys.exception()
        if isinstance(error, OSError):
            self._unwritten += 1
        else:
            self._write_own(
                f"a line could not be written: {type(error).__name__} at {_place(record.pathname, record.lineno)}"
            )

    def close(self) -> None:
        """Say how many lines were left out since the last ones; the stream stays open."""
        for (path, line), allowance in self._places.items():
            if left_out := allowance.take_left_out():
                self._write_own(f"{left_out} lines of {_place(path, line)} were left out since the last one")
        super().close()

    def _write_own(self, sentence: str) -> None:
        """Write a warning of this handler's, which no bound applies to."""
        made = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": sentence}
        with contextlib.suppress(Exception):
            self._write(self._form(logging.makeLogRecord(made), "").encode() + b"\n")


def as_json(record: logging.LogRecord, tail: str) -> str:
    """Return a record as one line of JSON; `tail` is added to its message."""
    fields: dict[str, Any] = {
        "time": _time(record.created),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _cut(record.getMessage().strip() + tail, MAX_TEXT),
    }
    for name, value in vars(record).items():
        if name not in _STANDARD and name not in fields and name != "stack":
            fields[name] = _shortened(value)
    stack = _stack(record)
    if stack:
        fields["stack"] = stack
    return printable_json(_dumped(fields))


def as_text(record: logging.LogRecord, tail: str) -> str:
    """Return a record as a line for people, with an error's stack on lines below it, each of them indented."""
    message = _cut(record.getMessage().strip() + tail, MAX_TEXT)
    line = f"{_time(record.created)} {record.levelname} {record.name}: {message}"
    for name, value in vars(record).items():
        if name not in _STANDARD:
            line += f" {name}={_word(value)}"
    line = printable(line)
    for each in _stack(record).splitlines():
        line += f"\n    {printable(each)}"
    return line


def _time(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def _word(value: object) -> str:
    text = _cut(value if isinstance(value, str) else _dumped(value), MAX_TEXT)
    if _PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}... ({len(text) - limit} more characters)"


def _shortened(value: object) -> object:
    if isinstance(value, str):
        return _cut(value, MAX_TEXT)
    if value is None or isinstance(value, int | float):
        return value
    text = _dumped(value)
    return value if len(text) <= MAX_TEXT else _cut(text, MAX_TEXT)


def _dumped(value: object) -> str:
    return dumps(value, default=_unknown).decode()


def _unknown(value: object) -> str:
    return f"<{type(value).__name__}>"  # its words may be anybody's


def _stack(record: logging.LogRecord) -> str:
    """Return the stacks of a record's error and of those that led to it; "" without one."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return ""
    wordless = getattr(record, "private", False) or f"{record.name}.".startswith(tuple(f"{each}." for each in _PRIVATE))
    parts: list[str] = []
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if wordless:
            words = [f"{type(error).__module__}.{type(error).__qualname__}\n"]
        else:
            words = traceback.format_exception_only(error)
        parts.append(
            "".join(["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__), *words])
        )
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    text = "\nwhich led to:\n".join(reversed(parts)).rstrip("\n")
    # Where it came about stands at the end.
    return text if len(text) <= MAX_STACK else f"({len(text) - MAX_STACK} characters)... {text[-MAX_STACK:]}"


def _place(path: str, line: int) -> str:
    return f"{os.path.basename(path)}:{line}"


def _keep_descriptors() -> None:
    """Open stdin, stdout and stderr, to nothing, if they are closed.

    Else a socket gets one of their numbers, and libuv ends the process when it closes that.
    """
    while (opened := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(opened)


def _is_terminal(stream: TextIO | None) -> bool:
    try:
        return stream is not None and stream.isatty()
    except ValueError:  # it is closed
        return False


def _writer(stream: TextIO) -> Callable[[bytes], object]:
    """Return what writes bytes to a stream without keeping any back."""
    try:
        descriptor = stream.fileno()
    except (OSError, ValueError, AttributeError):  # a stream in memory
        return lambda data: stream.write(data.decode())
    return UnblockedWriter(descriptor).write


def _uncaught(kind: type[BaseException], error: BaseException, where: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, where)
        return
    log.critical("an error was not caught: the process ends", exc_info=(kind, error, where))


def _thread_failed(failed: threading.ExceptHookArgs) -> None:
    if failed.exc_value is not None and not isinstance(failed.exc_value, SystemExit):
        name = failed.thread.name if failed.thread else "unknown"
        log.error("an error ended the thread %s", name, exc_info=failed.exc_value)


def _unraisable(failed: Any) -> None:
    # Which object it was about is left out: its words may be anybody's. From Python 3.14 on `err_msg` has them too.
    log.error("an error could not be raised", exc_info=failed.exc_value, extra={"private": True})


def _loop_failed(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    # The rest of the context is left out, and of this kind of message too: they quote the arguments of callbacks, which
    # may be bytes of a client's.
    message = "an error in a callback" if "in callback" in context["message"] else context["message"]
    task = context.get("task") or context.get("future")
    extra = {"private": True} | ({"task": task.get_name()} if isinstance(task, asyncio.Task) else {})
    log.error("in the event loop: %s", message, exc_info=context.get("exception"), extra=extra)
