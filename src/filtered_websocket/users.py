"""Who is connected, and how what is sent to them leaves.

A `send()` costs the kernel a hundred times what one more frame in the same `send()` does. So
nothing is written at once. All frames of one turn of the event loop are collected, each encoded
once, and a flush at the end of the turn writes to each connection one time. What everybody gets is
one shared list, joined once and handed to all as the same bytes. A connection that gets less (it
sent one of the messages) or more (a message for it alone, or for its group) has an entry in
`_apart`: the places where its stream leaves the shared one.

Connections that have agreed on compression share a stream of their own, one for each window, so
that a broadcast is compressed once.

What belongs here: who gets which frames, in what order. What does not: bounding the unsent bytes of
a slow connection, which is the business of its `write` (`server_protocol.outbox`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import accumulate
from threading import get_ident
from typing import TYPE_CHECKING, Any, Generic, TypeVar
from uuid import UUID

if TYPE_CHECKING:
    from _collections_abc import dict_items, dict_keys, dict_values

from .counters import Counters
from .frames import (
    deflate_frame,
    encode_frame,
    is_binary_frame,
    is_control_frame,
    measure_messages,
)
from .typing import BroadcastTarget, Data, Message

__all__ = ["Users"]

Relay = Callable[[bytes, bool, Hashable], None]
"""Takes payload, type (is it binary?) and group of a broadcast to the other servers."""

Connection = TypeVar("Connection", bound=BroadcastTarget)

Entry = tuple[int, bytes | None]
"""At this index of the shared frames: a frame of one's own before it, or (None) leave it out."""

Apart = dict[BroadcastTarget, list[Entry]]
Streams = dict[int, "_Stream"]

NO_ENTRY: Entry = (0, None)
NOTHING = object()
ENTRY_SIZE = 8  # bytes that an entry takes whose frame others get too


class Users(dict[UUID, Connection], Generic[Connection]):
    """Map the id of each open connection to the connection.

    `items`, `keys` and `values` are views of a copy: a filter may close connections, or wait, while
    it loops over them. (`for id in users` is a loop over the dict itself.)
    """

    __slots__ = (
        "_apart",
        "_call_soon",
        "_control_bytes",
        "_excess",
        "_entry",
        "_fit",
        "_forget",
        "_here_only",
        "_length",
        "_members",
        "_relay",
        "_shared",
        "_size",
        "_thread",
        "_turn_bytes",
        "_windows",
        "counters",
        "encode",
        "offered",
    )

    def __init__(
        self,
        call_soon: Callable[[Callable[[], None]], object],
        *,
        turn_bytes: int = 256 * 1024,
        compress_from: int = 0,
        is_binary: Callable[[], bool] = bool,
        members: Callable[[Hashable], Iterable[UUID]] = lambda group: (),
        relay: Relay | None = None,
        here_only: Callable[[], bool] = bool,
        counters: Counters | None = None,
    ) -> None:
        """Flush through `call_soon`; before that when a turn has collected `turn_bytes`.

        Messages of `compress_from` bytes or more are compressed for the connections that have
        agreed to it. `is_binary` tells the type that plain bytes are sent with, `members` who of a
        group is connected here. `relay` takes broadcasts to the clients of other servers, unless
        `here_only` says that each server broadcasts this one itself.
        """
        super().__init__()
        self._call_soon = call_soon
        self._turn_bytes = turn_bytes
        encoder = _Encoder(compress_from, is_binary, self.check_thread)
        self.encode = encoder.encode
        self._fit = encoder.fit
        self._forget = encoder.forget
        self._members = members
        self._relay = relay
        self._here_only = here_only
        self._windows: Counter[int] = Counter()  # how many connections have which `window_bits`
        self._shared: dict[int, list[bytes]] = {}  # by window, each message once in each list
        self._length = 0  # of each list
        self._apart: Apart = {}
        self._entry = NO_ENTRY  # the last one of `send_frame`
        self._size = 0
        self._excess = 0  # how many entries are more than messages: a `None` by two
        self._control_bytes = 0  # of this turn
        self._thread = get_ident()
        self.counters = counters or Counters()
        self.offered = 0  # messages, counted once for each connection that one is for

    def broadcast(
        self,
        msg: Data,
        skip: UUID | None = None,
        to: Iterable[UUID] | None = None,
        group: Hashable = None,
    ) -> None:
        """Send `msg` to every open connection, or to the members of `group`, except `skip`.

        `skip` is the id of a connection. `group` is a key of the storage object, whose set has the
        ids of the members. With a storage that several servers share, the clients of all servers
        get it; in the consumer chain those of this one, since each server has a consumer chain.
        `to` names ids of connections of this server instead.

        Returns at once and never waits for a slow client. A `Message` keeps its type, `str` is
        text, plain bytes have the type of the message being handled, else text. Raises TypeError
        for anything else, and RuntimeError outside of the event loop.
        """
        frame = self.encode(msg)
        self._collect(frame, skip, to if group is None else self._members(group) or ())
        if self._relay is not None and to is None and not self._here_only():
            payload = msg.encode() if isinstance(msg, str) else bytes(msg)
            self._relay(payload, is_binary_frame(frame), group)

    def deliver(self, msg: Message, group: Hashable = None) -> None:
        """Send a broadcast of another server to the clients of this one."""
        self.check_thread()
        members = None if group is None else self._members(group) or ()
        self._collect(encode_frame(msg, msg.is_binary), None, members)

    def _collect(self, frame: bytes, skip: UUID | None, to: Iterable[UUID] | None) -> None:
        sender = None if skip is None else self.get(skip)
        size = len(frame)
        if to is not None:
            found = [self.get(id) for id in to]
            receivers = [c for c in found if c is not None and c is not sender]
            entries: dict[int, Entry] = {}
            for connection in receivers:
                window = connection.window_bits
                if window not in entries:
                    entries[window] = (self._length, self._fit(frame, window))
                self._apart.setdefault(connection, []).append(entries[window])
            size += ENTRY_SIZE * len(receivers)
            self.offered += len(receivers)
        else:
            self.offered += len(self) - (sender is not None)
            if sender is not None:
                self._apart.setdefault(sender, []).append((self._length, None))
                self._excess += 2
            for window, frames in self._shared.items():
                frames.append(self._fit(frame, window))
            self._length += 1
        if not self._size:
            self._call_soon(self.flush)
        self._size += size
        if self._size >= self._turn_bytes:
            self.flush()

    def send_frame(self, connection: BroadcastTarget, frame: bytes) -> None:
        """Send a frame of `encode` to one open connection, in order with what is broadcast."""
        self.offered += 1
        entries, entry = self._apart.setdefault(connection, []), self._entry
        if entry[1] is not frame or entry[0] != self._length:
            entry = self._entry = (self._length, frame)
            size = len(frame)
        elif entries and entries[-1] is entry:
            size = len(frame)
        else:  # Many get the same, from a filter that loops over them: each holds a reference.
            size = ENTRY_SIZE
        entries.append(entry)
        if not self._size:
            self._call_soon(self.flush)
        self._size += size
        if self._size >= self._turn_bytes:
            self.flush()

    def send_control(self, connection: BroadcastTarget, frame: bytes) -> None:
        """Send a control frame as `send_frame` does; it does not count as a message."""
        self.offered -= 1  # `send_frame` adds one
        self._excess += 1
        self._control_bytes += len(frame)
        self.send_frame(connection, frame)

    def flush(self) -> None:
        """Write to each connection what this turn has collected for it."""
        if not self._size:
            return
        apart, shared = self._apart, self._length
        messages, size = self.waiting(), -self._control_bytes
        streams = {window: _Stream(frames) for window, frames in self._shared.items()}
        self._shared = {window: [] for window in self._windows}
        self._length, self._apart, self._entry, self._size = 0, {}, NO_ENTRY, 0
        self._excess = self._control_bytes = 0
        self._forget()
        size += self._write_shared(streams, apart) if shared else self._write_apart(streams, apart)
        self.counters.delivered += messages
        self.counters.delivered_bytes += size

    def _write_shared(self, streams: Streams, apart: Apart) -> int:
        """Write to everybody; return how many bytes that were."""
        size = 0
        for connection in list(super().values()):
            stream, entries = streams[connection.window_bits], apart.get(connection)
            if entries is None:
                data = stream.joined
            else:
                data = stream.changed_by(entries)
                size += len(data)
                if not data:
                    continue
            write = connection.write  # calling it as a method takes longer: it is an attribute
            try:
                write(data)
            except RuntimeError:  # Its socket has failed in this turn; the loop has yet to tell.
                self._lost(data)
        for window, count in self._takers(apart).items():
            size += count * len(streams[window].joined)
        return size

    def _write_apart(self, streams: Streams, apart: Apart) -> int:
        """Do as `_write_shared` in a turn with messages for single connections and groups only."""
        size = 0
        for connection, entries in apart.items():
            if len(entries) == 1:
                data = entries[0][1] or b""
            else:
                data = streams[connection.window_bits].changed_by(entries)
            size += len(data)
            write = connection.write
            try:
                write(data)
            except RuntimeError:
                self._lost(data)
        return size

    def _takers(self, apart: Apart) -> Mapping[int, int]:
        """Return how many connections with each window take the shared stream as it is."""
        if len(self._windows) == 1:
            return {next(iter(self._windows)): len(self) - len(apart)}
        return self._windows - Counter(connection.window_bits for connection in apart)

    def _lost(self, data: bytes) -> None:
        """Take what could not be written out of what was delivered."""
        messages, size = measure_messages(data)
        self.counters.delivered -= messages
        self.counters.delivered_bytes -= size
        self.counters.dropped_closed += messages

    def enter(self, connection: Connection) -> None:
        """Take in a connection that has just opened; it gets nothing that was sent before."""
        self.flush()
        super().__setitem__(connection.id, connection)
        self._windows[connection.window_bits] += 1
        self._shared.setdefault(connection.window_bits, [])

    def leave(self, connection: BroadcastTarget) -> None:
        """Let a connection go, after writing to it what was sent to it before."""
        if connection.id not in self:
            return
        super().__delitem__(connection.id)
        window = connection.window_bits
        if self._size:
            entries = self._apart.pop(connection, [])
            data = _Stream(self._shared[window]).changed_by(entries)
            controls = [f for _, f in entries if f is not None and is_control_frame(f)]
            excess = len(controls) + 2 * sum(frame is None for _, frame in entries)
            self._excess -= excess
            self._control_bytes -= sum(map(len, controls))
            if data:
                self.counters.delivered += self._length + len(entries) - excess
                self.counters.delivered_bytes += len(data) - sum(map(len, controls))
                try:
                    connection.write(data)
                except RuntimeError:  # as in flush
                    self._lost(data)
        self._windows[window] -= 1
        if not self._windows[window]:
            del self._windows[window], self._shared[window]

    def waiting(self) -> int:
        """Return how many messages this turn has collected, counted once for each receiver."""
        entries = sum(map(len, self._apart.values()))
        return self._length * len(self) + entries - self._excess

    def check_thread(self) -> None:
        """Raise RuntimeError outside of the thread of the event loop."""
        if get_ident() != self._thread:
            raise RuntimeError("this is for the event loop; from another thread, use queue.put")

    def _read_only(self, *args: object, **kwargs: object) -> Any:
        raise TypeError("users is not for changing: connections come and go by themselves")

    __setitem__ = __delitem__ = clear = pop = popitem = setdefault = update = _read_only
    __ior__ = _read_only

    def items(self) -> dict_items[UUID, Connection]:
        """Return id and connection of each, as they are now."""
        return self.copy().items()

    def keys(self) -> dict_keys[UUID, Any]:
        """Return the ids, as they are now."""
        return self.copy().keys()

    def values(self) -> dict_values[UUID, Connection]:
        """Return the connections, as they are now."""
        return self.copy().values()


class _Encoder:
    """Make frames of messages; of the same message again and again, one.

    A filter that loops over the connections sends the same to each, and so they share the bytes.
    """

    __slots__ = (
        "_check_thread",
        "_compress_from",
        "_fitted",
        "_frame",
        "_handling_binary",
        "_is_binary",
        "_msg",
        "_thread",
    )

    def __init__(
        self,
        compress_from: int,
        handling_binary: Callable[[], bool],
        check_thread: Callable[[], None],
    ) -> None:
        self._compress_from = len(encode_frame(bytes(compress_from), is_binary=True))
        self._handling_binary = handling_binary
        self._check_thread = check_thread
        self._thread = get_ident()
        self._msg: object = NOTHING
        self._is_binary = False
        self._frame = b""
        self._fitted: dict[int, bytes] = {}  # `_frame`, by window

    def encode(self, msg: Data, window: int = 0) -> bytes:
        """Return the frame of `msg`, as connections with this window get it."""
        if get_ident() != self._thread:
            self._check_thread()
        is_binary = msg.is_binary if isinstance(msg, Message) else self._handling_binary()
        kind = type(msg)
        if kind is type(self._msg) and msg == self._msg and is_binary == self._is_binary:
            return self.fit(self._frame, window) if window else self._frame
        frame = encode_frame(msg, is_binary)
        if frame == self._frame:
            frame = self._frame
        elif self._fitted:
            self._fitted = {}
        # Of another type it may change, or be equal to what it is not.
        self._msg = msg if kind is bytes or kind is str else NOTHING
        self._is_binary, self._frame = is_binary, frame
        return self.fit(frame, window) if window else frame

    def forget(self) -> None:
        """Keep nothing of the last message."""
        self._msg, self._frame = NOTHING, b""
        if self._fitted:
            self._fitted = {}

    def fit(self, frame: bytes, window: int) -> bytes:
        """Return a frame as connections with this window get it; 0 is for those without one."""
        if not window or len(frame) < self._compress_from:
            return frame
        if frame is not self._frame:
            return deflate_frame(frame, window)
        fitted = self._fitted.get(window)
        if fitted is None:
            fitted = self._fitted[window] = deflate_frame(frame, window)
        return fitted


class _Stream:
    """What all connections with the same window share of one turn."""

    __slots__ = ("_changed", "_entries", "_offsets", "joined")

    def __init__(self, frames: list[bytes]) -> None:
        self.joined = frames[0] if len(frames) == 1 else b"".join(frames)
        self._offsets = list(accumulate(map(len, frames), initial=0))
        self._entries: list[Entry] = []  # what `changed_by` was called with the last time
        self._changed = self.joined

    def changed_by(self, entries: list[Entry]) -> bytes:
        """Return the stream of a connection that leaves the shared one at `entries`."""
        if entries != self._entries:  # Those of a group mostly come one after the other.
            self._entries, self._changed = entries, self._join(entries)
        return self._changed

    def _join(self, entries: list[Entry]) -> bytes:
        if len(self._offsets) == 1:  # There is no shared one, and so nothing to leave out of it.
            return b"".join([frame for _, frame in entries if frame is not None])
        joined, offsets = memoryview(self.joined), self._offsets
        parts: list[bytes | memoryview] = []
        start = 0
        for index, frame in entries:
            if index > start:
                parts.append(joined[offsets[start] : offsets[index]])
                start = index
            if frame is None:
                start = index + 1
            else:
                parts.append(frame)
        if start < len(offsets) - 1:
            parts.append(joined[offsets[start] :])
        # Joined even where it is one part: a slow connection may keep it, a slice keeps the whole.
        return b"".join(parts)
