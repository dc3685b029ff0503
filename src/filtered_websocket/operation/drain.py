"""How the clients of a server that stops are closed: not all in the same moment.

What belongs here: who is closed when, and what the operator hears of it. What does not: closing one
connection (`server_protocol.server`), and the tasks of filters that are left then (`server`).
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from typing import Any

from ..server import FilteredWebSocketFactory

__all__ = ["LONGEST_PAUSE", "NEWCOMERS", "Drain"]

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 0.02  # seconds between two closes, so that 50 clients are closed within a second
NEWCOMERS = 1.0  # seconds that are left to handshakes which are under way
REPORT_INTERVAL = 1.0  # seconds
REASON = "the server stops"


class Drain:
    """Close all clients of `server`, in random order, evenly over `seconds`.

    Those that do not answer within `Limits.close_timeout` are cut off.
    """

    def __init__(self, server: FilteredWebSocketFactory, seconds: float, code: int) -> None:
        self._server = server
        self._seconds = seconds
        self._code = code
        self._close_timeout = server.limits.close_timeout
        self._loop = asyncio.get_running_loop()
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = 0
        self._cut_off = 0
        self._last_close = self._loop.time()
        self._report_at = 0.0

    async def run(self, has_newcomers: Callable[[], bool]) -> None:
        """Return when all clients are gone, also those that `has_newcomers` tells of.

        The server accepts no more. Handshakes that are under way have NEWCOMERS seconds, since
        those clients have been let in and cannot know better.
        """
        clients = list(self._server.users.values())
        random.shuffle(clients)
        pause = min(self._seconds / max(1, len(clients)), LONGEST_PAUSE)
        if clients:
            within = f"within {len(clients) * pause:.1f} s, " if pause else ""
            logger.info("closing %s %swith %d", _counted(len(clients)), within, self._code)
        start = self._last_close = self._loop.time()
        self._report_at = start + REPORT_INTERVAL
        for number, client in enumerate(clients):
            await asyncio.sleep(max(0.0, start + number * pause - self._loop.time()))
            self._close(client)
            self._report("closed %d of %s", self._closed, _counted(len(clients)))
        users = self._server.users
        until = start + NEWCOMERS
        while users or self._leaving or (has_newcomers() and self._loop.time() < until):
            for client in users.values():
                self._close(client)
            await asyncio.sleep(LONGEST_PAUSE)
            if self._leaving:
                self._report("waiting for %s to answer", _counted(len(self._leaving)))
        if self._closed:
            logger.info("closed %s", _counted(self._closed))
        if self._cut_off:
            logger.warning(
                "cut off %s that did not answer within %g s",
                _counted(self._cut_off),
                self._close_timeout,
            )

    def grace(self) -> float:
        """Return the seconds that are left for filters, of `Limits.close_timeout` after the end."""
        return max(0.0, self._last_close + self._close_timeout - self._loop.time())

    def _close(self, client: Any) -> None:
        if not client.is_open:  # meanwhile a filter has closed it, or it has left
            return
        # Cut off below, where they are counted, and not by a timer a moment before.
        client.loseConnection(self._code, REASON, answer_within=self._close_timeout + 1)
        self._closed += 1
        self._last_close = self._loop.time()
        task = self._server.spawn(self._see_off(client))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _see_off(self, client: Any) -> None:
        try:
            async with asyncio.timeout(self._close_timeout):
                await client.wait_closed()
        except TimeoutError:
            self._cut_off += 1
            client.abortConnection()

    def _report(self, progress: str, *numbers: object) -> None:
        """Log `progress`, unless something was logged in the last second."""
        if self._loop.time() >= self._report_at:
            self._report_at = self._loop.time() + REPORT_INTERVAL
            logger.info(progress, *numbers)


def _counted(count: int) -> str:
    return "1 client" if count == 1 else f"{count} clients"
