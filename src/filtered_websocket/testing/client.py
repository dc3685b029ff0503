"""The other end: a client, and in memory the transport between it and the server."""

from __future__ import annotations

import asyncio
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any
from typing import Protocol as Interface

from ..frames import BINARY, CLOSE, PING, PONG, TEXT
from ..server import FilteredWebSocket
from .clock import FakeClockLoop

__all__ = ["Client", "Refused", "Transport", "Wire"]

CONTINUATION = 0x0
FINAL = 0x80
MASKED = 0x80
KEY = b64encode(bytes(16)).decode()
ABNORMAL = 1006  # what a client sees when the connection ends without a close frame
NO_STATUS = 1005  # what it sees when the close frame has no code

Headers = Mapping[str, str] | Iterable[tuple[str, str]]


class Refused(Exception):
    """Report that the server did not open a connection.

    Its attributes are those of the HTTP response.
    """

    def __init__(self, status: int, reason: str, headers: dict[str, str]) -> None:
        super().__init__(status, reason)
        self.status = status
        """The HTTP status; 0 when there was no response."""
        self.reason = reason
        """The body, without the line end."""
        self.headers = headers
        """The headers, with names in lower case."""


class Wire(Interface):
    """What a client needs of what is between it and the server."""

    client: Client | None

    @property
    def connection(self) -> FilteredWebSocket: ...
    @property
    def is_lost(self) -> bool: ...

    # For the thread of the test

    def do(self, action: Callable[[], None]) -> None:
        """Run `action` in the event loop; return when the server has done what follows from it."""

    def refresh(self) -> None:
        """Return when the client has got all that the server has sent to it."""

    # For the event loop

    def deliver(self, data: bytes) -> None: ...
    def abort(self) -> None: ...
    def stall(self) -> None: ...
    def unstall(self) -> None: ...
    def is_own_ping(self, payload: bytes) -> bool:
        """Tell whether a ping is of the wire itself, and not for the client to answer."""


class Client:
    """Be one client of a pipeline or a server; made by their `connect`.

    Each call returns when the server has done all that follows from it and needs no time.
    """

    def __init__(self, wire: Wire, headers: dict[str, str], rest: bytes) -> None:
        self.response_headers = headers
        """The headers of the handshake's response, with names in lower case."""
        self._received: list[str | bytes] = []
        self._close_code: int | None = None
        self._close_reason = ""
        self._wire = wire
        self._bytes = b""
        self._fragments: list[bytes] = []
        self._opcode = 0
        self._has_sent_close = False
        wire.client = self
        self.on_bytes(rest)
        if wire.is_lost:
            self.on_end()

    def __repr__(self) -> str:
        return f"<Client {self.connection.id} received {self._received!r}>"

    @property
    def connection(self) -> FilteredWebSocket:
        """The server's end: the `web_socket_instance` that filters get."""
        return self._wire.connection

    @property
    def received(self) -> list[str | bytes]:
        """The messages so far, text as `str` and binary as `bytes`, in their order."""
        self._wire.refresh()
        return self._received

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed the connection."""
        return self.close_code is None

    @property
    def close_code(self) -> int | None:
        """The code that the connection was closed with (RFC 6455 section 7.4); None: it is open."""
        self._wire.refresh()
        return self._close_code

    @property
    def close_reason(self) -> str:
        """The reason that the server has closed the connection with."""
        self._wire.refresh()
        return self._close_reason

    def send(self, message: str | bytes | bytearray) -> None:
        """Send a message: `str` as text, else binary.

        Raises RuntimeError when the connection is closed, TypeError when it is neither.
        """
        self.send_fragments([message])

    def send_fragments(self, fragments: Iterable[str | bytes | bytearray]) -> None:
        """Send one message in fragments (RFC 6455 section 5.4); the type is that of the first.

        Raises RuntimeError when the connection is closed.
        """
        if not self.is_open:
            raise RuntimeError(f"the connection is closed, with {self._close_code}")
        parts = list(fragments)
        opcode = TEXT if isinstance(parts[0], str) else BINARY
        payloads = [part.encode() if isinstance(part, str) else _bytes(part) for part in parts]
        self.send_raw(message_frames(opcode, payloads))

    def send_raw(self, data: bytes) -> None:
        """Send bytes as they are, which may be half a frame, or none."""
        self._wire.do(lambda: self._wire.deliver(data))

    def close(self, code: int = 1000, reason: str = "") -> None:
        """Close the connection with a close code (RFC 6455 section 7.4)."""
        if self.is_open:
            self._wire.do(lambda: self._send_close(code.to_bytes(2) + reason.encode()))

    def vanish(self) -> None:
        """Break the connection without a word, as when a phone loses its network."""
        self._wire.do(self._wire.abort)

    def stop_reading(self) -> None:
        """Take nothing more from the server; see `--max_queue_bytes` for what it does then."""
        self._wire.do(self._wire.stall)

    def go_on_reading(self) -> None:
        """Take what has come since `stop_reading`, and all that follows."""
        self._wire.do(self._wire.unstall)

    # The wire calls these, in the event loop

    def on_bytes(self, data: bytes) -> None:
        """Take frames of the server apart; answer its pings and its close frame, as browsers do."""
        self._bytes += data
        while (frame := _next_frame(self._bytes)) is not None:
            first, payload, self._bytes = frame
            opcode = first & 0x0F
            if opcode == PING:
                if not self._wire.is_own_ping(payload):
                    self._wire.deliver(_frame(FINAL | PONG, payload))
            elif opcode == CLOSE:
                self._on_close(payload)
            elif opcode != PONG:
                self._on_part(opcode, payload, is_last=bool(first & FINAL))

    def on_end(self) -> None:
        """Note that the connection is gone."""
        if self._close_code is None:
            self._close_code = ABNORMAL

    def _on_close(self, payload: bytes) -> None:
        self._close_code = int.from_bytes(payload[:2]) if payload else NO_STATUS
        self._close_reason = payload[2:].decode()
        self._send_close(payload[:2])

    def _send_close(self, payload: bytes) -> None:
        if not self._has_sent_close:
            self._has_sent_close = True
            self._wire.deliver(_frame(FINAL | CLOSE, payload))

    def _on_part(self, opcode: int, payload: bytes, *, is_last: bool) -> None:
        self._opcode = opcode or self._opcode
        self._fragments.append(payload)
        if is_last:
            message = b"".join(self._fragments)
            self._fragments = []
            self._received.append(message.decode() if self._opcode == TEXT else message)


class Transport(asyncio.Transport):
    """Carry bytes between a protocol of the server and a client, in memory."""

    def __init__(self, loop: FakeClockLoop, peer: str) -> None:
        super().__init__({"peername": (peer, 50000)})
        self.protocol: Any = None
        self.client: Client | None = None
        self.sent = b""  # by the server, as long as there is no client
        self._loop = loop
        self._to_server = b""
        self._stalled: bytes | None = None
        self._is_paused = False
        self._is_closing = False
        self.is_lost = False

    # The client's side

    @property
    def connection(self) -> FilteredWebSocket:
        connection: FilteredWebSocket = self.protocol
        return connection

    def do(self, action: Callable[[], None]) -> None:
        self._loop.demand_use()
        action()
        self._loop.settle()

    def refresh(self) -> None:
        """Do nothing: `do` has let all come."""

    def is_own_ping(self, payload: bytes) -> bool:
        return False

    def deliver(self, data: bytes) -> None:
        """Give the server something to read."""
        self._to_server += data
        self._loop.call_soon(self._read)

    def stall(self) -> None:
        """Be full from now on."""
        if self._stalled is None:
            self._stalled = b""
            self._loop.call_soon(self.protocol.pause_writing)

    def unstall(self) -> None:
        """Let through what has come meanwhile, and be full no more."""
        stalled, self._stalled = self._stalled, None
        if stalled is not None:
            self._to_client(stalled)
            self._loop.call_soon(self.protocol.resume_writing)

    def _read(self) -> None:
        while self._to_server and not self._is_paused and not self.is_lost:
            buffer = self.protocol.get_buffer(-1)
            chunk = self._to_server[: len(buffer)]
            self._to_server = self._to_server[len(chunk) :]
            buffer[: len(chunk)] = chunk
            self.protocol.buffer_updated(len(chunk))

    def _to_client(self, data: bytes) -> None:
        if self.client is None:
            self.sent += data
        else:
            self.client.on_bytes(data)

    # The server's side: what asyncio asks of a transport

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self.is_lost:
            return
        if self._stalled is not None:
            self._stalled += data
        else:
            self._to_client(bytes(data))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self.protocol
        return protocol

    def pause_reading(self) -> None:
        self._is_paused = True

    def resume_reading(self) -> None:
        self._is_paused = False
        self._loop.call_soon(self._read)

    def get_write_buffer_size(self) -> int:
        return len(self._stalled or b"")

    def can_write_eof(self) -> bool:
        return False

    def is_closing(self) -> bool:
        return self._is_closing

    def close(self) -> None:
        if not self._is_closing:
            self._is_closing = True
            self._loop.call_soon(self._lose)

    def abort(self) -> None:
        self._is_closing = True
        self._stalled = None
        self._loop.call_soon(self._lose)

    def _lose(self) -> None:
        if not self.is_lost:
            self.is_lost = True
            self.protocol.connection_lost(None)
            if self.client is not None:
                self.client.on_end()


def request(path: str, headers: Headers) -> bytes:
    """Return the handshake of a client (RFC 6455 section 4.1)."""
    fields = [
        ("Host", "localhost"),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", KEY),
        ("Sec-WebSocket-Version", "13"),
    ]
    given = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
    names = {name.lower() for name, _ in given}
    fields = [field for field in fields if field[0].lower() not in names] + given
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields)
    return f"GET {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


def parse_response(data: bytes) -> tuple[dict[str, str], bytes]:
    """Return the headers of a 101, with lower-case names, and what follows.

    Raises Refused for any other answer, and for none.
    """
    if not data:
        raise Refused(0, "the connection was closed without an answer", {})
    head, _, rest = data.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    status = int(status_line.split()[1])
    if status != 101:
        raise Refused(status, rest.decode().rstrip("\n"), headers)
    return headers, rest


def message_frames(opcode: int, payloads: Sequence[bytes]) -> bytes:
    """Return one message of a client, in as many frames as there are payloads."""
    last = len(payloads) - 1
    frames = b""
    for index, payload in enumerate(payloads):
        final = FINAL if index == last else 0
        frames += _frame(final | (CONTINUATION if index else opcode), payload)
    return frames


def _bytes(part: bytes | bytearray) -> bytes:
    return bytes(memoryview(part))  # of a number, `bytes` would make as many zeros


def _frame(first: int, payload: bytes) -> bytes:
    """Return a frame as clients send it: masked, with a key that changes nothing."""
    size = len(payload)
    if size < 126:
        head = bytes((first, MASKED | size))
    elif size < 0x10000:
        head = bytes((first, MASKED | 126)) + size.to_bytes(2)
    else:
        head = bytes((first, MASKED | 127)) + size.to_bytes(8)
    return head + bytes(4) + payload


def _next_frame(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return first byte and payload of a frame of the server, and what follows it."""
    if len(data) < 2:
        return None
    size, start = data[1], 2
    if size > 125:
        start = 4 if size == 126 else 10
        size = int.from_bytes(data[2:start])
    if len(data) < start + size:
        return None
    return data[0], data[start : start + size], data[start + size :]
