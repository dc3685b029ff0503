"""Whose turn it is to read, among the connections that have more to read than fits in a slice.

However many they are, together they get one slice of each turn of the event loop, so that those
with little to say wait for one of them and not for all.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

__all__ = ["Turns"]

SLICE = 0.0005  # seconds


class Turns:
    """Let those that queue up go on in their order, as many in a turn as fit in a slice."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: deque[tuple[Callable[[], None], float]] = deque()

    def queue_up(self, go_on: Callable[[], None], cost: float) -> None:
        """Call `go_on` in a later turn; `cost` (seconds) is what it will probably take."""
        self._waiting.append((go_on, cost))
        if len(self._waiting) == 1:
            asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        left = SLICE
        try:
            while self._waiting and left > 0:
                go_on, cost = self._waiting[0]
                left -= cost
                try:
                    go_on()
                finally:
                    self._waiting.popleft()  # not before: who queues up meanwhile need not call us
        finally:
            if self._waiting:
                asyncio.get_running_loop().call_soon(self._next)
