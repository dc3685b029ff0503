"""Measure in this process what the way of a message costs, as it is and without a part of it."""

import asyncio
import gc
import time
from functools import partial
from statistics import quantiles

import uvloop
from filters import echo  # noqa: F401 -- it registers its filter

from filtered_websocket.server import FilteredWebSocket, FilteredWebSocketFactory

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
                figures.append(_cpu_seconds(connection, factory.users) / (READS * FRAMES) * 1e9)
                await asyncio.sleep(0)  # the event loop forgets the flushes it was asked for
    finally:
        gc.enable()
        for connection in results:
            connection.connection_lost(None)
        await factory.close(0)
    return tuple(quantiles(figures, n=10)[0] for figures in results.values())


def _cpu_seconds(connection, users):
    start = time.process_time()
    for _ in range(READS):
        connection.get_buffer(-1)[: len(READ)] = READ
        connection.buffer_updated(len(READ))
        users.flush()
    return time.process_time() - start
