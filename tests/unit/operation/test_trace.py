"""The way of single messages through their filters."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
from argparse import Namespace
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest

from filtered_websocket.config import resolve
from filtered_websocket.filters.base import (
    Chain,
    DropMessage,
    Message,
    Request,
    WebSocketConsumerFilter,
    WebSocketMessageFilter,
)
from filtered_websocket.operation.trace import Tracer, set_up_tracing
from filtered_websocket.options import default_parser
from filtered_websocket.server import FilteredWebSocketFactory
from filtered_websocket.users import Users

from ..conftest import add, idle

pytestmark = pytest.mark.usefixtures("empty_chains")

Filter = Callable[[Any, Any], Any]


class FakeConnection:
    """What filters get, and what `Users` needs of it."""

    window_bits = 0

    def __init__(self, users: Users, peer: str = "192.0.2.1") -> None:
        self.id: UUID = uuid4()
        self.users = users
        self.request = Request("GET", "/", peer=peer)
        users.enter(self)

    def write(self, data: bytes) -> None:
        pass


class Traced:
    """A chain of these filters with a tracer, three connections, and what was printed."""

    def __init__(
        self,
        *filters: Filter,
        base: type = WebSocketMessageFilter,
        as_json: bool = True,
    ) -> None:
        for body in filters:
            add(base, body)
        self.chain: Chain = base.chain()  # type: ignore[attr-defined]
        self.users = Users(lambda call: None)
        self.connections = [FakeConnection(self.users) for _ in range(3)]
        self.printed: list[str] = []
        self.tracer = Tracer(self.chain, self.users, as_json=as_json, write=self.printed.append)

    def run(self, payload: bytes = b"hello", sender: int = 0, is_binary: bool = False) -> Any:
        message = Message(payload)
        message.is_binary = is_binary
        return self.chain.run(self.connections[sender], message)

    @property
    def traces(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.printed]

    @property
    def verdicts(self) -> list[list[str]]:
        return [[visit["verdict"] for visit in trace["filters"]] for trace in self.traces]

    @property
    def sent(self) -> list[list[int]]:
        return [[visit["sent"] for visit in trace["filters"]] for trace in self.traces]


def look(connection: Any, msg: Message) -> None:
    pass


def shout(connection: Any, msg: Message) -> bytes:
    return bytes(msg.upper())


def cut(connection: Any, msg: Message) -> None:
    del msg[-1:]


def drop(connection: Any, msg: Message) -> None:
    raise DropMessage


def fail(connection: Any, msg: Message) -> None:
    raise ValueError("no\nway")


async def fail_later(connection: Any, msg: Message) -> None:
    await asyncio.sleep(0)
    raise ValueError


def broadcast(connection: Any, msg: Message) -> None:
    connection.users.broadcast(msg, skip=connection.id)


def make_binary(connection: Any, msg: Message) -> None:
    msg.is_binary = True


def give_number(connection: Any, msg: Message) -> int:
    return 3


def give_coroutine(connection: Any, msg: Message) -> Any:
    async def nothing() -> None:
        pass

    return nothing()


async def wait(connection: Any, msg: Message) -> None:
    await asyncio.sleep(0)


def give_awaitable(connection: Any, msg: Message) -> Awaitable[None]:
    return wait(connection, msg)


# What filters do


@pytest.mark.parametrize(
    ("body", "verdict", "detail", "is_last"),
    [
        (look, "passed", None, False),
        (shout, "changed", "'hello' -> 'HELLO'", False),
        (cut, "changed", "'hello' -> 'hell'", False),
        (make_binary, "changed", "text -> binary", False),
        (broadcast, "passed", None, False),
        (drop, "dropped", None, True),
        (fail, "failed", "ValueError: no\\nway", True),
        (give_number, "failed", "TypeError: returned int; a filter returns None, bytes,", True),
        (give_coroutine, "failed", "TypeError: returned a coroutine (declare the filter `a", True),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_verdicts(
    body: Filter, verdict: str, detail: str | None, is_last: bool, is_async: bool
) -> None:
    """A filter passes a message on, changes, drops or fails it; then the rest is not reached."""
    if is_async and body is give_coroutine:
        body, verdict, detail, is_last = give_awaitable, "passed", None, False
    traced = Traced(look, body, wait if is_async else look)
    traced.tracer.start(1)
    result = traced.run()
    if is_async:
        await result
    (trace,) = traced.traces
    visits = trace["filters"]
    assert [visit["verdict"] for visit in visits[:2]] == ["passed", verdict]
    assert visits[1]["detail"].startswith(detail or "")
    assert bool(visits[1]["detail"]) == bool(detail)
    assert len(visits) == (2 if is_last else 3)
    assert trace["not_reached"] == ([traced.chain.steps[2][0]] if is_last else [])
    assert [visit["filter"] for visit in visits] == [
        name for name, _ in traced.chain.steps[: len(visits)]
    ]


@pytest.mark.parametrize("body", [look, shout, cut, drop, fail, give_number])
@pytest.mark.parametrize("is_async", [False, True])
async def test_tracing_changes_nothing(body: Filter, is_async: bool) -> None:
    """What a chain makes of a message is the same with and without a tracer."""
    traced = Traced(body, wait if is_async else look, cut)
    results = []
    for count in (0, 1):
        if count:
            traced.tracer.start(1)
        result = traced.run()
        results.append(await result if is_async else result)
    assert results[0] == results[1]
    assert type(results[0]) is type(results[1])
    assert len(traced.traces) == 1


def test_the_message_is_told_as_it_came() -> None:
    """Connection, peer, type, size and payload are those before the first filter."""
    traced = Traced(shout)
    traced.tracer.start(2)
    traced.run(b"hello", sender=1)
    traced.run(b"\x00\xff", is_binary=True)
    first, second = traced.traces
    assert first["connection"] == str(traced.connections[1].id)
    assert (first["peer"], first["type"], first["size"]) == ("192.0.2.1", "text", 5)
    assert (first["payload"], first["event"]) == ("'hello'", "trace 1 of 2")
    assert (second["type"], second["size"], second["payload"]) == ("binary", 2, "b'\\x00\\xff'")


def test_deliveries_are_those_of_the_filter() -> None:
    """A broadcast counts its receivers, the sender and the other filters none."""
    traced = Traced(look, broadcast, cut, broadcast)
    traced.tracer.start(1)
    traced.run()
    assert traced.sent == [[0, 2, 0, 2]]


def test_a_filter_that_runs_the_chain_again_is_one_visit() -> None:
    """The inner run is a message of its own, traced when it is its turn."""

    def again(connection: Any, msg: Message) -> None:
        if msg == b"outer":
            WebSocketMessageFilter.run(connection, Message(b"inner"))

    traced = Traced(again, look)
    for count, traces in ((1, ["'outer'"]), (2, ["'inner'", "'outer'"])):
        traced.printed.clear()
        traced.tracer.start(count)
        traced.run(b"outer")
        assert [trace["payload"] for trace in traced.traces] == traces
        assert traced.verdicts == [["passed", "passed"]] * count


@pytest.mark.parametrize("body", [fail, fail_later])
async def test_the_log_shows_no_frame_of_the_tracer(
    body: Filter, caplog: pytest.LogCaptureFixture
) -> None:
    """The traceback of a filter that fails begins in its file, traced or not."""
    traced = Traced(body)
    traced.tracer.start(1)
    result = traced.run()
    if body is fail_later:
        await result
    (record,) = [r for r in caplog.records if r.levelno == logging.ERROR]
    assert record.exc_info is not None and record.exc_info[2] is not None
    assert record.exc_info[2].tb_frame.f_code is body.__code__
    assert record.exc_info[2].tb_next is None


# Async filters


async def test_messages_in_flight_do_not_mix(caplog: pytest.LogCaptureFixture) -> None:
    """What is sent while a filter waits counts for who sent it; the end is told after the last."""
    caplog.set_level(logging.INFO)
    go = asyncio.Event()

    async def hold(connection: Any, msg: Message) -> None:
        if msg == b"held":
            await go.wait()
            broadcast(connection, msg)
            await asyncio.sleep(0)
        broadcast(connection, msg)

    traced = Traced(hold, broadcast)
    traced.tracer.start(3)
    loop = asyncio.get_running_loop()
    held = [loop.create_task(traced.run(b"held", sender)) for sender in (0, 1)]
    await idle()
    await traced.run(b"quick", 2)
    assert traced.sent == [[2, 2]]
    assert caplog.messages == []
    go.set()
    await asyncio.gather(*held)
    assert [message.partition(",")[0] for message in caplog.messages] == ["traced 3"]
    assert traced.sent == [[2, 2], [4, 2], [4, 2]]
    assert [trace["event"] for trace in traced.traces] == [
        "trace 3 of 3",
        "trace 1 of 3",
        "trace 2 of 3",
    ]


async def test_a_cancellation_reaches_the_filter() -> None:
    """A filter that is cancelled while it waits can clean up, and its message is told of."""
    ended = []

    async def forever(connection: Any, msg: Message) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append(msg)

    traced = Traced(forever, look)
    traced.tracer.start(1)
    task = asyncio.get_running_loop().create_task(traced.run())
    await idle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == [b"hello"]
    assert traced.verdicts == [["failed"]]
    assert traced.traces[0]["filters"][0]["detail"] == "CancelledError: "


async def test_an_error_that_a_filter_waits_for_is_its_to_handle() -> None:
    """An exception of what is awaited arrives inside of the filter."""
    caught = []

    async def careful(connection: Any, msg: Message) -> bytes:
        future = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.set_exception, ValueError("late"))
        try:
            await future
        except ValueError as error:
            caught.append(str(error))
        return b"done"

    traced = Traced(careful)
    traced.tracer.start(1)
    assert await traced.run() == b"done"
    assert caught == ["late"]
    assert traced.verdicts == [["changed"]]


# Which messages


def test_after_so_many_the_chain_is_as_it_was() -> None:
    """The chain has its own `run` and its own steps again, the same objects."""
    traced = Traced(look)
    run, steps = traced.chain.run, traced.chain.steps
    traced.tracer.start(2)
    assert traced.chain.run is not run
    traced.run()
    assert traced.chain.run is not run
    assert traced.chain.steps is steps
    traced.run()
    assert traced.chain.run is run
    assert traced.chain.steps is steps
    traced.run()
    assert len(traced.traces) == 2


def test_the_end_is_told_with_how_to_begin_again(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the command with the process id, after the last message."""
    caplog.set_level(logging.INFO)
    traced = Traced(look)
    traced.tracer.start(1)
    traced.run()
    assert "kill -USR1 " in caplog.text


def test_begun_again_it_counts_anew() -> None:
    """`start` while it is on does not put a tracer on a tracer."""
    traced = Traced(look)
    run = traced.chain.run
    traced.tracer.start(2)
    traced.run()
    traced.tracer.start(2)
    for _ in range(3):
        traced.run()
    assert [trace["event"] for trace in traced.traces] == [
        "trace 1 of 2",
        "trace 1 of 2",
        "trace 2 of 2",
    ]
    assert traced.chain.run is run


def test_stopped_it_prints_no_more() -> None:
    """`stop` puts the chain back at once, and can be called twice."""
    traced = Traced(look)
    run = traced.chain.run
    traced.tracer.start(5)
    traced.tracer.stop()
    traced.tracer.stop()
    traced.run()
    assert traced.chain.run is run
    assert traced.traces == []


@pytest.mark.parametrize("is_async", [False, True])
async def test_messages_with_a_text(is_async: bool) -> None:
    """Others go down the chain unseen, and do not count."""
    traced = Traced(wait if is_async else look, cut)
    traced.tracer.start(2, text="ö1")
    for payload in ("ö1", "o1", "xö12", "ö1"):
        result = traced.run(payload.encode())
        if is_async:
            result = await result
        assert result == payload.encode()[:-1]
    assert [trace["payload"] for trace in traced.traces] == ["'ö1'", "'xö12'"]


def test_messages_of_a_connection() -> None:
    """The beginning of its id is enough, in capitals too; so is the whole address of its peer."""
    traced = Traced(look)
    first, second, third = traced.connections
    third.request = Request("GET", "/", peer="192.0.2.10")
    for wanted, found in (
        (str(second.id).upper()[:13], [second]),
        ("192.0.2.1", [first, second]),
        ("192.0.2.10", [third]),
        ("192.0.2.", []),
    ):
        traced.printed.clear()
        traced.tracer.start(10, connection=wanted)
        for sender in range(3):
            traced.run(sender=sender)
        ids = [trace["connection"] for trace in traced.traces]
        assert ids == [str(connection.id) for connection in found]


@pytest.mark.parametrize(
    ("connection", "text", "told"),
    [
        (None, None, "tracing the next 10 messages"),
        ("192.0.2.1", None, "tracing the next 10 messages of 192.0.2.1"),
        ("7f", "a\n", "tracing the next 10 messages of 7f with 'a\\n'"),
    ],
)
async def test_what_is_traced_is_told(
    caplog: pytest.LogCaptureFixture, connection: str | None, text: str | None, told: str
) -> None:
    """Whoever has sent the signal sees in the log what it has begun."""
    caplog.set_level(logging.INFO)
    factory = FilteredWebSocketFactory()
    options = Namespace(log_format="text", trace=10, trace_connection=connection, trace_match=text)
    set_up_tracing(factory, options, lambda: options)
    asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
    await factory.close(0)
    assert told in caplog.messages


# At the start, and on a signal


@pytest.mark.parametrize(
    ("arguments", "begins", "count"),
    [
        ([], False, 10),
        (["--trace", "3"], True, 3),
        (["--trace", "0"], False, 10),
        (["--trace_match", "a"], True, 10),
        (["--trace_connection", "a"], True, 10),
        (["--trace_match", "a", "--trace", "0"], False, 10),
    ],
)
async def test_when_messages_are_traced(
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    begins: bool,
    count: int,
) -> None:
    """`--trace`, or what narrows it, begins at the start, SIGUSR1 whenever it comes."""
    caplog.set_level(logging.INFO)
    factory = FilteredWebSocketFactory()
    chain = factory.message_chain
    run = chain.run
    options = resolve(default_parser(), arguments, {}).options
    set_up_tracing(factory, options, lambda: options)
    assert (chain.run is not run) == begins
    began = [m for m in caplog.messages if m.startswith("tracing")]
    assert [m.partition(" messages")[0] for m in began] == [f"tracing the next {count}"] * begins
    told = asyncio.Event()
    monkeypatch.setattr(caplog.handler, "handle", lambda record: told.set())
    signal.raise_signal(signal.SIGUSR1)
    await told.wait()
    assert chain.run is not run
    asyncio.get_running_loop().remove_signal_handler(signal.SIGUSR1)
    await factory.close(0)


# Chains of all kinds


def test_a_chain_with_a_loop_of_its_own_goes_on_with_it() -> None:
    """A chain that counts what its filters do counts traced messages too."""

    class CountingChain(Chain):
        def __init__(self, base: type[Any]) -> None:
            super().__init__(base)
            self.counted = 0

        def run_sync(self, web_socket_instance: Any, data: Any) -> Any:
            result = super().run_sync(web_socket_instance, data)
            self.counted += len(self.steps) + (result is not None)
            return result

    add(WebSocketMessageFilter, shout)
    chain = CountingChain(WebSocketMessageFilter)
    printed: list[str] = []
    tracer = Tracer(chain, Users(lambda call: None), as_json=True, write=printed.append)
    for _ in range(3):
        tracer.start(1)
        assert chain.run(None, Message(b"a")) == b"A"
    assert chain.counted == 6
    assert len(printed) == 3


def test_items_of_the_queue() -> None:
    """Any object is shown as Python shows it, also one that a filter replaces or changes."""

    def note(server: Any, item: Any) -> None:
        item["seen"] = True

    def replace(server: Any, item: Any) -> str:
        return "other"

    traced = Traced(note, replace, base=WebSocketConsumerFilter)
    traced.tracer.start(1, text="news")
    traced.chain.run(None, {"channel": b"sport"})
    assert traced.chain.run(None, {"channel": b"news"}) == "other"
    (trace,) = traced.traces
    assert (trace["type"], trace["size"], trace["connection"]) == ("item", None, "")
    assert trace["payload"] == "{'channel': b'news'}"
    assert traced.verdicts == [["changed", "changed"]]


@pytest.mark.parametrize("text", ["", "x"])
def test_an_item_that_cannot_be_shown(text: str) -> None:
    """It goes down its chain all the same."""

    class Mute:
        def __repr__(self) -> str:
            raise ValueError

    traced = Traced(look, base=WebSocketConsumerFilter)
    traced.tracer.start(1, text=text)
    item = Mute()
    assert traced.chain.run(object(), item) is item
    payloads = [trace["payload"] for trace in traced.traces]
    assert payloads == ([] if text else ["(it cannot be shown)"])


@pytest.mark.parametrize("error", [OSError, ValueError])
def test_what_cannot_be_printed_disturbs_no_message(error: type[Exception]) -> None:
    """A full disk, or a closed stream, is the trace's problem only."""

    def write(text: str) -> None:
        raise error

    add(WebSocketMessageFilter, shout)
    chain = WebSocketMessageFilter.chain()
    run, steps = chain.run, chain.steps
    Tracer(chain, Users(lambda call: None), write=write).start(1)
    assert chain.run(None, Message(b"a")) == b"A"
    assert chain.run is run
    assert chain.steps is steps


def test_a_chain_without_filters() -> None:
    """Whoever traces it learns that nothing handles messages."""
    traced = Traced(as_json=False)
    traced.tracer.start(1)
    traced.run()
    assert traced.printed[0].endswith("\n  there is no filter in this chain")


def test_it_is_printed_where_the_log_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Without `write` it goes to standard error, a line of JSON as a line."""
    add(WebSocketMessageFilter, look)
    chain = WebSocketMessageFilter.chain()
    Tracer(chain, Users(lambda call: None), as_json=True).start(1)
    chain.run(None, Message(b"a"))
    assert json.loads(capsys.readouterr().err)["level"] == "info"
