"""An event loop and sockets without a system below them: thousands of conversations a second."""

from __future__ import annotations

import asyncio
import logging
from asyncio import events
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..unit.server_protocol.fakes import FakeTransport

MANY_TURNS = 20_000


class VirtualLoop(asyncio.BaseEventLoop):
    """An event loop whose time passes only when there is nothing else to do."""

    def __init__(self) -> None:
        super().__init__()
        self._selector = self  # which is asked for nothing but to sleep
        self._now = 0.0
        self.failures: list[object] = []
        self.set_exception_handler(lambda loop, context: self.failures.append(context))

    def time(self) -> float:
        return self._now

    def select(self, timeout: float | None) -> list[Any]:
        self._now += timeout or 0
        return []

    def _process_events(self, events: list[Any]) -> None:
        pass

    def settle(self) -> None:
        """Do all that can be done without waiting."""
        turns = 0
        while self._ready:
            self._run_once()
            turns += 1
            assert turns < MANY_TURNS, "the event loop does not come to rest"

    def run_out(self) -> None:
        """Let time pass until no timer is left."""
        turns = 0
        while self._ready or self._scheduled:
            self._run_once()
            turns += 1
            assert turns < MANY_TURNS, "timers that never end"

    def check(self) -> None:
        """Raise AssertionError for what failed since the last time, in the loop or in the log."""
        failures = self.failures.copy()
        self.failures.clear()
        assert not failures, failures


class _Errors(logging.Handler):
    """Take what the server logs as an error: no peer may be able to cause one."""

    def __init__(self, failures: list[object]) -> None:
        super().__init__(logging.ERROR)
        self._failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        self._failures.append(logging.Formatter().format(record))


@contextmanager
def running() -> Iterator[VirtualLoop]:
    """Make a virtual loop the running one of this thread."""
    loop, logger = VirtualLoop(), logging.getLogger("filtered_websocket")
    loop_before = events._get_running_loop()
    logged_before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [_Errors(loop.failures)], False
    logger.setLevel(logging.ERROR)
    events._set_running_loop(loop)
    try:
        yield loop
    finally:
        events._set_running_loop(loop_before)
        logger.handlers, logger.propagate, level = logged_before
        logger.setLevel(level)
        loop.close()


class Socket(FakeTransport):
    """A socket that is as strict as a real one, and whose peer says what it reads.

    Beyond `room` bytes that the peer has not read it tells the protocol to pause.
    """

    def __init__(
        self, loop: VirtualLoop, *, peer: Any = ("192.0.2.1", 5000), has_eof: bool = True, room: int
    ) -> None:
        super().__init__(peer)
        self.protocol: Any = None
        self._loop = loop
        self._has_eof = has_eof
        self._room = room
        self._is_full = False

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def can_write_eof(self) -> bool:
        return self._has_eof

    def write(self, data: bytes | memoryview) -> None:
        assert not self.eof_sent and not self.closed, "written to after its end"
        super().write(data)
        if len(self.written) > self._room and not self._is_full:
            self._is_full = True
            self.protocol.pause_writing()

    def writelines(self, parts: Any) -> None:
        self.write(b"".join(parts))

    def read_all(self) -> None:
        """Let the peer read all that comes from now on."""
        self._room = 1 << 30
        if self._is_full and not self.closed:
            self._is_full = False
            self.protocol.resume_writing()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._loop.call_soon(lambda: self.protocol.connection_lost(None))

    def abort(self) -> None:
        self.aborted = True
        self.close()

    def receive(self, data: bytes) -> None:
        """Give the protocol what the peer has sent, for as long as it reads."""
        while data and not self.closed:
            if not self.reading:
                self._loop.settle()
                assert self.reading or self.closed, "it does not go on reading"
                continue
            buffer = self.protocol.get_buffer(-1)
            size = min(len(buffer), len(data))
            buffer[:size] = data[:size]
            self.protocol.buffer_updated(size)
            data = data[size:]
