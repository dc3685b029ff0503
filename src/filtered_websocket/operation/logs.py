"""The log: which lines there are, what they say and how they look.

Whoever logs uses `logging` as ever. All that is ours is one handler, which a record reaches in this
order: is it news (`repeats`), what is it about (the chain that runs), what of it may be shown
(`redaction`), how does it look (text, text on a terminal, JSON). So what is left out costs nothing
but its count, and a message that nobody logs anything about costs nothing.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
import time
import traceback as tracebacks
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from types import FrameType, TracebackType
from typing import Any, TextIO
from uuid import UUID

from ..escapes import escaped
from ..filters.base import Chain, text_of
from ..importer import NOT_THE_AUTHORS
from .redaction import Secrets, is_connection
from .repeats import OTHERS, OURS, PERIOD, Repeats, cause_of

__all__ = ["FORMATS", "NOT_OF_THE_CHAIN", "LogHandler", "set_up", "tell_repeats"]

FORMATS = ("text", "json")
MAX_FRAMES = 50  # of one traceback
MAX_ERRORS = 8  # in a chain, and in a group
NOT_OF_THE_CHAIN = {"connection": None, "filter": None}
"""The `extra` of what may turn up while the chain of any connection runs, as in finalizers."""


def set_up(level: str, format: str, stream: TextIO) -> None:
    """Let all that is logged from now on go to `stream`, which has a file descriptor or a `write`.

    `format` is one of FORMATS. What `warnings` would print is logged too, and so is what threads
    and finalizers fail with.
    """
    shows_all = level == "debug"
    look = _as_json if format == "json" else _terminal(stream) or _as_text
    root = logging.getLogger()
    for handler in root.handlers[:]:
        if isinstance(handler, LogHandler):
            root.removeHandler(handler)
            handler.close()
    root.addHandler(LogHandler(stream, look, shows_all=shows_all))
    root.setLevel(level.upper())
    warnings.showwarning = _log_warning
    threading.excepthook = _log_failed_thread
    sys.unraisablehook = _log_unraisable


def tell_repeats(lag: float = 0.0) -> None:
    """Log the count of what was left out; called with each beat of the heart."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogHandler):
            handler.tell_repeats()


def _log_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    cause = (filename, lineno, category)
    text = f"{filename}:{lineno}: {category.__name__}: {message}"
    logging.getLogger("py.warnings").warning("%s", text, extra={"cause": cause})


def _log_failed_thread(failure: threading.ExceptHookArgs) -> None:
    if failure.exc_type is SystemExit:
        return
    name = failure.thread.name if failure.thread else "?"
    error = failure.exc_value or failure.exc_type()
    logging.getLogger("threading").error(
        "thread %s failed", name, exc_info=(failure.exc_type, error, failure.exc_traceback)
    )


def _log_unraisable(failure: sys.UnraisableHookArgs) -> None:
    error = failure.exc_value or failure.exc_type()
    logging.getLogger("sys").error(
        "%s in %s",
        failure.err_msg or "an exception was ignored",
        type(failure.object).__qualname__,
        exc_info=(failure.exc_type, error, failure.exc_traceback),
        extra=NOT_OF_THE_CHAIN,
    )


# What a line says


@dataclass(slots=True)
class Failure:
    """Describe an exception."""

    type: str
    text: str
    where: str
    traceback: list[str]


@dataclass(slots=True)
class Line:
    """Describe a record; what is not known is empty."""

    time: float  # seconds since 1970
    level: str
    logger: str
    event: str
    connection: str = ""
    peer: str = ""
    filter: str = ""
    error: Failure | None = None
    repeats: int = 0
    seconds: float = 0.0


class LogHandler(logging.Handler):
    """Write each record that is news as one line, in one write, and never fail."""

    def __init__(self, stream: TextIO, look: Callable[[Line], str], *, shows_all: bool) -> None:
        """Hide what is secret unless `shows_all`."""
        super().__init__()
        self._stream = stream
        self._look = look
        self._shows_all = shows_all
        self._repeats: Repeats[Line] = Repeats()
        self._is_torn = False
        try:
            self._descriptor = stream.fileno()
        except (OSError, AttributeError, ValueError):
            self._descriptor = -1

    def emit(self, record: logging.LogRecord) -> None:
        try:
            cause = cause_of(record)
            if cause is None:
                self._write(_line(record, self._shows_all))
                return
            cause = self._repeats.first(cause)
            if cause is not None:
                line = _line(record, self._shows_all)
                self._repeats.keep(cause, _for_repeats(line, cause))
                self._write(line)
        except Exception:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:
        """Tell where a record was made that cannot be shown; called by `emit`."""
        event = f"what is logged here cannot be shown ({_place(record)})"
        self._write(Line(record.created, record.levelname, record.name, event))

    def tell_repeats(self, period: float = PERIOD) -> None:
        """Log the count of what was left out for a second; with `period` 0, for however long."""
        self.acquire()
        try:
            for line, count, seconds in self._repeats.due(period):
                self._write(replace(line, time=time.time(), repeats=count, seconds=seconds))
        finally:
            self.release()

    def close(self) -> None:
        """Tell what was left out until the end; called when the process ends."""
        self.tell_repeats(0)
        super().close()

    def _write(self, line: Line) -> None:
        text = self._look(line) + "\n"
        with suppress(OSError, ValueError):  # full, or closed
            if self._descriptor < 0:
                self._stream.write(text)
                return
            # Not through the stream: what it cannot write it would keep, and fail with again.
            data = text.encode(self._stream.encoding, "backslashreplace")
            if self._is_torn:
                data = b"\n" + data
            while data:
                data = data[os.write(self._descriptor, data) :]
                self._is_torn = True
            self._is_torn = False


def _for_repeats(line: Line, cause: object) -> Line:
    """Return what the first one of a cause has in common with those after it."""
    if cause is OTHERS:
        return replace(
            line,
            event="there is too much of different causes: this is only counted",
            connection="",
            peer="",
            filter="",
            error=None,
        )
    error = line.error and replace(line.error, traceback=[])
    return replace(line, connection="", peer="", error=error)


def _line(record: logging.LogRecord, shows_all: bool) -> Line:
    about = _about(record)
    _, error, traceback = record.exc_info or (None, None, None)
    hide = _show if shows_all else _hiding(about, error, traceback)
    line = Line(
        time=record.created,
        level=record.levelname,
        logger=record.name,
        event=_event(record, hide),
        connection=about.id,
        peer=about.peer,
        filter=about.filter,
    )
    if error is not None:
        line.error = _failure(error, traceback, hide)
    if record.stack_info:
        line.error = line.error or Failure("", "", "", [])
        line.error.traceback += record.stack_info.splitlines()
    return line


def _event(record: logging.LogRecord, hide: Callable[[str], str]) -> str:
    """Return the message, with what may be shown of an exception that it is or has in it."""

    def shown(value: object) -> object:
        return hide(text_of(value)) if isinstance(value, BaseException) else value

    try:
        event = str(shown(record.msg))
        if isinstance(record.args, tuple):
            event = event % tuple(map(shown, record.args)) if record.args else event
        elif record.args:
            event = event % {name: shown(value) for name, value in record.args.items()}
    except Exception:
        return f"{record.msg!r} (what is logged with it does not fit: {_place(record)})"
    return event


def _place(record: logging.LogRecord) -> str:
    return f"{record.pathname}, line {record.lineno}"


# What a record is about


@dataclass(slots=True)
class About:
    """The connection that a record is about, or None, and what the filter is working on."""

    connection: Any = None
    data: Any = None
    filter: str = ""
    id: str = ""
    peer: str = ""


def _about(record: logging.LogRecord) -> About:
    """Return what a record's `extra` names; what it does not is looked for where it was made.

    That is the innermost run of a chain on the stack. Tasks and threads are not in one: there it is
    the connection that a function was given.
    """
    given = record.__dict__
    run = _running_chain() or {}
    about = About(connection=run.get("web_socket_instance"), data=run.get("data"))
    if "connection" in given:
        about.connection = given["connection"]
    elif not run:
        about.connection = _held(_stack())
    if about.connection is None and record.exc_info:
        about.connection = _held(reversed([f for f, _ in tracebacks.walk_tb(record.exc_info[2])]))
    name = given["filter"] if "filter" in given else run and run["step"][0]
    about.filter = str(name or "")
    connection = about.connection
    id = connection if isinstance(connection, str | UUID) else getattr(connection, "id", None)
    about.id = str(id or "")
    request = getattr(connection, "request", None)
    about.peer = str(given.get("peer") or getattr(request, "peer", ""))
    return about


def _running_chain() -> dict[str, Any] | None:
    """Return the variables of the innermost run of a chain that has led here, if one has.

    A context variable would tell the same, and cost each message something.
    """
    for frame in _stack():
        if "step" in frame.f_code.co_varnames:
            variables = frame.f_locals
            if isinstance(variables.get("self"), Chain) and "step" in variables:
                return variables
    return None


def _stack() -> Iterator[FrameType]:
    """Yield the frames that have led here, the innermost first."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        yield frame
        frame = frame.f_back


def _held(frames: Iterable[FrameType]) -> Any:
    """Return the first connection that a function was given, or has from around it, or None.

    Other variables do not count: a loop over all connections leaves any one of them. Neither do our
    own functions: in the hands of any connection the server finds out what concerns all.
    """
    for frame in frames:
        if frame.f_globals.get("__name__", "").partition(".")[0] == OURS:
            continue
        code, variables = frame.f_code, frame.f_locals
        given = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
        for name in (*given, *code.co_freevars):
            if is_connection(variables.get(name)):
                return variables[name]
    return None


# What of it may be shown


def _show(text: str) -> str:
    return text


def _hiding(
    about: About, error: BaseException | None, traceback: TracebackType | None
) -> Callable[[str], str]:
    """Return what hides the secrets that can be in a record."""

    @cache
    def secrets() -> Secrets:
        secrets = Secrets()
        secrets.add_connection(about.connection)
        secrets.add_data(about.data)
        for one in _related(error):
            secrets.add_traceback(traceback if one is error else one.__traceback__)
        return secrets

    @cache  # line and traceback have the same text
    def hide(text: str) -> str:
        return secrets().hide(text)

    return hide


def _related(error: BaseException | None, depth: int = 0) -> Iterator[BaseException]:
    """Yield an error and those that belong to it."""
    if error is None or depth > MAX_ERRORS:
        return
    yield error
    yield from _related(_before(error)[0], depth + 1)
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions[:MAX_ERRORS]:
            yield from _related(one, depth + 1)


def _before(error: BaseException) -> tuple[BaseException | None, str]:
    """Return the error that led to this one, and how."""
    if error.__cause__ is not None:
        return error.__cause__, "it is the direct cause of:"
    if error.__suppress_context__:
        return None, ""
    return error.__context__, "while it was handled:"


def _failure(
    error: BaseException, traceback: TracebackType | None, hide: Callable[[str], str]
) -> Failure:
    lines = list(_told(error, traceback, hide))
    return Failure(
        type=_type_name(error),
        text=hide(text_of(error)),
        where=_where(traceback),
        # Without a traceback it would say the same once more.
        traceback=lines if len(lines) > 1 else [],
    )


def _told(
    error: BaseException,
    traceback: TracebackType | None,
    hide: Callable[[str], str],
    depth: int = 0,
) -> Iterator[str]:
    """Yield the lines of a traceback, as Python's own, but with texts that may be shown."""
    before, how = _before(error)
    if before is not None and depth < MAX_ERRORS:
        yield from _told(before, before.__traceback__, hide, depth + 1)
        yield how
    if traceback is not None:
        yield "Traceback (most recent call last):"
        for entry in tracebacks.format_tb(traceback, limit=-MAX_FRAMES):
            yield from entry.splitlines()
    text = hide(text_of(error))
    yield _type_name(error) + (f": {text}" if text else "")
    for note in getattr(error, "__notes__", ()):
        yield hide(str(note))
    if isinstance(error, BaseExceptionGroup) and depth < MAX_ERRORS:
        for number, one in enumerate(error.exceptions[:MAX_ERRORS], 1):
            yield f"  {number} of {len(error.exceptions)}:"
            for line in _told(one, one.__traceback__, hide, depth + 1):
                yield f"  {line}"


def _type_name(error: BaseException) -> str:
    kind = type(error)
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"


def _where(traceback: TracebackType | None) -> str:
    """Return the last place in a file of the author, or else the last one."""
    frames = tracebacks.extract_tb(traceback, limit=-MAX_FRAMES)
    authored = [frame for frame in frames if not frame.filename.startswith(NOT_THE_AUTHORS)]
    if not frames:
        return ""
    frame = (authored or frames)[-1]
    return f"{frame.filename}, line {frame.lineno}, in {frame.name}"


# What a line looks like


def _as_json(line: Line) -> str:
    moment = datetime.fromtimestamp(line.time, UTC).isoformat(timespec="milliseconds")
    fields: dict[str, Any] = {
        "time": moment.replace("+00:00", "Z"),
        "level": line.level.lower(),
        "logger": line.logger,
        "event": line.event,
        "connection": line.connection,
        "peer": line.peer,
        "filter": line.filter,
        "repeats": line.repeats,
    }
    if line.error is not None:
        error = {"type": line.error.type, "text": line.error.text, "where": line.error.where}
        error["traceback"] = "\n".join(line.error.traceback)
        fields["error"] = {name: value for name, value in error.items() if value}
    return json.dumps({name: value for name, value in fields.items() if value})


def _as_text(line: Line) -> str:
    moment = datetime.fromtimestamp(line.time).isoformat(" ", "milliseconds")
    context = " ".join(filter(None, (line.connection, line.peer, line.filter)))
    about = f" [{escaped(context)}]" if context else ""
    return f"{moment} {line.level} {escaped(line.logger)}{about} {_said(line)}"


def _terminal(stream: TextIO) -> Callable[[Line], str] | None:
    """Return the look for a terminal, coloured where that is wanted; None for anything else."""
    if not stream.isatty():
        return None
    is_plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    colours = {} if is_plain else COLOURS
    dim, reset = ("", "") if is_plain else (DIM, RESET)

    def look(line: Line) -> str:
        moment = datetime.fromtimestamp(line.time).strftime("%H:%M:%S")
        name = line.logger.removeprefix(f"{OURS}.")
        about = " ".join(filter(None, (name, line.connection, line.peer, line.filter)))
        colour = colours.get(line.level, "")
        first, *more = _said(line).split("\n")
        head = f"{dim}{moment}{reset} {colour}{line.level:7}{reset if colour else ''} {first}"
        return "\n".join([f"{head}  {dim}{escaped(about)}{reset}", *more])

    return look


RESET, DIM = "\33[0m", "\33[2m"
COLOURS = {
    "DEBUG": DIM,
    "INFO": "\33[32m",
    "WARNING": "\33[33m",
    "ERROR": "\33[31m",
    "CRITICAL": "\33[1;31m",
}


def _said(line: Line) -> str:
    """Return the event, its error and the count in a line, and a traceback indented below it."""
    parts = [escaped(line.event)]
    if line.error is not None and line.error.type:
        parts.append(escaped(f"{line.error.type}: {line.error.text}".removesuffix(": ")))
    text = ": ".join(parts)
    if line.repeats:
        text += f" ({line.repeats} more of this in {line.seconds:.1f} s)"
    below = line.error.traceback if line.error is not None else []
    return "\n".join([text, *(f"  {escaped(entry)}" for entry in below)])
