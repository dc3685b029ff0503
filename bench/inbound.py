"""Measure in this process what the way of a message costs, as it is and without a part of it."""

import asyncio
import gc
import time
from functools import partial
from statistics import quantiles

import uvloop
from filters import echo  # noqa: F401 -- it registers its filter

from filtered_websocket.server import FilteredWebSocket, FilteredWebSocketFactory
from filtered_websocket.users import ENTRY_SIZE, NO_ENTRY, Users, _Stream

PAYLOAD = b"x" * 128
FRAMES = 8  # in one read
READ = (bytes([0x81, 0x80 | 126, 0, len(PAYLOAD)]) + bytes(4) + PAYLOAD) * FRAMES
READS = 500  # before the other side has its turn


class Transport:
    """Take what is written, and forget it."""

    def write(self, data):
        pass


class WithoutAsync(FilteredWebSocket):
    """Handle each message at once: no filter can be async, and nothing ever waits."""

    __slots__ = ()

    def onMessage(self, msg):
        if msg.is_binary:
            raise NotImplementedError("the benchmark sends text")
        self.factory.message_chain.run(self, msg)


class WithoutCounts(FilteredWebSocket):
    """Send through `Users` that count nothing."""

    __slots__ = ()

    def __init__(self, factory):
        super().__init__(factory)
        self.users = UncountedUsers(asyncio.get_running_loop().call_soon)


class UncountedUsers(Users):
    """Do for echoes what `Users` do, without the counters of the metrics."""

    __slots__ = ()

    def send_frame(self, connection, frame):
        entries, entry = self._apart.setdefault(connection, []), self._entry
        if entry[1] is not frame or entry[0] != self._length:
            entry = self._entry = (self._length, frame)
            size = len(frame)
        elif entries and entries[-1] is entry:
            size = len(frame)
        else:
            size = ENTRY_SIZE
        entries.append(entry)
        if not self._size:
            self._call_soon(self.flush)
        self._size += size
        if self._size >= self._turn_bytes:
            self.flush()

    def flush(self):
        if not self._size:
            return
        apart = self._apart
        streams = {window: _Stream(frames) for window, frames in self._shared.items()}
        self._shared = {window: [] for window in self._windows}
        self._length, self._apart, self._entry, self._size = 0, {}, NO_ENTRY, 0
        self._forget()
        for connection in list(apart):
            stream, entries = streams[connection.window_bits], apart.get(connection)
            data = stream.changed_by(entries)
            write = connection.write
            try:
                write(data)
            except RuntimeError:
                pass


def cpu_per_message(without, seconds):
    """Return the ns of CPU time for one echo: as it is, and of the class `without` a part.

    Of many measurements it is the first decile: what else the machine does only makes them longer.
    """
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_race(without, seconds))


async def _race(without, seconds):
    factory = FilteredWebSocketFactory()
    gc.disable()
    results = {}
    try:
        for make in (partial(factory.buildProtocol, ""), partial(without, factory)):
            connection = make()
            connection.open(Transport())
            results[connection] = []
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for connection, figures in results.items():
                figures.append(_cpu_seconds(connection) / (READS * FRAMES) * 1e9)
                await asyncio.sleep(0)  # the event loop forgets the flushes it was asked for
    finally:
        gc.enable()
        for connection in results:
            connection.connection_lost(None)
        await factory.close(0)
    return tuple(quantiles(figures, n=10)[0] for figures in results.values())


def _cpu_seconds(connection):
    users = connection.users
    start = time.process_time()
    for _ in range(READS):
        connection.get_buffer(-1)[: len(READ)] = READ
        connection.buffer_updated(len(READ))
        users.flush()
    return time.process_time() - start
