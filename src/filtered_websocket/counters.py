"""What a server counts whether somebody looks or not: plain integers, bumped where it happens.

What belongs here: counts that several modules share, and histograms. What does not: how they are
shown (`operation.metrics`), and what costs something to count (`filters.metered`).
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

__all__ = ["CODES_OF_THEIR_OWN", "LOST", "NO_CODE", "Counters", "Histogram"]

# Close codes that no frame carries (RFC 6455 section 7.1.5): it had none, there was none.
NO_CODE = 1005
LOST = 1006
CODES_OF_THEIR_OWN = 3000  # close codes from here on anybody can make up


class Counters:
    """Count what happens to the connections of one server; nothing resets it."""

    __slots__ = (
        "abandoned",
        "backlog",
        "closes",
        "connecting",
        "connections",
        "delivered",
        "delivered_bytes",
        "dropped_closed",
        "dropped_slow",
        "given_up",
        "pages",
        "rate_delays",
        "received",
        "received_bytes",
        "refusals",
        "sockets",
    )

    def __init__(self) -> None:
        self.connecting = 0  # accepted sockets that are in their TLS handshake now
        self.sockets = 0  # open now, handshakes and connections that are closing included
        self.abandoned = 0  # handshakes whose client went away before they were decided
        self.refusals: Counter[tuple[int, str]] = Counter()  # handshakes, by status and reason
        self.pages = 0  # HTTP requests that asked for no WebSocket
        self.connections = 0  # opened
        self.closes: Counter[tuple[int, str]] = Counter()  # of these, by code and by whom
        self.received = self.received_bytes = 0  # messages, where filters are metered
        self.backlog = 0  # messages that wait now, behind an async filter or for `Limits.rate`
        self.given_up = 0  # messages that still waited when the server stopped
        self.delivered = 0  # messages that were given to sockets, once for each receiver
        self.delivered_bytes = 0  # of these, as frames
        self.dropped_slow = 0  # messages that a slow client did not get
        self.dropped_closed = 0  # messages whose socket closed before they were given to it
        self.rate_delays = 0  # messages that came faster than `Limits.rate`

    def closed(self, code: int, by: str) -> None:
        """Count that an open connection ends, with a close code; `by` is `client` or `server`.

        Codes that clients make up count as 3000 or 4000.
        """
        if by == "client" and code >= CODES_OF_THEIR_OWN:
            code -= code % 1000
        self.closes[code, by] += 1


class Histogram:
    """Count seconds by how long they are."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        """Count up to and including each of `bounds`, in seconds, and what is beyond."""
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.sum += seconds

    @property
    def count(self) -> int:
        """How many were counted."""
        return sum(self.counts)
