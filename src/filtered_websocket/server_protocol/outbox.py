"""How what is sent to one peer reaches its socket, and what it costs when the peer reads slowly.

As long as the transport takes everything, `write` is the transport's own, and nothing is counted.
When it says that it is full, `write` becomes one that counts: what comes then waits here, up to a
bound, until there is room again.

Whoever calls `write` has counted what it writes as delivered. What waits here is taken out of that
count until it leaves, and what is dropped for good.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from ..counters import Counters
from ..frames import measure_messages
from .limits import Limits

__all__ = ["Outbox"]

OVERHEAD = 64  # bytes that a write which waits takes besides its data


class _Waiting(deque[bytes]):
    """The writes that wait for one slow peer."""

    __slots__ = ("has_lost", "messages", "size")

    def __init__(self) -> None:
        super().__init__()
        self.has_lost = False
        self.messages = 0
        self.size = 0  # bytes, with `OVERHEAD` for each write


class Outbox(asyncio.BufferedProtocol):
    """Write to one transport: `write` takes whole frames, `transport` is None when it is closed."""

    # All of them are in each idle connection: what only slow ones need is in `_Waiting`.
    __slots__ = ("_takes_more", "_waiting", "limits", "transport", "write")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.transport: asyncio.Transport | None = None
        self.write: Callable[[Any], None] = discard
        self._takes_more = True
        self._waiting: _Waiting | None = None

    @property
    def counters(self) -> Counters:
        """Where deliveries are counted."""
        raise NotImplementedError

    @property
    def is_backed_up(self) -> bool:
        """Whether the peer reads so slowly that something waits for it."""
        return self._waiting is not None

    @property
    def waiting_messages(self) -> int:
        """How many messages wait here, beside those that the transport holds."""
        return 0 if self._waiting is None else self._waiting.messages

    @property
    def unsent_bytes(self) -> int:
        """How many bytes wait, here and in the transport, until the kernel takes them."""
        waiting, transport = self._waiting, self.transport
        in_transport = 0 if transport is None else transport.get_write_buffer_size()
        return in_transport + (waiting.size - OVERHEAD * len(waiting) if waiting else 0)

    def on_too_slow(self) -> None:
        """Close the connection: more than may wait was sent, and has been dropped."""

    def on_dropping(self) -> None:
        """Tell that more than may wait was sent, and that messages are dropped from now on."""

    # The transport calls these two

    def pause_writing(self) -> None:
        if self._waiting is None and self._takes_more:
            self._waiting = _Waiting()
            self.write = self._keep

    def resume_writing(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or self.transport is None or not self._takes_more:
            return
        self.write = self.transport.write
        while waiting:
            data = self._leaves(waiting)
            self.write(data)
            if self._waiting is not None:  # The write filled the transport and paused us again.
                self._waiting = waiting
                return

    def _keep(self, data: bytes) -> None:
        waiting, limits = self._waiting, self.limits
        assert waiting is not None
        waiting.append(data)
        waiting.messages += self._take_back(data)
        waiting.size += len(data) + OVERHEAD
        if waiting.size <= limits.queue_bytes:
            return
        if limits.slow_client == "close":
            self.counters.dropped_slow += waiting.messages
            self._waiting = _Waiting()  # empty, but it is still backed up
            self._end(self._drop_slow)
            # Not now: a flush is looping over the connections, and closing runs filters.
            asyncio.get_running_loop().call_soon(self.on_too_slow)
        elif limits.slow_client == "drop_newest":
            self._drop(waiting, waiting.pop())
        else:
            while waiting.size > limits.queue_bytes and len(waiting) > 1:
                self._drop(waiting, waiting.popleft())

    def _drop(self, waiting: _Waiting, data: bytes) -> None:
        if not waiting.has_lost:
            waiting.has_lost = True
            self.on_dropping()
        messages, _ = measure_messages(data)
        waiting.messages -= messages
        waiting.size -= len(data) + OVERHEAD
        self.counters.dropped_slow += messages

    def _leaves(self, waiting: _Waiting) -> bytes:
        """Remove and return the first write that waits, which is delivered now."""
        data = waiting.popleft()
        messages, size = measure_messages(data)
        waiting.messages -= messages
        waiting.size -= len(data) + OVERHEAD
        self.counters.delivered += messages
        self.counters.delivered_bytes += size
        return data

    def _take_back(self, data: bytes) -> int:
        """Count that `data` is not delivered yet, or never; return how many messages it holds."""
        messages, size = measure_messages(data)
        self.counters.delivered -= messages
        self.counters.delivered_bytes -= size
        return messages

    def send_all_waiting(self) -> None:
        """Give all that waits to the transport, and take no more."""
        waiting, self._waiting = self._waiting, None
        if self._takes_more:
            self._end(self._drop_closed)
        if waiting and self.transport is not None:
            self.transport.writelines([self._leaves(waiting) for _ in range(len(waiting))])

    def forget_waiting(self) -> None:
        """Drop what waits, and take no more."""
        self.counters.dropped_closed += self.waiting_messages
        self._waiting = None
        if self._takes_more:
            self._end(self._drop_closed)

    def lose_transport(self) -> None:
        """Forget what waits and the transport, once it is gone."""
        self.forget_waiting()
        self.transport = None
        self.write = discard  # one's own method would keep the connection in memory

    def _end(self, drop: Callable[[bytes], None]) -> None:
        self._takes_more = False
        self.write = drop

    # What `write` is for those that take no more

    def _drop_closed(self, data: bytes) -> None:
        self.counters.dropped_closed += self._take_back(data)

    def _drop_slow(self, data: bytes) -> None:
        self.counters.dropped_slow += self._take_back(data)


def discard(data: object) -> None:
    """Write to nowhere, for connections that are in nobody's list."""
