"""`Frame`, as programs for 0.4.1 import it. The server itself leaves parsing to the engine."""

from __future__ import annotations

import os
from struct import unpack_from

from ..frames import encode_frame
from .exception import FrameError


class Frame:
    """Parse the first frame of `buf` (RFC 6455 section 5.2); FrameError when it is incomplete."""

    def __init__(self, buf: bytes | bytearray) -> None:
        if len(buf) < 2:
            raise FrameError("incomplete frame: header")
        self.fin = buf[0] >> 7
        self.opcode = buf[0] & 0x0F
        self.mask = buf[1] >> 7
        self.len = buf[1] & 0x7F
        start = 2
        if self.len >= 126:
            size = 2 if self.len == 126 else 8
            if len(buf) < start + size:
                raise FrameError("incomplete frame: length")
            self.len = unpack_from("!H" if size == 2 else "!Q", buf, start)[0]
            start += size
        self.key = bytes(buf[start : start + 4]) if self.mask else b""
        start += len(self.key)
        self.frame_length = start + self.len
        if len(buf) < self.frame_length or (self.mask and len(self.key) < 4):
            raise FrameError("incomplete frame: payload")
        self.msg = bytearray(buf[start : self.frame_length])

    def message(self) -> bytearray:
        """Return the payload, unmasked."""
        return self.encodeMessage(self.msg, self.key) if self.mask else self.msg

    def length(self) -> int:
        """Return the size of the whole frame in bytes."""
        return self.frame_length

    @staticmethod
    def encodeMessage(buf: bytes | bytearray, key: bytes) -> bytearray:
        """Return `buf` masked with the four bytes of `key`; masking twice gives `buf` back."""
        return bytearray(byte ^ key[index % 4] for index, byte in enumerate(buf))

    @staticmethod
    def buildMessage(buf: bytes | bytearray | str, mask: bool = True) -> bytearray:
        """Return a final frame with `buf`, masked as clients do unless `mask` is false."""
        frame = bytearray(encode_frame(buf, is_binary=False))
        if mask:
            payload = Frame(frame).message()
            key = os.urandom(4)
            frame[1] |= 0x80
            frame[len(frame) - len(payload) :] = key + Frame.encodeMessage(payload, key)
        return frame
