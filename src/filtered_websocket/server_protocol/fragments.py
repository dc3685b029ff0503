"""A message that comes in fragments (RFC 6455 section 5.4), or compressed (RFC 7692 section 6)."""

from __future__ import annotations

from codecs import getincrementaldecoder
from typing import TYPE_CHECKING

from ..typing import Message
from .deflate import Inflater
from .exception import INVALID_TEXT, MESSAGE_TOO_BIG, WireError

if TYPE_CHECKING:
    from codecs import IncrementalDecoder

__all__ = ["Fragments"]

utf8_decoder = getincrementaldecoder("utf-8")


class Fragments:
    """Put one message together; what is wrong with it is told as soon as it can be seen."""

    __slots__ = ("_decoder", "_inflater", "_max_size", "message")

    def __init__(self, max_size: int, *, is_binary: bool, is_compressed: bool) -> None:
        """Begin a message of at most `max_size` bytes."""
        self.message = Message()
        if is_binary:
            self.message.is_binary = True
        self._max_size = max_size
        self._inflater = Inflater(self.message, max_size) if is_compressed else None
        self._decoder: IncrementalDecoder | None = None if is_binary else utf8_decoder()

    def add(self, payload: bytes, is_last: bool) -> None:
        """Append what the next frame holds.

        Raises WireError: 1009 for a message over the limit, 1007 for text that is not UTF-8, and
        what `Inflater.inflate` raises.
        """
        if self._inflater is not None:
            size = len(self.message)
            self._inflater.inflate(payload, is_last)
            payload = bytes(self.message[size:])
        else:
            self.message += payload
            if len(self.message) > self._max_size:
                raise WireError(MESSAGE_TOO_BIG, f"over {self._max_size} bytes")
        if self._decoder is not None:
            try:
                self._decoder.decode(payload, final=is_last)
            except UnicodeDecodeError:
                raise WireError(INVALID_TEXT, "text that is not UTF-8") from None
