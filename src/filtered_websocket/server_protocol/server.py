"""One connection on the wire: frames to messages, messages to frames, and closing.

`Protocol` is what the engine calls for an open connection. Its child in `..server` decides what a
message means; here is only what RFC 6455 asks for, and the bound on what a slow reader may cost.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from codecs import getincrementaldecoder
from collections import deque
from collections.abc import Callable
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface
from uuid import UUID, uuid4

from picows import WSListener, WSMsgType

from ..frames import is_utf8
from ..typing import Data, Message

if TYPE_CHECKING:
    from codecs import IncrementalDecoder

    from picows import WSFrame, WSTransport

__all__ = ["Limits", "Protocol"]

logger = logging.getLogger(__name__)

CONTINUATION = WSMsgType.CONTINUATION
TEXT = WSMsgType.TEXT
BINARY = WSMsgType.BINARY
PING = WSMsgType.PING
CLOSE = WSMsgType.CLOSE

# Close codes (RFC 6455 section 7.4.1)
NORMAL = 1000
PROTOCOL_ERROR = 1002
INVALID_TEXT = 1007
MESSAGE_TOO_BIG = 1009
TRY_AGAIN_LATER = 1013

MAX_REASON = 123  # bytes: a control frame holds 125, two of them the code

utf8_decoder = getincrementaldecoder("utf-8")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one peer may cost. Sizes are in bytes, times in seconds."""

    message_size: int = 1024 * 1024
    """A longer message, after reassembly, closes the connection with 1009."""
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
    """Messages that wait for an async filter before reading from their sender pauses."""


class Outlet(Interface):
    """What a connection needs of `users`: a way in, out, and for what it sends."""

    def check_thread(self) -> None: ...
    def enter(self, connection: Any) -> None: ...
    def leave(self, connection: Any) -> None: ...
    def send(self, connection: Any, msg: Data) -> None: ...


class Protocol(WSListener):
    """Speak WebSocket with one peer.

    `id` is a uuid4; `users` maps the ids of all open connections to the connections.
    """

    __slots__ = (
        "_cut_off",
        "_decoder",
        "_early",
        "_early_bytes",
        "_fragments",
        "_is_closing",
        "_may_open",
        "_told_closed",
        "_waiting",
        "_waiting_bytes",
        "id",
        "is_open",
        "limits",
        "raw_transport",
        "transport",
        "users",
        "write",
    )

    def __init__(self, users: Outlet, limits: Limits) -> None:
        self.id: UUID = uuid4()
        self.users = users
        self.limits = limits
        self.raw_transport: asyncio.Transport | None = None
        self.transport: WSTransport | None = None
        # How a flush reaches the socket: the transport's own `write` while the peer keeps up.
        self.write: Callable[[Any], None] = _discard
        self.is_open = False
        self._is_closing = False
        self._may_open = True
        self._told_closed = False
        self._early: list[Data] | None = None
        self._early_bytes = 0
        self._waiting: deque[bytes] | None = None
        self._waiting_bytes = 0
        self._fragments: Message | None = None
        self._decoder: IncrementalDecoder | None = None
        self._cut_off: asyncio.TimerHandle | None = None

    # What filters call

    def sendMessage(self, msg: Data) -> None:
        """Send a message; what is sent within one turn of the event loop leaves in one write.

        A `Message` keeps its type, `str` is text, plain bytes have the type of the message being
        handled, else text. Before the handshake is done the message waits for it. On a closed
        connection nothing is sent. Raises TypeError for anything else.
        """
        if self.is_open:
            self.users.send(self, msg)
            return
        self.users.check_thread()
        if not isinstance(msg, bytes | bytearray | str):
            raise TypeError(f"a message is bytes, bytearray or str, not {type(msg).__name__}")
        elif self._may_open:
            self._keep_early(msg)
        elif not self._told_closed:
            self._told_closed = True
            caller = sys._getframe(1)
            place = f"{caller.f_code.co_filename}, line {caller.f_lineno}"
            logger.warning("%s is closed: a message to it was dropped (%s)", self.id, place)

    def loseConnection(
        self, code: int = NORMAL, reason: str = "", *, answer_within: float | None = None
    ) -> None:
        """Close the connection after what was sent to it, with a close code (RFC 6455 section 7.4).

        The connection leaves `users`, and its disconnect chain runs before this returns, or when
        the one that runs already is done. A client that does not answer in time (seconds; by
        default `Limits.close_timeout`) is cut off. Raises ValueError for a code that no frame may
        carry or a reason of over 123 bytes, and RuntimeError outside of the event loop.
        """
        self.users.check_thread()
        if not _is_close_code(code) or len(reason.encode()) > MAX_REASON:
            raise ValueError(f"{code} {reason!r} cannot be sent as close code and reason")
        transport = self.transport
        if transport is None:
            if self.raw_transport is not None:
                self.raw_transport.close()
            return
        if self._is_closing:
            return
        self._is_closing = True
        self._leave()
        if not transport.underlying_transport.is_closing():
            self._send_all_waiting()
            transport.send_close(code, reason)  # type: ignore[arg-type]
            self._cut_off_after(
                self.limits.close_timeout if answer_within is None else answer_within
            )

    def abortConnection(self) -> None:
        """Cut the connection off at once: what was not sent yet is lost, the peer sees 1006."""
        self.users.check_thread()
        self._leave()
        if self.raw_transport is not None:
            self.raw_transport.abort()

    async def wait_closed(self) -> None:
        """Return when the socket of a connection that was opened is closed."""
        if self.transport is not None:
            await self.transport.wait_disconnected()

    # What the child class overrides

    def onConnect(self) -> None:
        """Handle that the connection is open."""

    def onMessage(self, msg: Message) -> None:
        """Handle one whole message."""

    def onDisconnect(self) -> None:
        """Handle that the connection is gone; called once, for connections that were open."""

    # The engine calls these

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.raw_transport = transport.underlying_transport
        self.write = self.raw_transport.write
        self.is_open = True
        self._may_open = False
        self.users.enter(self)
        early, self._early = self._early, None
        for msg in early or ():
            self.sendMessage(msg)
        self.onConnect()

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        opcode = frame.msg_type
        if not self.is_open or transport.is_close_frame_sent:
            if opcode == CLOSE:
                transport.disconnect()
        elif frame.rsv1 or frame.rsv2 or frame.rsv3:
            self._fail(PROTOCOL_ERROR, "reserved bit set")
        elif opcode == CLOSE:
            payload = frame.get_payload_as_bytes()
            code = int.from_bytes(payload[:2]) if payload else NORMAL
            self.loseConnection(code if _is_close_code(code) else PROTOCOL_ERROR)
            transport.disconnect()
        elif opcode == TEXT or opcode == BINARY:
            if self._fragments is not None:
                self._fail(PROTOCOL_ERROR, "a new message inside a fragmented one")
            elif not frame.fin:
                self._begin_fragments(frame)
            else:
                message = Message(frame.get_payload_as_bytes())
                if opcode == BINARY:
                    message.is_binary = True
                elif not is_utf8(message):
                    self._fail(INVALID_TEXT, "text that is not UTF-8")
                    return
                self.onMessage(message)
        elif opcode == CONTINUATION:
            self._on_continuation(frame)
        elif opcode == PING and self._waiting is None:
            # A peer that does not read gets no pongs: they would pile up without bound.
            transport.send_pong(frame.get_payload_as_bytes())

    def will_not_open(self) -> None:
        """Forget what waits for the connection to open: it was refused."""
        self._may_open = False
        self._early = None

    def engine_gives_up(self) -> None:
        """Write nothing more: the engine closes a connection that breaks the protocol."""
        if not self._is_closing:
            self._is_closing = True
            self.write = _discard
            asyncio.get_running_loop().call_soon(self._engine_gave_up)

    def _engine_gave_up(self) -> None:
        if self.raw_transport is not None:
            self._leave()
            self._cut_off_after(self.limits.close_timeout)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._leave()
        if self._cut_off is not None:
            self._cut_off.cancel()
        self._fragments = self._waiting = None
        self.write = _discard
        self.raw_transport = None

    def pause_writing(self) -> None:
        if self._waiting is None and not self._is_closing:
            self._waiting = deque()
            self._waiting_bytes = 0
            self.write = self._write_waiting

    def resume_writing(self) -> None:
        waiting, self._waiting = self._waiting, None
        if not self.is_open or waiting is None or self.transport is None or self.write is _discard:
            return
        self.write = self.transport.underlying_transport.write
        while waiting:
            self.write(waiting.popleft())
            if self._waiting is not None:  # The write filled the transport and paused us again.
                self._waiting.extend(waiting)
                self._waiting_bytes = sum(map(len, waiting))
                return

    # Messages in fragments (RFC 6455 section 5.4)

    def _begin_fragments(self, frame: WSFrame) -> None:
        self._fragments = Message()
        if frame.msg_type == BINARY:
            self._fragments.is_binary = True
        else:
            self._decoder = utf8_decoder()
        self._on_continuation(frame)

    def _on_continuation(self, frame: WSFrame) -> None:
        message = self._fragments
        if message is None:
            self._fail(PROTOCOL_ERROR, "a continuation of nothing")
            return
        payload = frame.get_payload_as_bytes()
        message += payload
        if len(message) > self.limits.message_size:
            self._fail(MESSAGE_TOO_BIG, f"over {self.limits.message_size} bytes")
            return
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, final=bool(frame.fin))
            except UnicodeDecodeError:
                self._fail(INVALID_TEXT, "text that is not UTF-8")
                return
        if frame.fin:
            self._fragments = self._decoder = None
            self.onMessage(message)

    # Closing (RFC 6455 section 7)

    def _fail(self, code: int, reason: str) -> None:
        logger.debug("%s closed with %d: %s", self.id, code, reason)
        self._fragments = self._decoder = None
        self.loseConnection(code, reason)

    def _cut_off_after(self, seconds: float) -> None:
        assert self.raw_transport is not None
        loop = asyncio.get_running_loop()
        self._cut_off = loop.call_later(seconds, self.raw_transport.abort)

    def _leave(self) -> None:
        if self.is_open:
            self.is_open = False
            self.users.leave(self)
            self.onDisconnect()

    # Slow readers: what the transport does not take waits here, up to a bound

    def _write_waiting(self, data: bytes) -> None:
        waiting, limits = self._waiting, self.limits
        assert waiting is not None
        waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes <= limits.queue_bytes:
            return
        if limits.slow_client == "close":
            self.write = _discard
            waiting.clear()
            # Not now: a flush is looping over the connections, and closing runs filters.
            asyncio.get_running_loop().call_soon(self.loseConnection, TRY_AGAIN_LATER, "too slow")
        elif limits.slow_client == "drop_newest":
            self._waiting_bytes -= len(waiting.pop())
        else:
            while self._waiting_bytes > limits.queue_bytes and len(waiting) > 1:
                self._waiting_bytes -= len(waiting.popleft())

    def _send_all_waiting(self) -> None:
        waiting, self._waiting = self._waiting, None
        self.write = _discard
        if waiting and self.transport is not None:
            self.transport.underlying_transport.writelines(waiting)

    def _keep_early(self, msg: Data) -> None:
        size = len(msg.encode()) if isinstance(msg, str) else len(msg)
        if self._early_bytes + size > self.limits.queue_bytes:
            raise BufferError(f"{self.id}: too much sent before the handshake")
        self._early_bytes += size
        self._early = self._early or []
        self._early.append(copy(msg))  # whoever sent it may go on changing it


def _is_close_code(code: int) -> bool:
    """Tell whether a close frame may carry `code`."""
    return code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000


def _discard(data: object) -> None:
    """Write to nowhere, for connections that are not open."""
