"""Stand-ins for the socket below a connection and the engine that parses for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from picows import WSMsgType

from filtered_websocket.frames import CLOSE
from filtered_websocket.server_protocol.frame import Frame


class FakeTransport:
    """A socket: what is written is kept, and the test says when it is full or gone."""

    def __init__(self, peer: Any = ("192.0.2.1", 5000)) -> None:
        self.peer = peer
        self.written = b""
        self.reading = True
        self.eof_sent = self.aborted = self.closed = False

    def get_extra_info(self, name: str) -> Any:
        return {"peername": self.peer}[name]

    def write(self, data: bytes | memoryview) -> None:
        self.written += data

    def writelines(self, parts: Any) -> None:
        self.written += b"".join(parts)

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        """What was written, as opcodes and payloads."""
        frames, rest = [], self.written
        while rest:
            frame = Frame(rest)
            frames.append((frame.opcode, bytes(frame.msg)))
            rest = rest[frame.length() :]
        return frames

    @property
    def close_codes(self) -> list[int]:
        return [int.from_bytes(payload[:2]) for opcode, payload in self.frames if opcode == CLOSE]

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.eof_sent = True

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@dataclass
class FakeFrame:
    """A received frame."""

    payload: bytes
    msg_type: WSMsgType = WSMsgType.TEXT
    fin: bool = True
    rsv1: bool = False
    rsv2: bool = False
    rsv3: bool = False

    def get_payload_as_bytes(self) -> bytes:
        return self.payload
