"""Stand-ins for the engine and the socket below it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from picows import WSMsgType


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


class FakeEngine:
    """What the engine gives to an open connection."""

    def __init__(self) -> None:
        self.underlying_transport = FakeTransport()
        self.close_frames: list[tuple[int, str]] = []
        self.written_before_close = b""
        self.pongs: list[bytes] = []
        self.disconnected = asyncio.Event()

    @property
    def is_close_frame_sent(self) -> bool:
        return bool(self.close_frames)

    def send_close(self, code: int, reason: str) -> None:
        self.written_before_close = self.underlying_transport.written
        self.close_frames.append((int(code), reason))

    def send_pong(self, payload: bytes) -> None:
        self.pongs.append(payload)

    def disconnect(self) -> None:
        self.disconnected.set()

    async def wait_disconnected(self) -> None:
        await self.disconnected.wait()


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
