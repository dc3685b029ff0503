"""How many messages one client may send per second."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Pace"]


class Pace:
    """Let messages pass at a rate (per second), and a burst of them (messages) at once.

    The generic cell rate algorithm: one time stands for all messages that have passed.
    """

    __slots__ = ("_burst", "_gap", "_next", "_over", "_time")

    def __init__(self, rate: float, burst: float, time: Callable[[], float]) -> None:
        """Take the time, in seconds, from `time`."""
        self._gap = 1 / rate
        # A bit less than one: a rounding error must not hold a message back.
        self._burst = (max(burst, 1) - 0.999) * self._gap
        self._next = 0.0
        self._over = asyncio.Event()
        self._time = time

    def take(self) -> bool:
        """Let a message pass now, or tell that it has to wait."""
        now = self._time()
        if self._next - self._burst > now and not self._over.is_set():
            return False
        self._next = max(self._next, now) + self._gap
        return True

    async def turn(self) -> None:
        """Return when a message may pass, or when the pace does not matter any more."""
        while not self.take():
            with suppress(TimeoutError):
                wait = self._next - self._burst - self._time()
                await asyncio.wait_for(self._over.wait(), max(wait, 0.001))

    def end(self) -> None:
        """Let all messages that wait pass: their sender has gone, and no others can come."""
        self._over.set()
