"""How what is sent to one peer reaches its socket, and what it costs when the peer reads slowly.

As long as the transport takes everything, `write` is the transport's own, and nothing is counted.
When it says that it is full, `write` becomes one that counts: what comes then waits here, up to a
bound, until there is room again.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from .limits import Limits

__all__ = ["Outbox"]

OVERHEAD = 64  # bytes that a write which waits takes besides its data


class Outbox(asyncio.BufferedProtocol):
    """Write to one transport: `write` takes whole frames, `transport` is None when it is closed."""

    __slots__ = ("_waiting", "_waiting_bytes", "limits", "transport", "write")

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.transport: asyncio.Transport | None = None
        self.write: Callable[[Any], None] = discard
        self._waiting: deque[bytes] | None = None
        self._waiting_bytes = 0

    @property
    def is_backed_up(self) -> bool:
        """Whether the peer reads so slowly that something waits for it."""
        return self._waiting is not None

    def on_too_slow(self) -> None:
        """Close the connection: more than may wait was sent, and has been dropped."""

    # The transport calls these two

    def pause_writing(self) -> None:
        if self._waiting is None and self.write is not discard:
            self._waiting = deque()
            self._waiting_bytes = 0
            self.write = self._keep

    def resume_writing(self) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is None or self.transport is None or self.write is discard:
            return
        self.write = self.transport.write
        while waiting:
            self.write(waiting.popleft())
            if self._waiting is not None:  # The write filled the transport and paused us again.
                self._waiting.extend(waiting)
                self._waiting_bytes = sum(len(data) + OVERHEAD for data in waiting)
                return

    def _keep(self, data: bytes) -> None:
        waiting, limits = self._waiting, self.limits
        assert waiting is not None
        waiting.append(data)
        self._waiting_bytes += len(data) + OVERHEAD
        if self._waiting_bytes <= limits.queue_bytes:
            return
        if limits.slow_client == "close":
            self.write = discard
            waiting.clear()
            # Not now: a flush is looping over the connections, and closing runs filters.
            asyncio.get_running_loop().call_soon(self.on_too_slow)
        elif limits.slow_client == "drop_newest":
            self._waiting_bytes -= len(waiting.pop()) + OVERHEAD
        else:
            while self._waiting_bytes > limits.queue_bytes and len(waiting) > 1:
                self._waiting_bytes -= len(waiting.popleft()) + OVERHEAD

    def send_all_waiting(self) -> None:
        """Give all that waits to the transport, and take no more."""
        waiting, self._waiting = self._waiting, None
        self.write = discard
        if waiting and self.transport is not None:
            self.transport.writelines(waiting)

    def forget_waiting(self) -> None:
        """Drop what waits, and take no more."""
        self._waiting = None
        self.write = discard


def discard(data: object) -> None:
    """Write to nowhere, for connections that are not open."""
