"""A server and its connections: which event runs which chain."""

from __future__ import annotations

import asyncio
import gc
import queue
import weakref
from collections import deque
from typing import Any

import pytest

from filtered_websocket import server
from filtered_websocket.filters.base import (
    WebSocketConnectFilter,
    WebSocketConsumerFilter,
    WebSocketDataFilter,
    WebSocketDisconnectFilter,
    WebSocketHandshakeFilter,
    WebSocketMessageFilter,
)
from filtered_websocket.frames import encode_close, encode_frame
from filtered_websocket.server import FilteredWebSocket, FilteredWebSocketFactory
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.storage_objects.default import StorageObject
from filtered_websocket.typing import Message, RejectHandshake, Request

from .conftest import add, idle
from .server_protocol.fakes import FakeTransport

pytestmark = pytest.mark.usefixtures("empty_chains")

REQUEST = Request("GET", "/")


def connect(factory: FilteredWebSocketFactory) -> FilteredWebSocket:
    """Return an open connection of the server."""
    connection = factory.buildProtocol("192.0.2.1")
    connection.open(FakeTransport())
    return connection


def sent(connection: FilteredWebSocket) -> bytes:
    connection.users.flush()
    return connection.transport.written


def message(text: bytes, is_binary: bool = False) -> Message:
    msg = Message(text)
    msg.is_binary = is_binary
    return msg


# Connections


async def test_a_connection_has_what_the_server_has() -> None:
    """Users, storage and queue are the server's; token and state are the connection's own."""
    factory = FilteredWebSocketFactory(token="blue")
    a, b = connect(factory), connect(factory)
    assert dict(a.users) == {a.id: a, b.id: b}
    assert a.storage_object is b.storage_object is factory.storage_object
    assert isinstance(a.storage_object, StorageObject)
    assert a.queue is factory.queue
    a.token = "red"
    a.state["name"] = "A"
    a.anything = 5
    assert (b.token, b.state, b.request) == ("blue", {}, None)


class Kept:
    """What a filter keeps with a connection."""


@pytest.mark.parametrize("how", ["loseConnection", "abortConnection", "connection_lost"])
async def test_nothing_keeps_a_connection_that_is_gone(how: str) -> None:
    """It is freed at once: the garbage collector, which would stop all others, is not needed."""
    factory = FilteredWebSocketFactory()
    connection = connect(factory)
    connection.state["kept"] = kept = Kept()
    connection.sendMessage("bye")
    if how != "connection_lost":
        getattr(connection, how)()
    factory.users.flush()
    connection.connection_lost(None)
    reference = weakref.ref(kept)
    gc.disable()
    try:
        del connection, kept
        await idle()
        assert reference() is None
    finally:
        gc.enable()


async def test_each_event_runs_its_chain() -> None:
    """The connect chain once, the message chain for each message, the disconnect chain once."""
    calls: list[tuple[str, Any, Any]] = []
    for chain in (WebSocketConnectFilter, WebSocketMessageFilter, WebSocketDisconnectFilter):
        add(chain, lambda *arguments, name=chain.__name__: calls.append((name, *arguments)))
    connection = connect(FilteredWebSocketFactory())
    connection.onMessage(Message(b"hi"))
    connection.loseConnection()
    connection.abortConnection()
    connection.connection_lost(None)
    assert calls == [
        ("WebSocketConnectFilter", connection, None),
        ("WebSocketMessageFilter", connection, b"hi"),
        ("WebSocketDisconnectFilter", connection, None),
    ]


@pytest.mark.parametrize("chain", [WebSocketConnectFilter, WebSocketMessageFilter])
@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("msg", [message(b"hi"), message(b"hi", is_binary=True)])
async def test_disconnect_filters_come_after_the_chain_that_ended_the_connection(
    chain: type, is_async: bool, msg: Message
) -> None:
    """What the filters behind the one that closes have put down, disconnect filters find."""
    calls: list[str] = []

    def close(connection: Any, data: Any) -> None:
        connection.loseConnection()
        connection.abortConnection()

    async def wait(connection: Any, data: Any) -> None:
        await asyncio.sleep(0)

    add(chain, close)
    if is_async:
        add(chain, wait)
    add(chain, lambda connection, data: calls.append("put down"))
    add(WebSocketDisconnectFilter, lambda connection, data: calls.append("taken away"))
    connection = connect(FilteredWebSocketFactory())
    connection.onMessage(msg)
    await idle()
    assert calls == ["put down", "taken away"]


async def test_a_connection_that_never_opened_has_no_end() -> None:
    """The disconnect chain is for connections that were open."""
    add(WebSocketDisconnectFilter, lambda *_: pytest.fail("it ran"))
    connection = FilteredWebSocketFactory().buildProtocol("192.0.2.1")
    connection.loseConnection()
    connection.abortConnection()


async def test_raw_data_is_a_bytearray() -> None:
    """The data chain gets each chunk, changeable, and the server says that it wants them."""
    seen: list[bytearray] = []
    assert not FilteredWebSocketFactory().wants_raw_data
    add(WebSocketDataFilter, lambda _, data: seen.append(data))
    factory = FilteredWebSocketFactory()
    assert factory.wants_raw_data
    factory.buildProtocol("192.0.2.1").dataReceived(b"Morgan\n")
    assert seen == [b"Morgan\n"]
    assert isinstance(seen[0], bytearray)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("is_binary", [False, True])
async def test_plain_bytes_answer_in_the_type_of_the_message(
    is_binary: bool, is_async: bool
) -> None:
    """What a filter sends as bytes while it handles a message has its type, and later is text."""

    async def later(instance: Any, msg: Message) -> None:
        await asyncio.sleep(0)
        instance.sendMessage(bytes(msg))

    add(WebSocketMessageFilter, later if is_async else lambda i, msg: i.sendMessage(bytes(msg)))

    connection = connect(FilteredWebSocketFactory())
    connection.onMessage(message(b"hi", is_binary))
    await idle()
    connection.sendMessage(b"later")
    assert sent(connection) == encode_frame(b"hi", is_binary) + encode_frame(b"later", False)


# The handshake


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (None, True),
        (lambda instance, request: None, True),
        (lambda instance, request: 1 / 0, False),
    ],
    ids=["none", "passes", "fails"],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_the_handshake_chain_decides(body: Any, expected: bool, is_async: bool) -> None:
    """Without a filter, or past all of them, the connection may open; an error keeps it out."""

    async def later(instance: Any, request: Request) -> None:
        await asyncio.sleep(0)

    if is_async:
        add(WebSocketHandshakeFilter, later)
    if body is not None:
        add(WebSocketHandshakeFilter, body)

    connection = FilteredWebSocketFactory().buildProtocol("192.0.2.1")
    verdict = connection.onHandshake(REQUEST)
    assert isinstance(verdict, bool) is not is_async
    assert (verdict if isinstance(verdict, bool) else await verdict) is expected


async def test_a_rejection_reaches_the_handshake() -> None:
    """RejectHandshake goes through, for the wire to answer with it."""

    def reject(instance: Any, request: Request) -> None:
        raise RejectHandshake(401)

    add(WebSocketHandshakeFilter, reject)
    with pytest.raises(RejectHandshake):
        FilteredWebSocketFactory().buildProtocol("192.0.2.1").onHandshake(REQUEST)


# Async filters


class Gate:
    """An async filter that lets messages through one by one, as the test says."""

    def __init__(self) -> None:
        self.done: list[tuple[Any, bytes]] = []
        self.passes = asyncio.Semaphore(0)

    async def __call__(self, instance: Any, msg: Message) -> None:
        await self.passes.acquire()
        self.done.append((instance, bytes(msg)))

    async def open(self, count: int) -> None:
        for _ in range(count):
            self.passes.release()
        await idle()


def gated(limits: Limits | None = None) -> tuple[Gate, FilteredWebSocketFactory]:
    gate = Gate()

    async def body(instance: Any, msg: Message) -> None:
        await gate(instance, msg)

    add(WebSocketMessageFilter, body)
    return gate, FilteredWebSocketFactory(limits=limits)


async def test_messages_of_one_connection_stay_in_order() -> None:
    """The next event of a connection waits until the one before is done, its end included."""
    add(WebSocketDisconnectFilter, lambda instance, _: gate.done.append((instance, b"gone")))
    gate, factory = gated()
    connection = connect(factory)
    for text in (b"1", b"2", b"3"):
        connection.onMessage(Message(text))
    connection.loseConnection()
    await gate.open(2)
    assert gate.done == [(connection, b"1"), (connection, b"2")]
    await gate.open(1)
    assert gate.done[2:] == [(connection, b"3"), (connection, b"gone")]


async def test_connections_do_not_wait_for_each_other() -> None:
    """A message that takes its time holds up nobody but its sender."""
    gate, factory = gated()
    a, b = connect(factory), connect(factory)
    a.onMessage(Message(b"a"))
    b.onMessage(Message(b"b"))
    await gate.open(2)
    assert gate.done == [(a, b"a"), (b, b"b")]


async def test_a_full_backlog_pauses_reading() -> None:
    """A sender that is too fast is not read from until less than half of its backlog is left."""
    gate, factory = gated(Limits(backlog=4))
    connection = connect(factory)
    transport = connection.transport
    states = []
    for number in range(5):
        connection.onMessage(Message(b"%d" % number))
        await idle()
        states.append(transport.reading)
    assert states == [True, True, True, True, False]
    states.clear()
    for _ in range(5):
        await gate.open(1)
        states.append(transport.reading)
    assert states == [False, False, False, True, True]
    assert [msg for _, msg in gate.done] == [b"0", b"1", b"2", b"3", b"4"]


async def test_long_messages_fill_a_backlog_sooner() -> None:
    """Few messages with as many bytes as one may have pause reading, until they are handled."""
    gate, factory = gated(Limits(backlog=100, message_size=10))
    connection = connect(factory)
    transport = connection.transport
    for _ in range(4):
        connection.onMessage(Message(b"12345"))
        await idle()
    states = [transport.reading]
    for _ in range(4):
        await gate.open(1)
        states.append(transport.reading)
    assert states == [False, False, False, True, True]


async def test_sync_filters_create_no_task() -> None:
    """A chain of sync filters is done when the event was handled."""
    done: list[bytes] = []
    add(WebSocketMessageFilter, lambda _, msg: done.append(bytes(msg)))
    connection = connect(FilteredWebSocketFactory())
    connection.onMessage(Message(b"hi"))
    assert done == [b"hi"]
    assert len(asyncio.all_tasks()) == 1


# The queue


def consuming(is_async: bool) -> list[tuple[Any, Any]]:
    """Record what the consumer chain gets."""
    seen: list[tuple[Any, Any]] = []

    async def later(instance: Any, item: Any) -> None:
        await asyncio.sleep(0)
        seen.append((instance, item))

    add(WebSocketConsumerFilter, later if is_async else lambda *both: seen.append(both))
    return seen


@pytest.mark.parametrize("is_async", [False, True])
async def test_items_reach_the_consumer_chain_in_order(is_async: bool) -> None:
    """Anything that is put on the queue is handled by the server itself, also from a thread."""
    seen = consuming(is_async)
    asyncio.get_running_loop().set_debug(True)  # which refuses what is not safe from a thread
    factory = FilteredWebSocketFactory()
    connect(factory).queue.put("from a filter")
    factory.queue.put_nowait(None)
    await idle()
    await asyncio.to_thread(factory.queue.put, "from a thread")
    await idle()
    assert seen == [(factory, "from a filter"), (factory, None), (factory, "from a thread")]
    assert factory.queue.empty()


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_put_from_a_thread_is_never_missed(is_async: bool) -> None:
    """An item that is consumed while `put` has not returned yet leaves the queue awake."""
    seen = consuming(is_async)
    factory = FilteredWebSocketFactory()
    loop = asyncio.get_running_loop()

    class SlowToReturn(deque[Any]):
        def append(self, item: Any) -> None:
            super().append(item)
            if item == "slow":
                loop.call_soon_threadsafe(factory.consumer)
                asyncio.run_coroutine_threadsafe(idle(), loop).result(10)

    factory.queue._items = SlowToReturn()
    await asyncio.to_thread(factory.queue.put, "slow")
    await idle()
    factory.queue.put("next")
    await idle()
    assert [item for _, item in seen] == ["slow", "next"]


async def test_sending_from_a_thread_is_refused() -> None:
    """It would not be safe; the error names what is."""
    connection = connect(FilteredWebSocketFactory())
    with pytest.raises(RuntimeError, match=r"use queue\.put"):
        await asyncio.to_thread(connection.sendMessage, "from a thread")


async def test_a_flood_of_items_leaves_others_their_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items are consumed in slices; what is due in the event loop comes in between."""
    monkeypatch.setattr(server, "CONSUMER_SLICE", 2)
    seen = consuming(is_async=False)
    factory = FilteredWebSocketFactory()
    for number in range(5):
        factory.queue.put(number)
    counts = []
    while len(seen) < 5:
        await asyncio.sleep(0)
        counts.append(len(seen))
    assert counts == [2, 4, 5]


@pytest.mark.parametrize("is_async", [False, True])
async def test_an_item_that_is_put_back_comes_once_in_a_turn(is_async: bool) -> None:
    """Who asks again and again is busy, and does not crowd out all others."""
    runs: list[Any] = []

    def put_back(factory: Any, item: Any) -> None:
        runs.append(item)
        if len(runs) < 12:
            factory.queue.put(item)

    async def put_back_later(factory: Any, item: Any) -> None:
        put_back(factory, item)

    add(WebSocketConsumerFilter, put_back_later if is_async else put_back)
    factory = FilteredWebSocketFactory()
    factory.queue.put("again")
    for turn in range(12):
        await asyncio.sleep(0)
        assert len(runs) <= turn + 1
    await idle()
    assert len(runs) == 12


async def test_the_queue_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When the consumer chain cannot keep up, whoever puts is told so."""
    monkeypatch.setattr(server, "QUEUE_SIZE", 2)
    factory = FilteredWebSocketFactory()
    factory.queue.put(1)
    factory.queue.put(2)
    with pytest.raises(queue.Full):
        factory.queue.put(3)
    assert factory.queue.qsize() == 2
    await idle()
    factory.queue.put(3)


async def test_rubbish_costs_one_log_line(caplog: pytest.LogCaptureFixture) -> None:
    """An item that a filter cannot handle is logged, and the next one is handled."""
    seen: list[Any] = []
    add(WebSocketConsumerFilter, lambda _, item: seen.append(item["data"]))
    factory = FilteredWebSocketFactory()
    for item in (None, {"data": b"x"}):
        factory.queue.put(item)
    await idle()
    assert seen == [b"x"]
    assert len(caplog.records) == 1


# Tasks and the end


async def test_a_failed_task_is_reported(caplog: pytest.LogCaptureFixture) -> None:
    """An error in a background task is logged with its traceback, when it happens."""

    async def fail() -> None:
        raise ValueError("no good")

    FilteredWebSocketFactory().spawn(fail())
    await idle()
    (record,) = caplog.records
    assert record.getMessage() == "a background task failed"
    assert "ValueError: no good" in caplog.text


async def test_close_says_goodbye_and_waits() -> None:
    """Each client gets 1001, and close returns when all have gone."""
    factory = FilteredWebSocketFactory()
    connections = [connect(factory) for _ in range(2)]
    closing = asyncio.get_running_loop().create_task(factory.close(grace=60))
    await idle()
    assert not closing.done()
    for connection in connections:
        assert connection.transport.written == encode_close(1001, "the server stops")
        connection.connection_lost(None)
    await closing
    assert not factory.users


async def test_close_cuts_off_who_stays() -> None:
    """After the grace period what is left is aborted."""
    factory = FilteredWebSocketFactory()
    leaving, staying = connect(factory), connect(factory)
    socket = staying.transport
    closing = asyncio.get_running_loop().create_task(factory.close(grace=0.05))
    await idle()
    leaving.connection_lost(None)
    await closing
    assert socket.aborted


async def test_disconnect_filters_run_behind_one_that_hangs() -> None:
    """A filter that never ends is cancelled at the stop; the disconnect chain runs all the same."""
    gone: list[Any] = []
    add(WebSocketDisconnectFilter, lambda instance, _: gone.append(instance))
    _, factory = gated()
    connection = connect(factory)
    connection.onMessage(Message(b"never done"))
    await idle()
    await factory.close(grace=0)
    assert gone == [connection]


# What must not harm others


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_cancellation_out_of_a_filter_costs_one_message(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged like any error; the messages behind it are handled, and reading resumes."""
    seen: list[bytes] = []

    def body(instance: Any, msg: Message) -> None:
        if msg == b"0":
            raise asyncio.CancelledError("of something else")
        seen.append(bytes(msg))

    async def later(instance: Any, msg: Message) -> None:
        await asyncio.sleep(0)
        body(instance, msg)

    add(WebSocketMessageFilter, later if is_async else body)
    connection = connect(FilteredWebSocketFactory(limits=Limits(backlog=4)))
    for number in range(10):
        connection.onMessage(Message(b"%d" % number))
    await idle()
    assert seen == [b"%d" % number for number in range(1, 10)]
    assert connection.transport.reading
    (record,) = caplog.records
    assert "Added failed" in record.getMessage()
    assert "CancelledError: of something else" in caplog.text


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_cancellation_out_of_a_filter_costs_one_item(
    is_async: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """The consumer chain goes on with the next item."""
    seen: list[int] = []

    def body(instance: Any, item: int) -> None:
        if item == 0:
            raise asyncio.CancelledError
        seen.append(item)

    async def later(instance: Any, item: int) -> None:
        body(instance, item)

    add(WebSocketConsumerFilter, later if is_async else body)
    factory = FilteredWebSocketFactory()
    for item in range(3):
        factory.queue.put(item)
    await idle()
    factory.queue.put(3)
    await idle()
    assert seen == [1, 2, 3]
    (record,) = caplog.records
    assert "Added failed" in record.getMessage() and "CancelledError" in caplog.text


async def test_a_cancelled_handshake_filter_lets_nobody_in() -> None:
    """A cancellation of something else is an error of the filter: the connection is refused."""

    async def cancelled(instance: Any, request: Request) -> None:
        raise asyncio.CancelledError

    add(WebSocketHandshakeFilter, cancelled)
    verdict = FilteredWebSocketFactory().buildProtocol("192.0.2.1").onHandshake(REQUEST)
    assert not isinstance(verdict, bool)
    assert await verdict is False


async def test_a_filter_that_waits_for_ever_ends_with_the_server() -> None:
    """The cancellation of the stop itself reaches the filter, and nothing behind it runs."""
    ended: list[str] = []

    async def wait(instance: Any, msg: Message) -> None:
        try:
            await asyncio.Future()
        except asyncio.CancelledError:
            ended.append(msg.decode())
            raise

    add(WebSocketMessageFilter, wait)
    factory = FilteredWebSocketFactory()
    connection = connect(factory)
    connection.onMessage(Message(b"first"))
    connection.onMessage(Message(b"second"))
    await idle()
    await factory.close(0)
    assert ended == ["first"]
    assert factory.stuck == 0


async def test_a_filter_that_does_not_end_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping does not wait for a filter that swallows its cancellation."""
    monkeypatch.setattr(server, "LAST_GRACE", 0)
    release = asyncio.Event()

    async def stubborn(instance: Any, msg: Message) -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    add(WebSocketMessageFilter, stubborn)
    factory = FilteredWebSocketFactory()
    connect(factory).onMessage(Message())
    await idle()
    asyncio.get_running_loop().call_later(5, release.set)  # should close wait after all
    await factory.close(0)
    assert factory.stuck == 1
    release.set()
    await idle()


async def test_a_disconnect_filter_may_close_everybody(caplog: pytest.LogCaptureFixture) -> None:
    """However many there are, all leave once, one after the other."""
    left: list[Any] = []

    def close_all(instance: Any, data: None) -> None:
        left.append(instance)
        for other in instance.users.values():
            other.loseConnection()

    add(WebSocketDisconnectFilter, close_all)
    factory = FilteredWebSocketFactory()
    connections = [connect(factory) for _ in range(500)]
    connections[0].loseConnection()
    assert not factory.users
    assert left == connections
    assert not caplog.records


THREAD_CALLS = {
    "sendMessage": lambda connection: connection.sendMessage("x"),
    "broadcast": lambda connection: connection.users.broadcast("x"),
    "loseConnection": lambda connection: connection.loseConnection(),
    "abortConnection": lambda connection: connection.abortConnection(),
}


@pytest.mark.parametrize("name", THREAD_CALLS)
async def test_what_a_thread_must_not_do(name: str) -> None:
    """A thread is told to use the queue, also while the event loop is sending; nothing changes."""
    connection = connect(FilteredWebSocketFactory())
    connection.sendMessage("before")
    with pytest.raises(RuntimeError, match=r"use queue\.put"):
        await asyncio.to_thread(THREAD_CALLS[name], connection)
    assert connection.is_open
    assert dict(connection.users) == {connection.id: connection}
    assert connection.transport.close_codes == []
    assert not connection.transport.aborted
    connection.sendMessage("after")
    assert sent(connection) == encode_frame("before", False) + encode_frame("after", False)


async def test_a_filter_that_changes_users_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """Nobody is lost, and the log says which filter tried."""
    add(WebSocketMessageFilter, lambda instance, msg: instance.users.clear())
    connection = connect(FilteredWebSocketFactory())
    connection.onMessage(Message())
    assert dict(connection.users) == {connection.id: connection}
    assert "Added failed" in caplog.text
    assert "TypeError: users is not for changing" in caplog.text
