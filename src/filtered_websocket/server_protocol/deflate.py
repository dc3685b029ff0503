"""permessage-deflate (RFC 7692): what is agreed on, and how a compressed message is read.

No message is compressed with the help of the one before it ("no context takeover"), in neither
direction: an idle connection keeps no zlib state, and a broadcast is compressed once for all.

What belongs here: bytes to bytes. What does not: frames and their order (`server`), and compressing
what is sent (`..frames`).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

from .exception import (
    MESSAGE_TOO_BIG,
    POLICY_VIOLATION,
    PROTOCOL_ERROR,
    ProtocolError,
    WireError,
)

__all__ = ["Inflater", "negotiate"]

# Bytes in or out at a time: Python's zlib joins what is longer, which takes twice the room.
BLOCK = 32 * 1024
NARROW = 9  # window bits
MAX_STREAMS = 100  # per frame: each costs a new state, and a copy of what follows it in the block

# What the sender left out (section 7.2.2), and an empty final block: only what is whole ends there.
TAIL = b"\x00\x00\xff\xff" + b"\x01\x00\x00\xff\xff"


def negotiate(offers: Sequence[str]) -> tuple[str, int] | None:
    """Accept the first offer that can be met, or none (RFC 7692 section 5.1).

    `offers` are the values of all `Sec-WebSocket-Extensions` headers of a request. Returns the
    value of that header for the response, and the window bits for what is sent: 15, or 9 for all
    who want less, lest clients make each broadcast be compressed seven times. Raises ProtocolError
    for a malformed header (RFC 6455 section 9.1).
    """
    if not offers:
        return None
    # Not above: a server that does not compress need not load this.
    from websockets.exceptions import InvalidHeader, NegotiationError
    from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
    from websockets.headers import build_extension, parse_extension

    factory = ServerPerMessageDeflateFactory(
        server_no_context_takeover=True, client_no_context_takeover=True
    )
    try:
        extensions = parse_extension(", ".join(offers))
    except InvalidHeader:
        raise ProtocolError("the header Sec-WebSocket-Extensions is malformed") from None
    for name, parameters in extensions:
        if name == factory.name:
            try:
                accepted, extension = factory.process_request_params(parameters, [])
            except NegotiationError:
                continue
            is_wide = extension.local_max_window_bits == zlib.MAX_WBITS
            return build_extension([(name, accepted)]), zlib.MAX_WBITS if is_wide else NARROW
    return None


class Inflater:
    """Inflate the frames of one compressed message; drop it when the message is whole."""

    __slots__ = ("_decoder", "_max_size", "_message", "_streams_left")

    def __init__(self, message: bytearray, max_size: int) -> None:
        """Take the `message` to append to, and how many bytes it may hold."""
        self._message = message
        self._max_size = max_size
        self._decoder: zlib._Decompress | None = None  # None between two deflate streams
        self._streams_left = 0

    def inflate(self, payload: bytes, fin: bool) -> None:
        """Append what the next frame holds; `fin` tells that it is the last one of the message.

        Raises WireError: 1009 for a message over the limit, as soon as it is one byte over; 1002
        for what is not deflate or is cut short; 1008 for over 100 final blocks in one frame.
        """
        self._streams_left = MAX_STREAMS
        for start in range(0, len(payload), BLOCK):
            self._inflate_block(payload[start : start + BLOCK])
        # Without a decoder it is whole: it ended with a final block (section 7.2.3.4), or is empty.
        if fin and self._decoder is not None:
            self._inflate_block(TAIL)
            if self._decoder is not None:
                raise WireError(PROTOCOL_ERROR, "a compressed message is cut short")

    def _inflate_block(self, data: bytes) -> None:
        is_more = True
        while is_more:
            decoder = self._decoder = self._decoder or self._next_stream()
            room = min(BLOCK, self._max_size + 1 - len(self._message))
            try:
                piece = decoder.decompress(data, room)
            except zlib.error:
                raise WireError(PROTOCOL_ERROR, "a message that cannot be inflated") from None
            self._message += piece
            if len(self._message) > self._max_size:
                raise WireError(MESSAGE_TOO_BIG, f"over {self._max_size} bytes")
            if decoder.eof:
                self._decoder, data = None, decoder.unused_data
                is_more = bool(data)
            else:
                data = decoder.unconsumed_tail
                is_more = len(piece) == room  # zlib holds back what found no room

    def _next_stream(self) -> zlib._Decompress:
        if self._streams_left == 0:
            raise WireError(POLICY_VIOLATION, f"over {MAX_STREAMS} final blocks in a frame")
        self._streams_left -= 1
        # The widest window inflates what any narrower one compressed.
        return zlib.decompressobj(-zlib.MAX_WBITS)
