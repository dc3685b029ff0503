"""Pings, and the end of connections from which nothing comes any more (RFC 6455 section 5.5.2).

One timer serves all connections. Each tick looks at the next few of them, so that thousands that
have come in the same second are not pinged in the same turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from itertools import islice
from time import perf_counter
from typing import Protocol as Interface
from uuid import UUID

from ..counters import Histogram
from ..frames import PING, encode_control

__all__ = ["Keepalive", "Peer"]

TICKS = 20  # in an interval
SHORTEST_TICK = 0.01  # seconds
PING_FRAME = encode_control(PING)
ROUND_TRIPS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
GONE = 1011  # close code (RFC 6455 section 7.4.1)


class Peer(Interface):
    """What a sweep needs of a connection."""

    was_heard: bool

    @property
    def is_held(self) -> bool: ...
    def ping(self, frame: bytes) -> None: ...
    def end(self, code: int, reason: str) -> None: ...


class Keepalive:
    """Ping each of `peers` once in `interval`; close it when nothing comes for `timeout`.

    Both in seconds. Anything that comes counts as an answer: whoever uploads a long message over a
    slow line has no room for pongs.
    """

    def __init__(self, peers: Mapping[UUID, Peer], interval: float, timeout: float) -> None:
        self._peers = peers
        self._timeout = timeout
        self._tick = max(interval / TICKS, SHORTEST_TICK)
        self._ticks = max(round(interval / self._tick), 1)
        self._left = 0
        self._share = 0
        self._round: Iterable[UUID] = iter(())
        # The next one first, and with it when the ping was sent.
        self._deadlines: dict[UUID, tuple[float, float]] = {}
        self.round_trips = Histogram(ROUND_TRIPS)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin; `stop` ends it."""
        self._timer = asyncio.get_running_loop().call_later(self._tick, self._sweep)

    def stop(self) -> None:
        """Ping nobody any more."""
        if self._timer is not None:
            self._timer.cancel()

    def answered(self, id: UUID) -> None:
        """Measure how long a pong took; call it for each that comes, asked for or not."""
        _, pinged_at = self._deadlines.pop(id, (0.0, 0.0))
        if pinged_at:
            self.round_trips.observe(perf_counter() - pinged_at)

    def forget(self, id: UUID) -> None:
        """Wait no more for a peer that has gone."""
        self._deadlines.pop(id, None)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._tick, self._sweep)
        self._close_silent(loop.time())
        if not self._left:
            ids = list(self._peers)
            self._round, self._left = iter(ids), self._ticks
            self._share = -(-len(ids) // self._ticks)
        self._left -= 1
        deadline = loop.time() + self._timeout
        for id in islice(self._round, self._share):
            peer = self._peers.get(id)
            if peer is None:
                continue
            peer.ping(PING_FRAME)
            if peer.was_heard:  # else the deadline of an earlier ping counts
                peer.was_heard = False
                self._deadlines.pop(id, None)
                self._deadlines[id] = deadline, perf_counter()

    def _close_silent(self, now: float) -> None:
        while self._deadlines:
            id, (deadline, pinged_at) = next(iter(self._deadlines.items()))
            if deadline > now:
                break
            del self._deadlines[id]
            peer = self._peers.get(id)
            if peer is None or peer.was_heard:
                continue
            if peer.is_held:  # The server itself does not read from it: nothing can be heard.
                self._deadlines[id] = now + self._timeout, pinged_at
            else:
                peer.end(GONE, "no answer to a ping")
