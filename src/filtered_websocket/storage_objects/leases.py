"""Which servers of a cluster are alive, and which memberships each of them holds.

Each server holds a lease, a key that vanishes when it is not renewed, and lists its memberships
under its own name. What a server without a lease has listed is removed by the others.

What belongs here: leases and lists. What does not: the sets themselves (`redis`).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from contextlib import suppress
from typing import Any, cast
from uuid import UUID

from .values import decode_value, encode_value

__all__ = ["Leases", "Membership"]

Membership = tuple[Hashable, Hashable]
"""A key, and the id of a connection that is in its set."""

LEASE_SHARE = 2 / 3  # of the time after which a dead server's memberships are gone
BEAT_SHARE = 1 / 5  # of it, between two renewals; what is left is for noticing and removing


class Leases:
    """Keep the lease of one server, and look after those of the others.

    All methods wait for Redis, and raise what the redis client raises.
    """

    def __init__(self, client: Any, prefix: str, server: UUID, seconds: float) -> None:
        self.beat = seconds * BEAT_SHARE
        self._client = client
        self._prefix = prefix
        self._server = server
        self._lifetime = int(seconds * 1000 * LEASE_SHARE)  # milliseconds

    async def sign_on(self) -> None:
        """Take the lease."""
        await self._client.set(self._lease(self._server), b"1", px=self._lifetime)
        await self._client.sadd(self._servers, self._server.hex)

    async def renew(self) -> bool:
        """Renew the lease; return False when it had run out, and was taken anew."""
        lease = self._lease(self._server)
        if await self._client.set(lease, b"1", px=self._lifetime, xx=True):
            return True
        await self.sign_on()
        return False

    async def sign_off(self, server: UUID) -> None:
        """Forget a server: its lease, its list and its name."""
        for key in (self._lease(server), self._list(server)):
            await self._client.delete(key)
        await self._client.srem(self._servers, server.hex)

    async def dead(self) -> list[UUID]:
        """Return the servers without a lease that nobody else is removing."""
        found = []
        for name in await self._client.smembers(self._servers):
            with suppress(ValueError):
                server = UUID(hex=name.decode())
                if server != self._server and not await self._client.exists(self._lease(server)):
                    found.append(server)
        reaper = self._server.hex
        return [
            server
            for server in found
            if await self._client.set(self._reaper(server), reaper, px=self._lifetime, nx=True)
        ]

    async def listed(self, server: UUID) -> set[Membership]:
        """Return the memberships that a server has listed."""
        memberships = set()
        for pair in await self._client.smembers(self._list(server)):
            with suppress(ValueError, TypeError):
                key, value = cast(Membership, decode_value(pair))
                memberships.add((key, value))
        return memberships

    async def enlist(self, memberships: Collection[Membership]) -> None:
        """List memberships of this server; before they are written, so that none escapes."""
        if memberships:
            await self._client.sadd(self._list(self._server), *map(encode_value, memberships))

    async def strike(self, memberships: Collection[Membership]) -> None:
        """Take memberships of this server off the list; after they were removed."""
        if memberships:
            await self._client.srem(self._list(self._server), *map(encode_value, memberships))

    @property
    def _servers(self) -> str:
        return self._prefix + "servers"

    def _lease(self, server: UUID) -> str:
        return f"{self._prefix}lease:{server.hex}"

    def _list(self, server: UUID) -> str:
        return f"{self._prefix}members:{server.hex}"

    def _reaper(self, server: UUID) -> str:
        return f"{self._prefix}reaper:{server.hex}"
