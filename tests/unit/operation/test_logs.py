"""What the log says of a record, and how it looks."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import re
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType
from typing import Any, TextIO
from uuid import uuid4

import pytest

from filtered_websocket.filters.base import (
    FilterBase,
    Message,
    Request,
    WebSocketConsumerFilter,
    WebSocketMessageFilter,
)
from filtered_websocket.operation import logs
from filtered_websocket.operation.logs import LogHandler, set_up, tell_repeats

from ..conftest import add

chat = logging.getLogger("chat")
ours = logging.getLogger("filtered_websocket.server")


class Connection:
    """What filters get, as far as the log looks at it."""

    def __init__(self, target: str = "/", **headers: str) -> None:
        self.id = uuid4()
        self.token: Any = None
        self.request = Request("GET", target, headers, "192.0.2.7")

    def sendMessage(self, msg: object) -> None: ...


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def other_logging(monkeypatch: pytest.MonkeyPatch, empty_chains: None) -> Iterator[None]:
    """Put back what `set_up` changes."""
    for place, name in (
        (warnings, "showwarning"),
        (threading, "excepthook"),
        (sys, "unraisablehook"),
    ):
        monkeypatch.setattr(place, name, getattr(place, name))
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)
    root.handlers[:] = [h for h in root.handlers if not isinstance(h, LogHandler)]


def log_to(stream: TextIO | None = None, level: str = "info", format: str = "text") -> io.StringIO:
    stream = stream or io.StringIO()
    set_up(level, format, stream)
    root = logging.getLogger()
    root.handlers[:] = [h for h in root.handlers if isinstance(h, LogHandler)]  # not pytest's
    return stream  # type: ignore[return-value]


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail(text: object = "no good") -> Any:
    def body(web_socket_instance: Any, data: Any) -> None:
        raise ValueError(text)

    return body


def run(
    body: Any, data: Any = None, connection: Any = None, chain: type[FilterBase] | None = None
) -> None:
    """Run a chain of one filter."""
    chain = chain or WebSocketMessageFilter
    add(chain, body)
    result = chain.run(connection or Connection(), Message(b"hi") if data is None else data)
    if asyncio.iscoroutine(result):
        asyncio.run(result)


# How it looks


def test_text_is_time_level_logger_context_and_event() -> None:
    """A line that has no context leaves it out."""
    stream = log_to()
    connection = Connection()
    chat.info("one %d", 1)
    ours.warning("two", extra={"connection": connection})
    one, two = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} INFO chat one 1", one)
    about = f"WARNING filtered_websocket.server [{connection.id} 192.0.2.7] two"
    assert two.endswith(f" {about}")


def test_json_is_one_object_with_what_is_known() -> None:
    """Time in UTC with milliseconds, then level, logger, event; what there is not is left out."""
    stream = log_to(format="json")
    connection = Connection()
    chat.info("żółw\n")
    ours.warning("two", extra={"connection": connection, "filter": "a.A", "peer": "::1"})
    one, two = objects(stream)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", one.pop("time"))
    assert one == {"level": "info", "logger": "chat", "event": "żółw\n"}
    del two["time"]
    assert two == {
        "level": "warning",
        "logger": "filtered_websocket.server",
        "event": "two",
        "connection": str(connection.id),
        "peer": "::1",
        "filter": "a.A",
    }


def test_a_terminal_gets_columns_and_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time and level have one width, and what a line is about stands behind it."""
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    stream = log_to(Terminal())
    ours.info("one")
    chat.error("two")
    one, two = (
        re.sub(r"\d\d:\d\d:\d\d", "TIME", ascii(line)[1:-1])
        for line in stream.getvalue().splitlines()
    )
    columns = "\\x1b[2mTIME\\x1b[0m \\x1b[{}m{:7}\\x1b[0m {}  \\x1b[2m{}\\x1b[0m"
    assert one == columns.format(32, "INFO", "one", "server")
    assert two == columns.format(31, "ERROR", "two", "chat")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_without_colours(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever wants none, or has none, gets none."""
    monkeypatch.setenv(name, value)
    stream = log_to(Terminal())
    ours.error("one")
    assert re.fullmatch(r"[\d:]{8} ERROR   one  server\n", stream.getvalue())


@pytest.mark.parametrize("make", [io.StringIO, Terminal])
def test_nobody_forges_a_line(make: type[io.StringIO]) -> None:
    """Line ends, escapes and the like in messages, names and errors are shown, not obeyed."""
    evil = "x\r\n2026-01-01 00:00:00.000 ERROR root \x1b[2J\x85\u2028forged"
    stream = log_to(make())
    chat.info(evil)
    chat.info("peer", extra={"peer": evil, "connection": evil, "filter": evil})
    run(fail(evil), b"hi")
    text = stream.getvalue()
    assert len(re.split(r"[\r\n\x85\u2028]", text)) == len(text.splitlines()) + 1
    lines = [line for line in text.splitlines() if not line.startswith("  ")]
    assert len(lines) == 3
    assert all("forged" in line for line in lines)
    assert "[2J" not in text.replace("\\x1b[2J", "")


def test_an_error_stands_in_the_line_and_below_it() -> None:
    """The line has type and text; the traceback is indented, so that no line looks like one."""
    stream = log_to()
    run(fail())
    first, *below = stream.getvalue().splitlines()
    assert first.endswith(f"] filter {__name__}.Added failed: ValueError: no good")
    assert below[0] == "  Traceback (most recent call last):"
    assert below[1].startswith(f'    File "{__file__}", line ')
    assert below[-1] == "  ValueError: no good"


def test_an_error_in_json() -> None:
    """Type, text and place can be asked for, and the line is still one."""
    stream = log_to(format="json")
    run(fail("no\ngood"))
    (record,) = objects(stream)
    error = record["error"]
    assert (error["type"], error["text"]) == ("ValueError", "no\ngood")
    assert re.fullmatch(rf"{re.escape(__file__)}, line \d+, in body", error["where"])
    assert error["traceback"].startswith("Traceback (most recent call last):\n  File ")


def test_the_place_is_the_authors() -> None:
    """Where a library fails, it is the line that has called it."""
    stream = log_to(format="json")
    run(lambda _, msg: json.loads(msg), b"{")
    (record,) = objects(stream)
    assert record["error"]["type"] == "json.decoder.JSONDecodeError"
    assert record["error"]["where"].startswith(f"{__file__}, line ")


def test_errors_that_belong_together() -> None:
    """Causes come first, those of a group behind it, each with its notes; in bounds."""

    def body(web_socket_instance: Any, data: Any) -> None:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("second") from None
        except ValueError as second:
            group = ExceptionGroup("third", [OSError(5, "in it"), *[ValueError("many")] * 20])
            group.add_note("a note")
            raise group from second

    stream = log_to()
    run(body)
    text = stream.getvalue()
    order = ["ValueError: second", "direct cause", "ExceptionGroup: third", "a note", "1 of 21:"]
    places = [text.rindex(part) for part in order]
    assert places == sorted(places)
    assert "first" not in text.partition("\n")[2].replace('KeyError("first")', "")
    assert text.count("ValueError: many") == logs.MAX_ERRORS - 1


def test_an_error_chain_without_end_is_cut() -> None:
    """However many errors an author has chained, the log shows the last ones."""

    def body(web_socket_instance: Any, data: Any) -> None:
        error: Exception | None = None
        for number in range(100):
            try:
                raise ValueError(number) from error
            except ValueError as raised:
                error = raised
        raise ValueError("last") from error

    stream = log_to()
    run(body)
    assert stream.getvalue().count("Traceback") == logs.MAX_ERRORS + 1


def test_stack_info_stands_below() -> None:
    """`stack_info` of logging has lines too."""
    stream = log_to()
    chat.info("here", stack_info=True)
    first, *below = stream.getvalue().splitlines()
    assert first.endswith("INFO chat here")
    assert all(line.startswith("  ") for line in below) and __file__ in "".join(below)


def test_what_does_not_fit_is_told() -> None:
    """A mistake in a call of the log is a line with its place, and no exception."""
    stream = log_to()
    chat.info("%d apples", "many")
    assert "'%d apples' (what is logged with it does not fit: " in stream.getvalue()
    assert f"{__file__}, line " in stream.getvalue()


def test_an_error_that_cannot_be_shown() -> None:
    """Its type is shown."""

    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise ValueError("no text")

    def body(*_: object) -> None:
        raise Unspeakable

    stream = log_to()
    run(body)
    assert f"{__name__}.Unspeakable: (it cannot be shown)" in stream.getvalue()


def test_a_record_that_cannot_be_shown() -> None:
    """Whatever a record has with it, whoever logs does not notice, and there is a line."""

    class Broken:
        def __str__(self) -> str:
            raise ValueError("no text")

    stream = log_to()
    chat.info("hello", extra={"peer": Broken()})
    chat.info(Broken())
    one, two = stream.getvalue().splitlines()
    assert f"INFO chat what is logged here cannot be shown ({__file__}, line " in one
    assert "Broken object at 0x" in two


# What it is about


@pytest.mark.parametrize("is_async", [False, True])
def test_the_lines_of_a_filter_have_its_connection(is_async: bool) -> None:
    """Whatever logger it uses, also in a function that it calls and behind an `await`."""

    def helper() -> None:
        chat.info("hello")

    async def later(web_socket_instance: Any, msg: Message) -> None:
        await asyncio.sleep(0)
        helper()

    stream, connection = log_to(format="json"), Connection()
    run(later if is_async else lambda *_: helper(), connection=connection)
    (record,) = objects(stream)
    assert record["connection"] == str(connection.id)
    assert (record["peer"], record["filter"]) == ("192.0.2.7", f"{__name__}.Added")


def test_the_innermost_chain_counts() -> None:
    """A filter that closes another connection runs a filter of that one."""
    inner, outer = Connection(), Connection()

    class Custom(FilterBase):
        pass

    add(Custom, lambda *_: chat.info("inner"))

    def body(web_socket_instance: Any, msg: Message) -> None:
        chat.info("before")
        Custom.run(inner)
        chat.info("after")

    stream = log_to(format="json")
    run(body, connection=outer)
    ids = [record["connection"] for record in objects(stream)]
    assert ids == [str(outer.id), str(inner.id), str(outer.id)]
    chat.info("outside")
    assert "connection" not in objects(stream)[-1]


def test_a_consumer_filter_has_no_connection() -> None:
    """It works for all; its name is there."""

    class Server:
        token = None

    stream = log_to(format="json")
    run(lambda *_: chat.info("hello"), 5, Server(), WebSocketConsumerFilter)
    (record,) = objects(stream)
    assert "connection" not in record and "peer" not in record
    assert record["filter"] == f"{__name__}.Added"


@pytest.mark.parametrize("kind", ["argument", "closure"])
def test_a_thread_of_a_filter_has_the_connection_that_it_was_given(kind: str) -> None:
    """In no chain, it is what the innermost function has as an argument or from around it."""
    connection = Connection()

    def work(client: Connection | None = None) -> None:
        for other in [Connection()]:
            assert other is not connection
        chat.info("hello")
        raise ValueError("no good")

    def closure() -> None:
        assert connection
        work()

    stream = log_to(format="json")
    thread = threading.Thread(
        target=closure if kind == "closure" else work,
        args=() if kind == "closure" else (connection,),
    )
    thread.start()
    thread.join()
    hello, failed = objects(stream)
    assert hello["connection"] == failed["connection"] == str(connection.id)
    assert hello["peer"] == "192.0.2.7" and "filter" not in hello


def test_a_loop_over_connections_is_about_none_of_them() -> None:
    """What a task has in other variables may be any connection."""

    def work() -> None:
        for other in [Connection()]:
            other.sendMessage("tick")
        chat.info("all have it")

    stream = log_to(format="json")
    work()
    (record,) = objects(stream)
    assert "connection" not in record


def test_what_the_server_finds_out_is_about_no_connection() -> None:
    """Its own functions are called for any of them, and may tell what concerns all."""

    def tell(connection: Connection) -> None:
        chat.info("there is room")

    stream = log_to(format="json")
    FunctionType(tell.__code__, {"__name__": ours.name, "chat": chat})(Connection())
    (record,) = objects(stream)
    assert "connection" not in record


def test_what_a_finalizer_fails_with_is_not_of_the_running_chain() -> None:
    """It may be collected while the chain of any connection runs."""

    class Failing:
        def __del__(self) -> None:
            raise ValueError("in the finalizer")

    stream = log_to(format="json")
    run(lambda *_: Failing() and None)
    (record,) = objects(stream)
    assert record["logger"] == "sys"
    assert "connection" not in record and "filter" not in record


def test_a_connection_can_be_named() -> None:
    """`extra` wins over the running chain, and None means that it is about no connection."""
    other = Connection()

    def body(*_: object) -> None:
        chat.info("another", extra={"connection": other})
        chat.info("an id", extra={"connection": "some id"})
        chat.info("none", extra={"connection": None})

    stream = log_to(format="json")
    run(body)
    ids = [record.get("connection") for record in objects(stream)]
    assert ids == [str(other.id), "some id", None]


# What it must not show


def test_a_failing_filter_does_not_show_its_message() -> None:
    """Neither in the line nor in the traceback, also not of errors in front of it."""

    def body(web_socket_instance: Any, msg: Message) -> None:
        try:
            int(msg)
        except ValueError as error:
            error.add_note(f"with {msg.decode()}")
            raise RuntimeError(f"cannot use {msg.decode()!r}") from error

    for format in logs.FORMATS:
        stream = log_to(format=format)
        run(body, Message(b"tell nobody"))
        text = stream.getvalue()
        assert "tell nobody" not in text and "nobody" not in text
        assert "RuntimeError" in text and "ValueError" in text and "cannot use" in text


def test_at_debug_all_is_shown() -> None:
    """Who looks for what is wrong with a message wants to see it."""
    stream = log_to(level="debug")
    run(fail("tell nobody"), Message(b"tell nobody"))
    assert "ValueError: tell nobody" in stream.getvalue()


def test_an_error_that_a_filter_logs_does_not_show_it_either() -> None:
    """By `exception`, as an argument, and as what it has caught."""

    def body(web_socket_instance: Any, msg: Message) -> None:
        try:
            raise ValueError(web_socket_instance.token)
        except ValueError as error:
            chat.exception("one")
            chat.warning("two %s %r", error, "x")
            chat.warning("three %(error)s %(other)s", {"error": error, "other": "x"})
            chat.warning(error)

    stream, connection = log_to(), Connection()
    connection.token = "s3cret-t0ken"
    run(body, connection=connection)
    assert "s3cret" not in stream.getvalue()
    assert stream.getvalue().count("…(12 characters of the token)") == 5


def test_what_a_filter_writes_itself_is_its_own() -> None:
    """A line about a room says which, though the client has named it in its query."""
    stream = log_to()
    run(lambda *_: chat.info("entered %s", "lobby"), connection=Connection("/?room=lobby"))
    assert stream.getvalue().endswith("entered lobby\n")


def test_a_task_of_a_filter_does_not_show_its_message() -> None:
    """Where no chain runs, what the failing functions hold is looked at."""
    stream = log_to()

    def task(msg: Message) -> None:
        raise ValueError(msg.decode())

    try:
        task(Message(b"tell" + b" nobody"))
    except ValueError:
        chat.exception("a task failed")
    assert "tell nobody" not in stream.getvalue()
    assert "ValueError: …(11 characters of the message)" in stream.getvalue()


# How often


def test_what_is_repeated_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing filter is told with traceback once, then with a number and without."""
    stream = log_to(format="json")
    add(WebSocketMessageFilter, fail())
    for _ in range(10):
        WebSocketMessageFilter.run(Connection(), Message(b"hi"))
    tell_repeats()
    first, *rest = objects(stream)
    assert rest == [] and "traceback" in first["error"]
    logging.getLogger().handlers[-1].close()
    first, last = objects(stream)
    assert (last["repeats"], last["event"], last["filter"]) == (9, first["event"], first["filter"])
    assert "connection" not in last and "traceback" not in last["error"]


def test_what_is_left_out_is_not_even_formatted() -> None:
    """A flood costs its count: no text is made of an error that is not told."""
    shown = []

    class Expensive(Exception):
        def __str__(self) -> str:
            shown.append(self)
            return "much work"

    def body(*_: object) -> None:
        raise Expensive

    log_to()
    add(WebSocketMessageFilter, body)
    WebSocketMessageFilter.run(Connection(), Message(b"hi"))
    before = len(shown)
    for _ in range(100):
        WebSocketMessageFilter.run(Connection(), Message(b"hi"))
    assert len(shown) == before


def test_too_many_causes_are_told_together() -> None:
    """The line that counts them says so, since the first one of them stands for nothing."""
    stream = log_to()
    for number in range(1000):
        ours.info("refused", extra={"cause": number})
    logging.getLogger().handlers[-1].close()
    *_, last = stream.getvalue().splitlines()
    assert "different causes: this is only counted (899 more" in last


# Where it goes


def test_a_line_is_one_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """However long it is, so that lines of processes that share a file do not mix."""
    written = []
    monkeypatch.setattr(os, "write", lambda descriptor, data: written.append(data) or len(data))
    with open(tmp_path / "log", "w") as file:
        log_to(file)
        chat.info("x" * 100_000)
        assert len(written) == 1 and written[0].endswith(b"x\n")


def test_a_torn_line_does_not_spoil_the_next(tmp_path: Path) -> None:
    """When a pipe takes half a line, the next one begins on its own."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with open(reader, "rb") as output, open(writer, "w", encoding="ascii") as pipe:
        log_to(pipe)
        chat.info("x" * 10_000_000)
        chat.info("lost")
        assert b"lost" not in output.read1(9_000_000)
        chat.info("żółw")
        logging.getLogger().removeHandler(logging.getLogger().handlers[-1])
        os.set_blocking(reader, False)
        _, _, last = output.read1(9_000_000).rpartition(b"\n2")
    assert last.endswith(rb"INFO chat \u017c\xf3\u0142w" + b"\n")


@pytest.mark.parametrize("how", ["full", "closed"])
def test_a_log_that_cannot_be_written_does_not_matter(how: str) -> None:
    """Whoever logs does not notice, and nothing is printed elsewhere."""
    stream = open("/dev/full", "w") if how == "full" else io.StringIO()
    log_to(stream)
    if how == "closed":
        stream.close()
    chat.info("one")
    run(fail())
    stream.close()


# What else is logged


def test_warnings_threads_and_finalizers_are_logged() -> None:
    """What Python would print in lines of its own becomes lines of the log."""

    class Failing:
        def __del__(self) -> None:
            raise ValueError("in the finalizer")

    def thread() -> None:
        raise ValueError("in the thread")

    stream = log_to(format="json")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = logs._log_warning
        warnings.warn("old\nway", DeprecationWarning, stacklevel=1)
    failing = threading.Thread(target=thread, name="T")
    failing.start()
    failing.join()
    threading.Thread(target=sys.exit).start()
    del failing
    Failing()
    warning, of_thread, of_finalizer = objects(stream)
    assert "DeprecationWarning: old\nway" in warning["event"]
    assert (warning["level"], warning["logger"]) == ("warning", "py.warnings")
    assert (of_thread["event"], of_thread["error"]["type"]) == ("thread T failed", "ValueError")
    assert of_finalizer["error"]["type"] == "ValueError"


def test_setting_up_again_replaces() -> None:
    """There is one handler, of the last call; others stay as they are."""
    one = log_to()
    two = log_to()
    chat.info("hello")
    assert one.getvalue() == "" and two.getvalue() != ""
