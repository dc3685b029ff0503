"""Frames as bytes: how a server sends a message (RFC 6455 section 5.2).

What belongs here: encoding, free of sockets and state. Received frames are parsed by the engine.
"""

from __future__ import annotations

from struct import Struct

from .typing import Data

__all__ = [
    "BINARY",
    "CLOSE",
    "PING",
    "PONG",
    "TEXT",
    "encode_close",
    "encode_control",
    "encode_frame",
    "is_binary_frame",
    "is_utf8",
]

TEXT = 0x1
BINARY = 0x2
CLOSE = 0x8
PING = 0x9
PONG = 0xA

FINAL = 0x80
_header_16 = Struct("!BBH").pack
_header_64 = Struct("!BBQ").pack


def is_utf8(data: bytes | bytearray) -> bool:
    """Tell whether `data` may travel as text."""
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def encode_frame(data: Data, is_binary: bool) -> bytes:
    """Return `data` as one final, unmasked frame, header included.

    `str` is always text. Bytes that are not UTF-8 go as binary whatever `is_binary` says: a text
    frame of them would make the receiver close the connection (RFC 6455 section 8.1).
    """
    if isinstance(data, str):
        data, opcode = data.encode(), TEXT
    elif isinstance(data, bytes | bytearray):
        opcode = BINARY if is_binary or not is_utf8(data) else TEXT
    else:
        raise TypeError(f"a message is bytes, bytearray or str, not {type(data).__name__}")
    size = len(data)
    if size < 126:
        header = bytes((FINAL | opcode, size))
    elif size < 0x10000:
        header = _header_16(FINAL | opcode, 126, size)
    else:
        header = _header_64(FINAL | opcode, 127, size)
    return header + data


def encode_control(opcode: int, payload: bytes = b"") -> bytes:
    """Return a control frame; its payload has 125 bytes at most (RFC 6455 section 5.5)."""
    return bytes((FINAL | opcode, len(payload))) + payload


def encode_close(code: int, reason: str = "") -> bytes:
    """Return a close frame; the reason has 123 bytes at most (RFC 6455 section 5.5.1)."""
    return encode_control(CLOSE, code.to_bytes(2) + reason.encode())


def is_binary_frame(frame: bytes) -> bool:
    """Tell whether a frame that `encode_frame` made is binary."""
    return frame[0] == FINAL | BINARY
