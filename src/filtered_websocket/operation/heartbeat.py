"""What has to be done every half second as long as the event loop lives."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

__all__ = ["INTERVAL", "Heartbeat"]

INTERVAL = 0.5  # seconds

Listener = Callable[[float], None]
"""Takes the lag: by how many seconds this beat was late, since other events kept the loop busy."""


class Heartbeat:
    """Call each of `listeners` in each interval."""

    def __init__(self) -> None:
        self.listeners: list[Listener] = []
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; `stop` ends it."""
        self._wait(asyncio.get_running_loop())

    def stop(self) -> None:
        """Call nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + INTERVAL
        self._timer = loop.call_at(self._due, self._beat)

    def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        lag = max(0.0, loop.time() - self._due)
        self._wait(loop)
        for listener in self.listeners:
            listener(lag)
