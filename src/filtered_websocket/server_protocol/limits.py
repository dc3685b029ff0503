"""What one peer may cost the server, and what all of them together may."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bound what peers can do. Sizes are in bytes, times in seconds, rates per second."""

    message_size: int = 1024 * 1024
    """A longer message, after reassembly and inflating, closes the connection with 1009."""
    header_size: int = 8192
    """A longer handshake request is answered with 431."""
    handshake_timeout: float = 10.0
    """A handshake that takes longer is answered with 408."""
    close_timeout: float = 5.0
    """A peer that does not answer a close frame is cut off after this time."""
    queue_bytes: int = 1024 * 1024
    """What waits to be sent to a slow reader, beside what the transport holds: 64 KiB, one turn."""
    slow_client: str = "close"
    """What happens beyond `queue_bytes`: `close` (with 1013), `drop_oldest`, `drop_newest`."""
    backlog: int = 64
    """Messages that wait for an async filter before reading from their sender pauses.

    It also pauses when they have `message_size` bytes together.
    """
    rate: float = 0.0
    """Messages per second of one client; reading from one that sends more pauses. 0: any."""
    rate_burst: float = 0.0
    """Messages that may exceed `rate` at once; at least 1."""
    ping_interval: float = 20.0
    """How often each client gets a ping; 0: never."""
    ping_timeout: float = 20.0
    """A client from which nothing came for so long after a ping is closed with 1011."""
    connections: int | None = None
    """Further WebSocket connections are answered with 503."""
    connections_per_address: int | None = None
    """Further ones from one address are answered with 429; IPv6 counts by /64."""
    sockets: int | None = None
    """Beyond so many sockets, of any kind, one is answered with 503 unread."""

    @classmethod
    def of(cls, options: Namespace, *, sockets: int | None = None) -> Limits:
        """Return what the options of the server say."""
        return cls(
            message_size=options.max_message_size,
            header_size=options.max_header_size,
            handshake_timeout=options.handshake_timeout,
            queue_bytes=options.max_queue_bytes,
            slow_client=options.slow_client,
            rate=options.rate,
            rate_burst=options.rate_burst or options.rate,
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            connections=options.max_connections,
            connections_per_address=options.max_connections_per_ip or None,
            sockets=sockets,
        )
