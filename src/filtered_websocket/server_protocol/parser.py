"""The engine as a parser: bytes go in, frames come out (RFC 6455 section 5.2).

The engine is made to own a connection. Here it gets a transport that goes nowhere, and so a parser
is what is left: it writes nothing, and belongs to a connection only while a frame of that one is
incomplete. Between frames it serves the next connection, so that an idle one has no engine, and
what a long message made it allocate is given back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from typing import Protocol as Interface

from picows import (
    WSAutoPingStrategy,
    WSListener,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from .exception import WireError

if TYPE_CHECKING:
    from picows import WSFrame, WSTransport

__all__ = ["FrameParser", "ParserPool", "Receiver"]

logger = logging.getLogger(__name__)

# The engine wants to see a handshake. The real one was checked before (`handshake`).
REQUEST = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
# Bytes of a new parser, of which the engine leaves 256 unused: a piece of a read (`server.PIECE`)
# takes three quarters of the rest. It grows by doubling while a frame is incomplete.
BUFFER = 4352
SPARE_BUFFER = 64 * 1024  # bytes: a parser that has grown beyond is not kept
SPARES = 32  # parsers that are kept between frames


class Receiver(Interface):
    """What gets the frames of one connection."""

    def on_frame(self, engine: WSTransport, frame: WSFrame, /) -> None: ...
    def on_error(self, error: WireError) -> None: ...
    def on_parse_error(self, error: WireError) -> None: ...


class FrameParser(WSListener):
    """Cut the bytes of one connection at a time into frames."""

    __slots__ = (
        "_buffer",
        "_buffer_updated",
        "_error",
        "_get_buffer",
        "_receiver",
        "_rest",
        "_room",
        "_size",
        "is_large",
        "on_ws_frame",
    )

    _receiver: Receiver
    _buffer: memoryview
    # What the engine calls for each frame: the receiver's method itself where that can be.
    on_ws_frame: Callable[[WSTransport, WSFrame], None]  # type: ignore[assignment]

    def __init__(self, max_frame_size: int) -> None:
        self._rest = 0
        self._error: WireError | None = None
        self.on_ws_frame = self._on_frame
        accepted = WSUpgradeResponseWithListener(WSUpgradeResponse.create_101_response(), self)
        engine = WSProtocol(
            None,  # host and port, for clients
            None,  # path, for clients
            False,  # is_client_side
            lambda _: accepted,
            _EngineLog(self),
            True,  # disconnect_on_exception
            None,  # handshake timeout
            False,  # automatic pings
            20,
            20,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # automatic pongs
            max_frame_size,
            None,  # extra headers, for clients
            BUFFER,
        )
        engine.connection_made(nowhere)
        self._get_buffer = engine.get_buffer
        self._buffer_updated = engine.buffer_updated
        self._get_buffer(-1)[: len(REQUEST)] = REQUEST
        self._buffer_updated(len(REQUEST))
        self._take_buffer()

    def feed(self, receiver: Receiver, data: memoryview) -> bool:
        """Give `receiver` the frames that `data` completes; tell whether a part of one is left.

        An error comes after the frames before it. Then the parser is of no more use, as it is after
        a close frame.
        """
        self._receiver = receiver
        size = len(data)
        if self._rest or size > self._room:
            self._feed_in_pieces(data)
        else:
            self.on_ws_frame = receiver.on_frame
            self._buffer[:size] = data
            self._buffer_updated(size)
            self._buffer = self._get_buffer(-1)
            self._rest = self._size - len(self._buffer)
        if self._error is not None:
            receiver.on_parse_error(self._error)
            return True
        return self._rest != 0

    def _feed_in_pieces(self, data: memoryview) -> None:
        """Fill the buffer not too much at a time: when it is almost full, the engine doubles it."""
        self.on_ws_frame = self._on_frame
        while data and self._error is None:
            buffer = self._get_buffer(-1)
            size = min(len(data), len(buffer) * 3 // 4)
            buffer[:size] = data[:size]
            self._rest = 1
            self._buffer_updated(size)
            data = data[size:]
        if not self._rest:
            self._take_buffer()

    def _take_buffer(self) -> None:
        """Hold the buffer of an engine that is between two frames, and so empty."""
        self._buffer = self._get_buffer(-1)
        self._size = len(self._buffer)
        self._room = self._size * 3 // 4
        self.is_large = self._size > SPARE_BUFFER

    def discard(self) -> None:
        """Free the engine, which holds this parser and is held by it."""
        del self._get_buffer, self._buffer_updated, self._buffer, self.on_ws_frame

    # The engine calls these

    def on_ws_connected(self, transport: WSTransport) -> None:
        pass

    def _on_frame(self, engine: WSTransport, frame: WSFrame) -> None:
        self._rest = frame.tail_size
        self._receiver.on_frame(engine, frame)

    def on_parse_error(self, code: int, reason: str) -> None:
        """Remember an error: the engine reports it before it delivers the frame in front of it."""
        self._error = WireError(int(code), reason)

    def on_failure(self) -> None:
        """Handle that `on_frame` failed: the engine would go on with the frames after it."""
        self._error = WireError(1011)
        self._receiver.on_error(self._error)


class ParserPool:
    """Lend parsers to the connections of one server."""

    __slots__ = ("_max_frame_size", "_spares")

    def __init__(self, max_frame_size: int) -> None:
        self._max_frame_size = max_frame_size
        self._spares: list[FrameParser] = []

    def take(self) -> FrameParser:
        """Return a parser that is between two frames."""
        return self._spares.pop() if self._spares else FrameParser(self._max_frame_size)

    def give_back(self, parser: FrameParser) -> None:
        """Take a parser that is between two frames."""
        if parser.is_large or len(self._spares) >= SPARES:
            parser.discard()
        else:
            # Not to hold a connection that may be gone before the next one comes.
            del parser._receiver, parser.on_ws_frame
            self._spares.append(parser)


class _Nowhere:
    """Be the transport, and the socket, of engines that only parse."""

    def get_extra_info(self, name: str) -> Any:
        return self if name == "socket" else None

    def fileno(self) -> int:
        return -1

    def getsockopt(self, *option: int) -> int:
        return 0

    def get_write_buffer_size(self) -> int:
        return 1  # Else the engine would write to the socket itself.

    def ignore(self, *arguments: object) -> None:
        pass

    setsockopt = write = writelines = close = abort = ignore


nowhere = _Nowhere()


class _EngineLog:
    """Take the log of an engine: it is how the engine tells of errors."""

    __slots__ = ("_parser",)

    def __init__(self, parser: FrameParser) -> None:
        self._parser = parser

    def isEnabledFor(self, level: int) -> bool:
        return False

    def info(self, *arguments: object) -> None:
        pass

    debug = log = warning = info

    def error(self, message: str, arguments: tuple[int, str]) -> None:
        self._parser.on_parse_error(*arguments)

    def exception(self, message: str, *arguments: object) -> None:
        about = {"connection": self._parser._receiver}
        logger.exception("handling a frame failed", extra=about)
        self._parser.on_failure()
