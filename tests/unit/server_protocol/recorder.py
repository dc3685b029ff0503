"""A connection to a socket that is not one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from filtered_websocket.frames import encode_frame
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.server_protocol.outbox import OVERHEAD
from filtered_websocket.server_protocol.parser import ParserPool
from filtered_websocket.server_protocol.server import Protocol
from filtered_websocket.server_protocol.turns import Turns
from filtered_websocket.typing import Data, Message
from filtered_websocket.users import Users

from .fakes import FakeFrame, FakeTransport


class Recorder(Protocol):
    """A connection that keeps what happened to it."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.turn: list[Callable[[], None]] = []
        limits = limits or Limits()
        super().__init__(Users(self.turn.append), limits, ParserPool(limits.message_size), Turns())
        self.socket = FakeTransport()
        self.events: list[Any] = []

    def onConnect(self) -> None:
        self.events.append("connect")

    def onMessage(self, msg: Message) -> None:
        self.events.append((bytes(msg), msg.is_binary))

    def onDisconnect(self) -> None:
        self.events.append("disconnect")

    def open(self) -> Recorder:  # type: ignore[override]
        super().open(self.socket)  # type: ignore[arg-type]
        return self

    def take(self, *frames: FakeFrame) -> Recorder:
        for frame in frames:
            self.on_frame(None, frame)  # type: ignore[arg-type]
        self.users.flush()  # type: ignore[attr-defined]
        return self

    def send(self, *messages: Data) -> Recorder:
        """Send each message in a turn of its own."""
        for msg in messages:
            self.sendMessage(msg)
            self.users.flush()  # type: ignore[attr-defined]
        return self


def text(*messages: str) -> bytes:
    return b"".join(encode_frame(message, False) for message in messages)


SMALL = {"queue_bytes": 3 * (4 + OVERHEAD)}  # three frames of two characters


def slow(policy: str, *messages: str) -> Recorder:
    """Return a connection whose socket is full, and that was sent messages since."""
    connection = Recorder(Limits(slow_client=policy, **SMALL)).open()  # type: ignore[arg-type]
    connection.pause_writing()
    return connection.send(*messages)
