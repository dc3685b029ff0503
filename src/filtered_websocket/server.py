"""A server and its connections: which event runs which chain.

What belongs here: the way of a message from the wire into a chain, in order, and what all
connections of one server share. What does not: sockets and frames (`server_protocol`), the loop
over the filters (`filters.base`), and when to start and stop (`runner`).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from argparse import Namespace
from collections import deque
from collections.abc import Awaitable, Coroutine
from contextvars import ContextVar
from typing import Any

from .counters import Counters
from .filters import base
from .filters.base import (
    Chain,
    WebSocketConnectFilter,
    WebSocketConsumerFilter,
    WebSocketDataFilter,
    WebSocketDisconnectFilter,
    WebSocketHandshakeFilter,
    WebSocketMessageFilter,
)
from .filters.metered import meter_chains
from .options import default_parser
from .server_protocol.handshake import Connection
from .server_protocol.keepalive import Keepalive
from .server_protocol.limits import Limits
from .server_protocol.pace import Pace
from .server_protocol.parser import ParserPool
from .server_protocol.turns import Turns
from .storage_objects.default import StorageObject
from .typing import Message, Request
from .users import Users

__all__ = ["ConsumerQueue", "FilteredWebSocket", "FilteredWebSocketFactory", "default_parser"]

logger = logging.getLogger(__name__)

handling_binary: ContextVar[bool] = ContextVar("handling_binary", default=False)
"""Whether the message that is going down a chain right now is binary."""

consuming: ContextVar[bool] = ContextVar("consuming", default=False)
"""Whether the consumer chain is running: each server of a cluster runs its own."""

QUEUE_SIZE = 65536  # items that may wait for the consumer chain
LAST_GRACE = 1.0  # seconds for async disconnect filters after all others were cancelled
Jobs = deque[tuple[Chain, Message | None]]

CONSUMER_SLICE = 256  # items that are consumed before other events get their turn


class FilteredWebSocket(Connection):
    """One connection: the `web_socket_instance` that filters get.

    Attributes with names that nothing here has are free for filters, too.
    """

    __slots__ = (
        "__dict__",
        "_holds_goodbye",
        "_is_backed_up",
        "_jobs",
        "_jobs_bytes",
        "_pace",
        "_state",
        "factory",
        "token",
    )

    users: Users[FilteredWebSocket]
    """All open connections of this server by id, this one included."""

    def __init__(self, factory: FilteredWebSocketFactory) -> None:
        super().__init__(factory.users, factory.limits, factory.parsers, factory.turns)
        self.factory = factory
        """The server that this connection belongs to, a `FilteredWebSocketFactory`."""
        self.token: Any = factory.token
        """Who the client is, or its group; None until a filter sets it."""
        self.request = None  # type: ignore[assignment]  # till the handshake: few filters run so early
        self.subprotocol: str | None = None
        self.response_headers: dict[str, str] = {}
        self._state: dict[str, Any] | None = None
        self._jobs: Jobs | None = None
        self._jobs_bytes = 0
        self._is_backed_up = False
        self._holds_goodbye = False  # while a chain runs
        limits = factory.limits
        self._pace = Pace(limits.rate, limits.rate_burst, factory.time) if limits.rate else None

    @property
    def storage_object(self) -> Any:
        """The storage object of the server."""
        return self.factory.storage_object

    @property
    def queue(self) -> ConsumerQueue:
        """The queue of the server: what is put there reaches the consumer chain."""
        return self.factory.queue

    @property
    def state(self) -> dict[str, Any]:
        """A dict for what filters want to remember about this connection."""
        if self._state is None:
            self._state = {}
        return self._state

    def dataReceived(self, data: bytes) -> None:
        self.factory.data_chain.run(self, bytearray(data))

    def onHandshake(self, request: Request) -> bool | Awaitable[bool]:
        chain = self.factory.handshake_chain
        if not chain:
            return True
        if chain.is_async:
            return _passed(chain.run(self, request))
        return chain.run(self, request) is not None

    def onConnect(self) -> None:
        self._handle(self.factory.connect_chain, None)

    def onMessage(self, msg: Message) -> None:
        chain = self.factory.message_chain
        if (
            chain.is_async
            or msg.is_binary
            or self._jobs is not None
            or self._pace is not None
            or self._holds_goodbye
        ):
            self._handle(chain, msg)
            return
        # Most messages: nothing to wait for. This is `_run` without the call.
        self._holds_goodbye = True
        chain.run(self, msg)
        self._holds_goodbye = False
        if not self.is_open:
            self._say_goodbye()

    def onPong(self) -> None:
        self.factory.keepalive.answered(self.id)

    def onDisconnect(self) -> None:
        self.factory.keepalive.forget(self.id)
        if self._pace:
            self._pace.end()
        if not self._holds_goodbye:
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        self._holds_goodbye = True  # for good: it is said once
        # A disconnect filter may close others, and theirs others: one after the other, not nested.
        leaving = self.factory.leaving
        leaving.append(self)
        if len(leaving) > 1:
            return
        while leaving:
            try:
                leaving[0]._handle(self.factory.disconnect_chain, None)
            finally:
                leaving.popleft()

    # The events of one connection are handled in their order. As long as no async filter is loaded
    # each is handled when it comes; behind an async one, or a message that came too early for
    # `Limits.rate`, they queue up, and a worker takes over. A filter may end the connection: the
    # disconnect chain comes after the chain that it is in.

    def _handle(self, chain: Chain, data: Message | None) -> None:
        if self._jobs is not None:
            self._queue_up(self._jobs, chain, data)
        elif chain.is_async or (data is not None and self._pace and not self._pace.take()):
            self._jobs = deque()
            self._queue_up(self._jobs, chain, data)
            self.factory.spawn(self._work(self._jobs))
        elif data is not None and data.is_binary:
            token = handling_binary.set(True)
            try:
                self._run(chain, data)
            finally:
                handling_binary.reset(token)
        else:
            self._run(chain, data)

    def _run(self, chain: Chain, data: Message | None) -> None:
        if self._holds_goodbye:  # a filter hands in a message, or this is the end
            chain.run(self, data)
            return
        self._holds_goodbye = True
        chain.run(self, data)
        self._holds_goodbye = False
        if not self.is_open:
            self._say_goodbye()

    def _queue_up(self, jobs: Jobs, chain: Chain, data: Message | None) -> None:
        jobs.append((chain, data))
        if data is not None:
            self.factory.counters.backlog += 1
        self._jobs_bytes += len(data or b"")
        is_full = len(jobs) >= self.limits.backlog or self._jobs_bytes >= self.limits.message_size
        if (is_full or self._pace) and not self._is_backed_up:
            self._is_backed_up = True
            self.hold_reading()

    async def _work(self, jobs: Jobs) -> None:
        try:
            consuming.set(False)
            while jobs:
                chain, data = jobs[0]
                if data is not None:
                    if self._pace and not self._pace.take():
                        self.factory.counters.rate_delays += 1
                        await self._pace.turn()
                    self.factory.counters.backlog -= 1
                jobs.popleft()
                self._jobs_bytes -= len(data or b"")
                handling_binary.set(data is not None and data.is_binary)
                verdict = chain.run(self, data)
                if chain.is_async:
                    await verdict
                is_low = len(jobs) < self.limits.backlog // 2
                if self._is_backed_up and is_low and self._jobs_bytes < self.limits.message_size:
                    self._is_backed_up = False
                    self.release_reading()
        finally:
            self._jobs, self._jobs_bytes = None, 0
            if self._is_backed_up:
                self._is_backed_up = False
                self.release_reading()
            for chain, data in jobs:  # none, unless the server stops and does not wait any more
                if data is not None:
                    self.factory.counters.backlog -= 1
                    self.factory.counters.given_up += 1
                elif chain is self.factory.disconnect_chain:
                    self._handle(chain, data)


class _Tapped(FilteredWebSocket):
    """Show the data chain each chunk of bytes as it was read."""

    __slots__ = ()

    def buffer_updated(self, nbytes: int) -> None:
        self.dataReceived(bytes(self.get_buffer(-1)[:nbytes]))
        super().buffer_updated(nbytes)


class _Metered(FilteredWebSocket):
    """Count the messages that come."""

    __slots__ = ()

    def onMessage(self, msg: Message) -> None:
        counters = self.factory.counters
        counters.received += 1
        counters.received_bytes += len(msg)
        super().onMessage(msg)


class _MeteredAndTapped(_Metered, _Tapped):
    __slots__ = ()


class FilteredWebSocketFactory:
    """One server: the `web_socket_instance` of consumer filters.

    Made inside a running event loop, after the filters were imported: the chains are taken as they
    are then. Raises FilterError when one of them cannot run.
    """

    users: Users[FilteredWebSocket]
    """All open connections of this server by id."""

    def __init__(
        self,
        storage_object: Any = None,
        token: Any = None,
        limits: Limits | None = None,
        compress_from: int | None = None,
        metered: bool = False,
    ) -> None:
        """Compress messages of `compress_from` bytes and more, for clients that can; None: none.

        `metered` counts also what costs something to count: what comes in, and what filters do.
        """
        self.limits = limits or Limits()
        self.counters = Counters()
        if metered:
            meter_chains()
        if storage_object is None:
            storage_object = StorageObject(Namespace())
        self.storage_object: Any = storage_object
        """What filters remember about clients."""
        self.token = token
        """What the `token` of a new connection is: None, unless the server was made with one."""
        self.data_chain = WebSocketDataFilter.chain()
        self.handshake_chain = WebSocketHandshakeFilter.chain()
        self.connect_chain = WebSocketConnectFilter.chain()
        self.message_chain = WebSocketMessageFilter.chain()
        self.disconnect_chain = WebSocketDisconnectFilter.chain()
        self.consumer_chain = WebSocketConsumerFilter.chain()
        self.wants_raw_data = bool(self.data_chain)
        self.compresses = compress_from is not None
        self._connection_class = _connection_class(metered, self.wants_raw_data)
        self.parsers = ParserPool(self.limits.message_size)
        self.turns = Turns()
        self._loop = asyncio.get_running_loop()
        self.time = self._loop.time
        self._tasks: set[asyncio.Task[None]] = set()
        self._consuming = False
        self.stuck = 0  # tasks that did not even end when they were cancelled
        self.leaving: deque[FilteredWebSocket] = deque()
        # Storage classes of 0.4.1 may have no base class, and so neither `here` nor `relay`; some
        # have no `get` either, which only fails the filters that use groups.
        members = getattr(storage_object, "here", None) or (lambda key: storage_object.get(key))
        self.users = Users(
            self._loop.call_soon,
            turn_bytes=min(256 * 1024, self.limits.queue_bytes // 4),
            compress_from=compress_from or 0,
            is_binary=handling_binary.get,
            members=members,
            relay=getattr(storage_object, "relay", None),
            here_only=consuming.get,
            counters=self.counters,
        )
        self.queue = ConsumerQueue(self._loop, self.consumer)
        """What is put there reaches the consumer chain; a `ConsumerQueue`."""
        self.keepalive = Keepalive(self.users, self.limits.ping_interval, self.limits.ping_timeout)
        if self.limits.ping_interval:
            self.keepalive.start()

    def buildProtocol(self, address: str) -> FilteredWebSocket:
        """Return a new connection, which is not open yet."""
        return self._connection_class(self)

    def consumer(self) -> None:
        """Run the consumer chain on what is in the queue; called when something was put there."""
        if self.consumer_chain.is_async:
            if not self._consuming:
                self._consuming = True
                self.spawn(self._consume())
            return
        token = consuming.set(True)
        for item in self.queue.take(CONSUMER_SLICE):
            self.consumer_chain.run(self, item)
        consuming.reset(token)
        self.queue.wake()

    async def _consume(self) -> None:
        consuming.set(True)
        try:
            while waiting := min(self.queue.qsize(), CONSUMER_SLICE):
                for _ in range(waiting):  # each stays in the queue until it is its turn
                    await self.consumer_chain.run(self, *self.queue.take(1))
                await asyncio.sleep(0)
        finally:
            self._consuming = False
            self.queue.wake()

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a background task of this server; the only way to start one.

        The server holds on to it, logs its failure, and waits for it when it stops: for 5 seconds
        after the last client was closed, then it is cancelled.
        """
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("a background task failed", exc_info=task.exception())

    async def close(self, grace: float) -> None:
        """Close all connections with 1001; wait until they are gone and all tasks are done.

        What is left after `grace` seconds is cut off. Before that, `operation.drain` closes the
        connections of a server that stops, one after the other.
        """
        self.keepalive.stop()
        connections = list(self.users.values())
        for connection in connections:
            connection.loseConnection(1001, "the server stops", answer_within=grace)
            self.spawn(connection.wait_closed())
        deadline = self._loop.time() + grace
        while self._tasks and self._loop.time() < deadline:
            await asyncio.wait(self._tasks, timeout=deadline - self._loop.time())
        for connection in connections:
            connection.abortConnection()
        await self._end_tasks()
        if self._tasks:  # the disconnect chains of connections whose filters did not end in time
            await asyncio.wait(self._tasks, timeout=LAST_GRACE)
            await self._end_tasks()
        self.stuck = len(self._tasks)

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_GRACE)


class ConsumerQueue:
    """Hold the items that wait for the consumer chain; usable from any thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, consumer: Any) -> None:
        self._loop = loop
        self._consumer = consumer
        self._called = False
        self._items: deque[Any] = deque()
        self._thread = threading.get_ident()
        self._counting = threading.Lock()
        self._accepted = self._refused = 0

    def put(self, item: Any) -> None:
        """Add an item for the consumer chain; from any thread.

        The chain runs in a later turn of the event loop, on one item after the other. Raises
        `queue.Full` when 65,536 items wait.
        """
        with self._counting:
            if len(self._items) >= QUEUE_SIZE:
                self._refused += 1
                raise queue.Full(f"{QUEUE_SIZE} items wait for the consumer chain")
            self._items.append(item)
            self._accepted += 1
        self.wake()

    put_nowait = put
    """The same as `put`, which does not wait either."""

    def wake(self) -> None:
        """Have what waits consumed soon; once, however often this is called until then."""
        if self._called or not self._items:
            return
        self._called = True
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._call)
        else:
            self._loop.call_soon_threadsafe(self._call)

    def _call(self) -> None:
        self._called = False
        self._consumer()

    def take(self, count: int) -> list[Any]:
        """Remove and return the first `count` items, or as many as there are."""
        return [self._items.popleft() for _ in range(min(count, len(self._items)))]

    def count(self) -> tuple[int, int, int]:
        """Return how many items were put here, wait, and found it full, at the same moment."""
        with self._counting:
            return self._accepted, len(self._items), self._refused

    def qsize(self) -> int:
        """Return how many items wait."""
        return len(self._items)

    def empty(self) -> bool:
        """Tell whether no item waits."""
        return not self._items


def _connection_class(metered: bool, wants_raw_data: bool) -> type[FilteredWebSocket]:
    if metered:
        return _MeteredAndTapped if wants_raw_data else _Metered
    return _Tapped if wants_raw_data else FilteredWebSocket


def _is_being_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


base.is_being_cancelled = _is_being_cancelled


async def _passed(verdict: Awaitable[Any]) -> bool:
    return await verdict is not None
