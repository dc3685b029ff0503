"""What the servers of one cluster tell each other over Redis: on which channels, as which bytes.

What belongs here: names, encoding, and refusing what is malformed. What does not: sending (`redis`)
and hearing (`subscribers.redis`).
"""

from __future__ import annotations

import json
from collections.abc import Hashable
from struct import Struct
from typing import NamedTuple
from uuid import UUID

from .replica import Change
from .values import decode_value, encode_value

__all__ = [
    "Broadcast",
    "Channels",
    "EnvelopeError",
    "decode_broadcast",
    "decode_change",
    "encode_broadcast",
    "encode_change",
]

_head = Struct("!4s16sQ?")
MAGIC = b"fws1"


class Channels:
    """Name the channels of the servers that share `prefix`."""

    def __init__(self, prefix: str) -> None:
        self.internal = f"{prefix}:cluster:"
        self.changes = self.internal + "changes"
        self.all = self.internal + "all"
        self._group = self.internal + "group:"

    def of_group(self, group: Hashable) -> str:
        """Return the channel of what is broadcast to the members of a group."""
        return self._group + encode_value(group).decode()

    def group_of(self, channel: str) -> Hashable:
        """Return the group of such a channel."""
        return decode_value(channel.removeprefix(self._group).encode())


class EnvelopeError(ValueError):
    """Report bytes that no server of ours has sent."""


class Broadcast(NamedTuple):
    """A message for the clients of all servers; `number` counts the broadcasts of one server."""

    server: UUID
    number: int
    is_binary: bool
    payload: bytes


def encode_broadcast(broadcast: Broadcast) -> bytes:
    """Return a broadcast as bytes, its payload untouched at the end."""
    head = _head.pack(MAGIC, broadcast.server.bytes, broadcast.number, broadcast.is_binary)
    return head + broadcast.payload


def decode_broadcast(data: bytes) -> Broadcast:
    """Return the broadcast that `data` is. Raises EnvelopeError."""
    if len(data) < _head.size or not data.startswith(MAGIC):
        raise EnvelopeError(f"not a broadcast: {data[:40]!r}")
    _, server, number, is_binary = _head.unpack_from(data)
    return Broadcast(UUID(bytes=server), number, is_binary, data[_head.size :])


def encode_change(change: Change) -> bytes:
    """Return a change as JSON."""
    key, value = encode_value(change.key).decode(), encode_value(change.value).decode()
    return json.dumps([change.server.hex, change.number, key, value, change.present]).encode()


def decode_change(data: bytes) -> Change:
    """Return the change that `data` is. Raises EnvelopeError."""
    try:
        server, number, key, value, present = json.loads(data)
        return Change(
            UUID(hex=server),
            int(number),
            decode_value(key.encode()),
            decode_value(value.encode()),
            bool(present),
        )
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise EnvelopeError(f"not a change: {data[:40]!r}") from error
