"""One connection on the wire: frames to messages, messages to frames, and closing.

The event loop gives a `Protocol` what it reads once the handshake is done. Its child in `..server`
decides what a message means; here is only what RFC 6455 asks for, and the bounds on what a peer may
cost: its share of each turn, its longest message, what waits when it reads slowly.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from contextlib import suppress
from copy import copy
from time import perf_counter
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface
from uuid import UUID, uuid4

from picows import WSMsgType

from ..counters import LOST, NO_CODE, Counters
from ..frames import encode_close, encode_pong, is_utf8
from ..typing import Data, Message
from .exception import (
    INVALID_TEXT,
    NORMAL,
    PROTOCOL_ERROR,
    TRY_AGAIN_LATER,
    WireError,
)
from .fragments import Fragments
from .limits import Limits
from .outbox import Outbox
from .parser import ParserPool
from .turns import SLICE, Turns

if TYPE_CHECKING:
    from picows import WSFrame, WSTransport

    from .parser import FrameParser

__all__ = ["Outlet", "Protocol", "end_writing", "resume_reading"]

logger = logging.getLogger(__name__)

CONTINUATION = WSMsgType.CONTINUATION
TEXT = WSMsgType.TEXT
BINARY = WSMsgType.BINARY
PING = WSMsgType.PING
PONG = WSMsgType.PONG
CLOSE = WSMsgType.CLOSE

MAX_REASON = 123  # bytes: a control frame holds 125, two of them the code

# All connections read into the same bytes, which are emptied before anything else is read.
READ_SIZE = 64 * 1024  # bytes
_read_buffer = memoryview(bytearray(READ_SIZE))
PIECE = 3072  # bytes of a read that are handled before the time is looked at


class Outlet(Interface):
    """What a connection needs of `users`: a way in, out, and for what it sends."""

    @property
    def counters(self) -> Counters: ...
    def check_thread(self) -> None: ...
    def enter(self, connection: Any) -> None: ...
    def leave(self, connection: Any) -> None: ...
    def encode(self, msg: Data, window: int, /) -> bytes: ...
    def send_frame(self, connection: Any, frame: bytes) -> None: ...
    def send_control(self, connection: Any, frame: bytes) -> None: ...


class Protocol(Outbox):
    """Speak WebSocket with one peer.

    `id` is a uuid4; `users` maps the ids of all open connections to the connections. `transport` is
    the socket's, None when it is closed.
    """

    __slots__ = (
        "_cut_off",
        "_early",
        "_early_bytes",
        "_fragments",
        "_gone",
        "_holds",
        "_is_closing",
        "_is_deaf",
        "_may_open",
        "_parser",
        "_parsers",
        "_told_closed",
        "_turns",
        "_unread",
        "id",
        "is_open",
        "users",
        "was_heard",
        "window_bits",
    )

    def __init__(self, users: Outlet, limits: Limits, parsers: ParserPool, turns: Turns) -> None:
        super().__init__(limits)
        self.id: UUID = uuid4()
        """The id of this connection, a random UUID (RFC 9562 section 5.4)."""
        self.users = users
        self.is_open = False
        """Whether it is open: from the end of the handshake until one side closes it."""
        self.was_heard = True
        self.window_bits = 0
        self._is_closing = False
        self._is_deaf = False
        self._may_open = True
        self._told_closed = False
        self._early: list[Data] | None = None
        self._early_bytes = 0
        self._parsers = parsers
        self._turns = turns
        self._unread = b""
        self._parser: FrameParser | None = None
        self._holds = 0
        self._fragments: Fragments | None = None
        self._cut_off: asyncio.TimerHandle | None = None
        self._gone: asyncio.Future[None] | None = None

    @property
    def counters(self) -> Counters:
        """What the server counts."""
        return self.users.counters

    # What filters call

    def sendMessage(self, msg: Data) -> None:
        """Send a message; what is sent within one turn of the event loop leaves in one write.

        A `Message` keeps its type, `str` is text, plain bytes have the type of the message being
        handled, else text. Before the handshake is done the message waits for it. On a closed
        connection nothing is sent, and the log says so once. Raises TypeError for anything else,
        RuntimeError outside of the event loop, and BufferError when over `--max_queue_bytes` wait
        for the handshake.
        """
        if self.is_open:
            users = self.users
            users.send_frame(self, users.encode(msg, self.window_bits))
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
            logger.warning(
                "the connection is closed: a message to it was dropped (%s)",
                place,
                extra={"connection": self, "cause": ("dropped", place)},
            )

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
        self._close(code, reason, (code, "server"), answer_within)

    def _close(
        self, code: int, reason: str, cause: tuple[int, str], answer_within: float | None = None
    ) -> None:
        """Close the connection; `cause` is what counts as the code, and who began."""
        if self._is_closing or self.transport is None:
            return
        if not self.is_open:  # not yet, or never: it was refused
            self.transport.close()
            return
        self._is_closing = True
        self._leave(*cause)
        if self.transport.is_closing():
            self.forget_waiting()
        else:
            self.send_all_waiting()
            self.transport.write(encode_close(code, reason))
            self._cut_off_after(
                self.limits.close_timeout if answer_within is None else answer_within
            )

    def abortConnection(self) -> None:
        """Cut the connection off at once: what was not sent yet is lost, the peer sees 1006.

        Its disconnect chain runs as with `loseConnection`. Raises RuntimeError outside of the event
        loop.
        """
        self.users.check_thread()
        self.forget_waiting()
        self._leave(LOST, "server")
        if self.transport is not None:
            self.transport.abort()

    async def wait_closed(self) -> None:
        """Return when the socket of a connection that was opened is closed."""
        if self.transport is not None:
            self._gone = self._gone or asyncio.get_running_loop().create_future()
            await self._gone

    # What the child class overrides

    def onConnect(self) -> None:
        """Handle that the connection is open."""

    def onMessage(self, msg: Message) -> None:
        """Handle one whole message."""

    def onPong(self) -> None:
        """Handle that a pong came, asked for or not."""

    def onDisconnect(self) -> None:
        """Handle that the connection is gone; called once, for connections that were open."""

    # From the handshake to the end

    def open(self, transport: asyncio.Transport) -> None:
        """Begin to speak WebSocket; what comes from `transport` from now on are frames."""
        self.transport = transport
        self.write = transport.write
        self.is_open = True
        self._may_open = False
        if logger.isEnabledFor(
            logging.DEBUG
        ):  # a handshake is too short for a line that nobody sees
            logger.debug("open", extra={"connection": self})
        self.counters.connections += 1
        self.users.enter(self)
        early, self._early = self._early, None
        for msg in early or ():
            self.sendMessage(msg)
        self.onConnect()

    def will_not_open(self) -> None:
        """Forget what waits for the connection to open: it was refused."""
        self._may_open = False
        self._early = None

    def connection_lost(self, exc: Exception | None) -> None:
        self.forget_waiting()
        self._leave(LOST, "client")
        self.lose_transport()
        if self._cut_off is not None:
            self._cut_off.cancel()
        if self._parser is not None:
            self._parser.discard()
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        self._parser = self._fragments = None
        self._unread = b""

    # Reading

    def get_buffer(self, sizehint: int) -> memoryview:
        return _read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.was_heard = True
        self.receive(_read_buffer[:nbytes])
        if nbytes == READ_SIZE and not self._unread:
            # There is more, and the event loop would go on with it at once.
            self._wait_for_turn(0.0)

    def receive(self, data: memoryview) -> None:
        """Handle bytes that follow the handshake; what takes long goes on in a later turn.

        A few of them can hold thousands of messages, or inflate to megabytes.
        """
        if self._unread:
            self._unread += data
        elif len(data) <= PIECE:
            self._parse(data)
        else:
            self._receive_in_pieces(data)

    def _receive_in_pieces(self, data: memoryview) -> None:
        until = perf_counter() + SLICE
        while data:
            self._parse(data[:PIECE])
            data = data[PIECE:]
            if data and (self._holds or perf_counter() > until):
                self._unread = bytes(data)
                self._wait_for_turn(SLICE)
                return

    def _parse(self, data: memoryview) -> None:
        if self._is_deaf:
            return
        parser = self._parser or self._parsers.take()
        if parser.feed(self, data) or not self.is_open:
            self._parser = parser
        else:
            self._parser = None
            self._parsers.give_back(parser)

    def _wait_for_turn(self, cost: float) -> None:
        self.hold_reading()
        self._turns.queue_up(self.release_reading, cost)

    def hold_reading(self) -> None:
        """Read nothing until `release_reading` was called as often as this."""
        self._holds += 1
        if self._holds == 1 and self.transport is not None and not self.transport.is_closing():
            self.transport.pause_reading()

    def release_reading(self) -> None:
        """Go on reading, with what was read already; see `hold_reading`."""
        self._holds -= 1
        if self._holds:
            return
        if self._unread:
            unread, self._unread = self._unread, b""
            self.receive(memoryview(unread))
        if not self._holds and self.transport is not None and not self.transport.is_closing():
            resume_reading(self.transport)

    @property
    def is_held(self) -> bool:
        """Whether nothing is read at the moment."""
        return self._holds > 0

    def eof_received(self) -> bool:
        # The transport closes itself, once it has written what it holds: maybe nobody takes that.
        self._cut_off_after(self.limits.close_timeout)
        return False

    # Frames to messages

    def on_frame(self, engine: WSTransport, frame: WSFrame, /) -> None:
        """Handle a whole frame of the peer."""
        opcode = frame.msg_type
        try:
            if not self.is_open:
                if opcode == CLOSE and self.transport is not None:
                    self.transport.close()
            elif frame.rsv1 or frame.rsv2 or frame.rsv3:
                self._on_reserved_bits(frame)
            elif opcode == TEXT or opcode == BINARY:
                if not frame.fin or self._fragments is not None:
                    self._begin_fragments(frame, is_compressed=False)
                    return
                message = Message(frame.get_payload_as_bytes())
                if opcode == BINARY:
                    message.is_binary = True
                elif not (message.isascii() or is_utf8(message)):
                    raise WireError(INVALID_TEXT, "text that is not UTF-8")
                self.onMessage(message)
            elif opcode == CONTINUATION:
                self._on_fragment(frame)
            elif opcode == CLOSE:
                payload = frame.get_payload_as_bytes()
                code = int.from_bytes(payload[:2]) if payload else NORMAL
                if _is_close_code(code):
                    self._close(code, "", (code if payload else NO_CODE, "client"))
                else:
                    self.loseConnection(PROTOCOL_ERROR)
                if self.transport is not None:
                    self.transport.close()
            elif opcode == PING and not self.is_backed_up:
                # A peer that does not read gets no pongs: they would pile up without bound.
                self.users.send_control(self, encode_pong(frame.get_payload_as_bytes()))
            elif opcode == PONG:
                self.onPong()
        except WireError as error:
            self.on_error(error)

    def on_error(self, error: WireError) -> None:
        """Close a connection whose peer has broken the protocol."""
        if self._is_closing:
            return
        self._fragments = None
        self.end(error.code, error.reason)

    def on_parse_error(self, error: WireError) -> None:
        """Close a connection in whose bytes no frame can be found any more."""
        self.on_error(error)
        self._is_deaf = True
        if self.transport is not None and not self.transport.is_closing():
            end_writing(self.transport)  # and wait: closing might take back what is on its way

    def ping(self, frame: bytes) -> None:
        """Send a ping, unless the peer reads so slowly that others wait already."""
        if not self.is_backed_up:
            self.write(frame)

    # Messages in fragments, and compressed ones

    def _on_reserved_bits(self, frame: WSFrame) -> None:
        is_first = frame.msg_type == TEXT or frame.msg_type == BINARY
        if frame.rsv2 or frame.rsv3 or not is_first or not self.window_bits:
            raise WireError(PROTOCOL_ERROR, "reserved bit set")
        self._begin_fragments(frame, is_compressed=True)

    def _begin_fragments(self, frame: WSFrame, *, is_compressed: bool) -> None:
        if self._fragments is not None:
            raise WireError(PROTOCOL_ERROR, "a new message inside a fragmented one")
        self._fragments = Fragments(
            self.limits.message_size,
            is_binary=frame.msg_type == BINARY,
            is_compressed=is_compressed,
        )
        self._on_fragment(frame)

    def _on_fragment(self, frame: WSFrame) -> None:
        fragments, is_last = self._fragments, bool(frame.fin)
        if fragments is None:
            raise WireError(PROTOCOL_ERROR, "a continuation of nothing")
        fragments.add(frame.get_payload_as_bytes(), is_last)
        if is_last:
            self._fragments = None
            self.onMessage(fragments.message)

    # Closing (RFC 6455 section 7)

    def _cut_off_after(self, seconds: float) -> None:
        if self._cut_off is not None or self.transport is None:
            return
        loop = asyncio.get_running_loop()
        self._cut_off = loop.call_later(seconds, self.transport.abort)

    def end(self, code: int, reason: str) -> None:
        """Close the connection for what its peer did, or did not, and tell the operator why."""
        if self.is_open:
            about = {"connection": self, "cause": ("ended", code, reason)}
            logger.info("ended with %d: %s", code, reason, extra=about)
        self.loseConnection(code, reason)

    def _leave(self, code: int, by: str) -> None:
        if self.is_open:
            self.is_open = False
            self.counters.closed(code, by)
            if logger.isEnabledFor(logging.DEBUG):
                logger.debug("closed with %d by the %s", code, by, extra={"connection": self})
            self.users.leave(self)
            self.onDisconnect()

    # Slow readers

    def resume_writing(self) -> None:
        self.was_heard = True  # Taking what we send is a sign of life; a pong may be far behind.
        super().resume_writing()

    def on_too_slow(self) -> None:
        self.end(TRY_AGAIN_LATER, "too slow")

    def on_dropping(self) -> None:
        about = {"connection": self, "cause": "dropping"}
        logger.info("too slow: what --max_queue_bytes does not hold is dropped", extra=about)

    # Before the handshake is done

    def _keep_early(self, msg: Data) -> None:
        size = len(msg.encode()) if isinstance(msg, str) else len(msg)
        if self._early_bytes + size > self.limits.queue_bytes:
            raise BufferError(f"{self.id}: too much sent before the handshake")
        self._early_bytes += size
        self._early = self._early or []
        self._early.append(copy(msg))  # whoever sent it may go on changing it


def end_writing(transport: asyncio.Transport) -> None:
    """Send nothing after what was sent already, and let the peer close, where that is possible."""
    if transport.can_write_eof():
        with suppress(OSError):  # plain asyncio tells here of a peer that has gone
            transport.write_eof()
    else:
        transport.close()


def resume_reading(transport: asyncio.Transport) -> None:
    """Go on reading from `transport`, with what it has in hand."""
    transport.resume_reading()
    # aiofastnet 1.2 would leave what it has received, but not decrypted yet, until more comes, and
    # then fail for want of room.
    if hasattr(transport, "_retry_ssl_read"):
        transport._retry_ssl_read()


def _is_close_code(code: int) -> bool:
    """Tell whether a close frame may carry `code`."""
    return code in (1000, 1001, 1002, 1003, *range(1007, 1015)) or 3000 <= code < 5000
