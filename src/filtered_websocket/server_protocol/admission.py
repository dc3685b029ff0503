"""How many connections there may be, in all and from one address.

What belongs here: counting. What does not: which address a client has (`forwarded`).
"""

from __future__ import annotations

from ipaddress import IPv4Address

from ..addresses import parse_address
from .exception import ProtocolError

__all__ = ["RETRY", "Admission"]

RETRY = {"Retry-After": "10"}  # seconds


class Admission:
    """Count connections, and refuse those beyond the limits; None is no limit.

    Addresses count by what one client has of them: of IPv6, by /64.
    """

    def __init__(self, connections: int | None, per_address: int | None) -> None:
        self.count = 0
        self.count_by_address: dict[bytes, int] = {}
        self._connections = connections
        self._per_address = per_address

    def enter(self, address: str) -> None:
        """Count a connection from `address`, which may be "", a Unix socket: that has no limit.

        Raises ProtocolError with 429 or 503, and counts nothing, when there are too many.
        """
        key = self._key(address)
        here = self.count_by_address.get(key, 0) if key else 0
        # This one first: that others leave would not help the client.
        if self._per_address is not None and here >= self._per_address:
            raise ProtocolError("too many connections from this address", 429, kind="per_address")
        if self._connections is not None and self.count >= self._connections:
            raise ProtocolError(
                "the server has all the connections it can take", 503, RETRY, kind="too_many"
            )
        self.count += 1
        if key:
            self.count_by_address[key] = here + 1

    def leave(self, address: str) -> None:
        """Forget one connection that has entered from `address`."""
        self.count -= 1
        key = self._key(address)
        if key:
            self.count_by_address[key] -= 1
            if not self.count_by_address[key]:
                del self.count_by_address[key]

    def _key(self, address: str) -> bytes:
        """Return what `address` is counted by, empty when it is not."""
        if self._per_address is None or not address:
            return b""
        parsed = parse_address(address)
        return parsed.packed if isinstance(parsed, IPv4Address) else parsed.packed[:8]
