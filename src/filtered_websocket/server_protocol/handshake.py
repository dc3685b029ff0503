"""From the first byte of a connection to an open WebSocket, or to an HTTP answer.

A connection begins as a `Handshake`, which collects the head of one HTTP request and decides
(RFC 6455 section 4.2). Then the engine takes over the transport, and the `Handshake` is gone. All
handshakes of a server share one `Acceptor`.

What belongs here: reading the request, the checks, the 101. What does not: the answers to requests
that want no WebSocket (`http`), and everything after the 101 (`server`).
"""

from __future__ import annotations

import asyncio
import logging
import re
from base64 import b64decode
from collections.abc import Awaitable, Coroutine, Mapping
from typing import Any
from typing import Protocol as Interface
from urllib.parse import urlsplit

from picows import (
    WSAutoPingStrategy,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
)
from picows.picows import WSProtocol  # type: ignore[attr-defined]

from ..typing import RejectHandshake, Request
from .exception import ProtocolError
from .http import PlainPages, response, upgrade_required
from .origins import OriginPolicy
from .server import Limits, Protocol

__all__ = ["Acceptor", "Connection", "Factory", "parse_request"]

logger = logging.getLogger(__name__)

TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_request_line = re.compile(rf"({TOKEN}) (\S+) HTTP/(\d)\.(\d)").fullmatch
# The blanks around a value are stripped, not matched: that would take cubic time for many.
_header_line = re.compile(rf"({TOKEN}):([^\x00-\x08\x0a-\x1f\x7f]*)").fullmatch
_header_value = re.compile(r"[\t\x20-\x7e\x80-\xff]*").fullmatch
_token = re.compile(TOKEN).fullmatch

# The engine gets a request of its own: it would refuse correct ones (`Connection: keep-alive,
# Upgrade`, as Firefox sends it), and keeps what it gets for the life of the connection.
ENGINE_REQUEST = (
    b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %b\r\n\r\n"
)
READ_BUFFER = 2048  # bytes that the engine reads into; it grows with the messages
READ_SIZE = 64 * 1024  # bytes of one read at most: then it is somebody else's turn


class Connection(Protocol):
    """What a handshake needs of a connection beyond the wire."""

    __slots__ = ("request", "response_headers", "subprotocol")

    request: Request | None
    response_headers: dict[str, str]
    subprotocol: str | None

    def onHandshake(self, request: Request) -> bool | Awaitable[bool]:
        """Tell whether the connection may open, at once or later; raise `RejectHandshake`."""
        return True

    def dataReceived(self, data: bytes) -> None:
        """Handle bytes as they were read; called when the factory says so."""


class Factory(Interface):
    """What a handshake needs of the server that it is for."""

    @property
    def wants_raw_data(self) -> bool: ...
    def buildProtocol(self, address: str) -> Connection: ...
    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class Acceptor:
    """Make the `Handshake` for each accepted socket, and end those that take too long."""

    def __init__(
        self, factory: Factory, *, limits: Limits, origins: OriginPolicy, pages: PlainPages
    ) -> None:
        self.factory = factory
        self.limits = limits
        self.origins = origins
        self.pages = pages
        # One buffer serves all: it is filled and emptied within one call of the event loop.
        self.read_buffer = memoryview(bytearray(64 * 1024))
        self.engine_class = _TappedEngine if factory.wants_raw_data else _Engine
        self.is_closed = False
        self._deadlines: dict[Handshake, float] = {}
        self._sweep_at: asyncio.TimerHandle | None = None

    def __call__(self) -> Handshake:
        return Handshake(self)

    def watch(self, handshake: Handshake) -> None:
        """End `handshake` when it is still there after the time limit."""
        loop = asyncio.get_running_loop()
        self._deadlines.pop(handshake, None)
        self._deadlines[handshake] = deadline = loop.time() + self.limits.handshake_timeout
        if self._sweep_at is None:
            self._sweep_at = loop.call_at(deadline, self._sweep)

    def forget(self, handshake: Handshake) -> None:
        self._deadlines.pop(handshake, None)

    def close(self) -> None:
        """Cut off all connections that are not open yet, and those that still come."""
        self.is_closed = True
        if self._sweep_at is not None:
            self._sweep_at.cancel()
        for handshake in list(self._deadlines):
            handshake.abort()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep_at = None
        for handshake, deadline in list(self._deadlines.items()):
            if deadline > loop.time():
                self._sweep_at = loop.call_at(deadline, self._sweep)
                return
            self.forget(handshake)
            handshake.time_out()


class Handshake(asyncio.BufferedProtocol):
    """Read one HTTP request and answer it, or hand the transport to the engine."""

    __slots__ = ("_acceptor", "_answered", "_connection", "_head", "_peer", "_task", "_transport")

    _transport: asyncio.Transport

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._answered = False
        self._connection: Connection | None = None
        self._head = bytearray()
        self._peer = ""
        self._task: asyncio.Task[None] | None = None

    def abort(self) -> None:
        self._transport.abort()

    def time_out(self) -> None:
        """Give up on a client that sent no whole request, or did not take the answer, in time."""
        if self._answered:
            self.abort()
            return
        if self._task is not None:
            self._task.cancel()
        self._refuse(408, "the handshake took too long")

    # The event loop calls these

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        if self._acceptor.is_closed:
            transport.abort()
            return
        address = transport.get_extra_info("peername")
        self._peer = address[0] if isinstance(address, tuple) else ""
        self._acceptor.watch(self)
        if self._acceptor.factory.wants_raw_data:
            self._build_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        self._acceptor.forget(self)
        if self._task is not None:
            self._task.cancel()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._acceptor.read_buffer

    def buffer_updated(self, nbytes: int) -> None:
        chunk = self._acceptor.read_buffer[:nbytes]
        if self._connection is not None and self._acceptor.factory.wants_raw_data:
            self._connection.dataReceived(bytes(chunk))
        if self._answered or self._transport.is_closing():
            return
        searched = max(0, len(self._head) - 3)
        self._head += chunk
        end = self._head.find(b"\r\n\r\n", searched)
        if end >= 0 and end <= self._acceptor.limits.header_size:
            self._answer(bytes(self._head[:end]))
        elif len(self._head) > self._acceptor.limits.header_size:
            self._refuse(431, "the request is too large")

    # What to answer

    def _answer(self, head: bytes) -> None:
        try:
            request = parse_request(head, self._peer)
            if not _asks_for_websocket(request):
                self._send(self._acceptor.pages.answer(request))
                return
            _check_upgrade(request)
        except ProtocolError as error:
            self._refuse(error.status, error.reason)
            return
        origin = request.headers.get("Origin")
        if not self._acceptor.origins.allows(origin, request.headers.get("Host")):
            logger.warning(
                "refused a page of %r: to let it connect, start with --origins %s", origin, origin
            )
            self._refuse(403, f"pages of {origin} may not connect here", level=logging.DEBUG)
            return
        self._ask_filters(request, len(head) + 4)

    def _ask_filters(self, request: Request, head_size: int) -> None:
        connection = self._connection or self._build_connection()
        connection.request = request
        try:
            verdict = connection.onHandshake(request)
        except RejectHandshake as rejection:
            self._reject(rejection)
            return
        if isinstance(verdict, bool):
            self._conclude(verdict, connection, request, head_size)
            return
        self._transport.pause_reading()
        self._task = self._acceptor.factory.spawn(
            self._conclude_later(verdict, connection, request, head_size)
        )

    async def _conclude_later(
        self, verdict: Awaitable[bool], connection: Connection, request: Request, head_size: int
    ) -> None:
        try:
            accepted = await verdict
        except RejectHandshake as rejection:
            self._reject(rejection)
            return
        self._task = None
        self._transport.resume_reading()
        self._conclude(accepted, connection, request, head_size)

    def _conclude(
        self, accepted: bool, connection: Connection, request: Request, head_size: int
    ) -> None:
        if self._answered or self._transport.is_closing():
            return
        if not accepted:
            self._refuse(500, "the server could not check this connection")
            return
        try:
            upgrade = _upgrade_response(connection, request)
        except (ValueError, TypeError) as error:
            logger.error("a handshake filter set what cannot be sent: %s", error)
            self._refuse(500, "the server could not answer this connection")
            return
        self._hand_over(connection, upgrade, request, bytes(self._head[head_size:]))

    def _hand_over(
        self, connection: Connection, upgrade: Any, request: Request, rest: bytes
    ) -> None:
        """Give the transport to the engine, which answers 101 and opens the connection."""
        acceptor = self._acceptor
        acceptor.forget(self)
        self._answered = True
        accepted = WSUpgradeResponseWithListener(upgrade, connection)
        engine = acceptor.engine_class(
            None,  # host and port, for clients
            None,  # path, for clients
            False,  # is_client_side
            lambda _: accepted,
            _EngineLog(connection),
            True,  # disconnect_on_exception
            None,  # handshake timeout: there is one here
            False,  # automatic pings
            20,
            20,
            WSAutoPingStrategy.PING_WHEN_IDLE,
            False,  # automatic pongs: a peer that does not read them would fill the memory
            acceptor.limits.message_size,
            None,  # extra headers, for clients
            READ_BUFFER,
        )
        self._transport.set_protocol(engine)
        engine.connection_made(self._transport)
        key = request.headers["Sec-WebSocket-Key"].encode()
        _feed(engine, ENGINE_REQUEST % key + rest)

    def _build_connection(self) -> Connection:
        self._connection = self._acceptor.factory.buildProtocol(self._peer)
        self._connection.raw_transport = self._transport
        return self._connection

    def _reject(self, rejection: RejectHandshake) -> None:
        try:
            for name, value in rejection.headers.items():
                _check_header(name, value)
        except ValueError as error:
            logger.error("a handshake filter set what cannot be sent: %s", error)
            rejection.headers.clear()
        self._refuse(rejection.status, rejection.reason, rejection.headers)

    def _refuse(
        self,
        status: int,
        reason: str,
        headers: Mapping[str, str] | None = None,
        level: int = logging.INFO,
    ) -> None:
        if self._answered:
            return  # with a 408, before the filters were done
        logger.log(level, "refused a connection from %s: %d %s", self._peer, status, reason)
        if status == 426:
            fields = {"Sec-WebSocket-Version": "13"} | dict(headers or {})
            self._send(upgrade_required(reason, fields))
        else:
            self._send(response(status, reason, headers))

    def _send(self, answer: bytes) -> None:
        if self._answered or self._transport.is_closing():
            return
        self._answered = True
        self._head.clear()
        if self._connection is not None:
            self._connection.will_not_open()
        self._transport.write(answer)
        if self._transport.can_write_eof():
            # Closing with unread bytes would reset the connection and might lose the answer: let
            # the client close, within the time limit.
            self._transport.write_eof()
            self._transport.resume_reading()
            self._acceptor.watch(self)
        else:
            self._transport.close()


_get_buffer = WSProtocol.get_buffer  # looked up once: this is called for each read


class _Engine(WSProtocol):
    """Read in slices: the engine's buffer grows with a flood, which would be parsed in one go."""

    def get_buffer(self, sizehint: int) -> memoryview:
        return _get_buffer(self, sizehint)[:READ_SIZE]  # type: ignore[no-any-return]


class _TappedEngine(_Engine):
    """Show the data chain every chunk before the engine parses it, in place, as it does."""

    def get_buffer(self, sizehint: int) -> memoryview:
        self._chunk = super().get_buffer(sizehint)
        return self._chunk

    def buffer_updated(self, nbytes: int) -> None:
        self.listener.dataReceived(bytes(self._chunk[:nbytes]))
        super().buffer_updated(nbytes)


def _feed(engine: Any, data: bytes) -> None:
    """Let the engine read bytes that were read for it, past the tap of the data chain."""
    while data:
        buffer = WSProtocol.get_buffer(engine, len(data))
        size = min(len(buffer), len(data))
        buffer[:size] = data[:size]
        WSProtocol.buffer_updated(engine, size)
        data = data[size:]


def parse_request(head: bytes, peer: str = "") -> Request:
    """Parse the head of a request, without the empty line (RFC 9112 sections 3 and 5).

    Raises ProtocolError with the status to answer.
    """
    request_line, *lines = head.decode("latin-1").lstrip("\r\n").split("\r\n")
    match = _request_line(request_line)
    if match is None:
        raise ProtocolError("this is not an HTTP request")
    method, target, major, minor = match.groups()
    if major != "1":
        raise ProtocolError("only HTTP/1.1 is spoken here", 505)
    headers = []
    for line in lines:
        header = _header_line(line)
        if header is None:
            raise ProtocolError("a header is malformed")
        # HTTP/1.0 has no Upgrade: a proxy that speaks it does not mean what it passes on.
        if minor != "0" or header[1].lower() != "upgrade":
            headers.append((header[1], header[2].strip("\t ")))
    request = Request(method, _origin_form(target), headers, peer)
    if minor != "0" and len(request.headers.getall("Host", [])) != 1:
        raise ProtocolError("exactly one Host header is needed")
    return request


def _origin_form(target: str) -> str:
    """Return path and query of a request target (RFC 9112 section 3.2)."""
    if target.startswith("/") or target == "*":
        return target
    try:
        parts = urlsplit(target)
    except ValueError:
        raise ProtocolError("the request target is malformed") from None
    if parts.scheme.lower() not in ("http", "https", "ws", "wss") or not parts.netloc:
        raise ProtocolError("the request target is malformed")
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _asks_for_websocket(request: Request) -> bool:
    return "websocket" in _tokens(request, "Upgrade")


def _check_upgrade(request: Request) -> None:
    """Raise ProtocolError unless the request is a client's opening handshake (RFC 6455 4.2.1)."""
    headers = request.headers
    if request.method != "GET":
        raise ProtocolError("a WebSocket handshake is a GET request", 405)
    if "Host" not in headers:
        raise ProtocolError("exactly one Host header is needed")
    if "upgrade" not in _tokens(request, "Connection"):
        raise ProtocolError("the header `Connection: Upgrade` is missing")
    if headers.getall("Sec-WebSocket-Version", []) != ["13"]:
        raise ProtocolError("only version 13 of WebSocket is spoken here", 426)
    keys = headers.getall("Sec-WebSocket-Key", [])
    if len(keys) != 1 or not _is_key(keys[0]):
        raise ProtocolError("the header Sec-WebSocket-Key must be 16 bytes in base64, once")
    if "Transfer-Encoding" in headers or headers.get("Content-Length", "0").strip("0"):
        raise ProtocolError("a WebSocket handshake has no body")


def _tokens(request: Request, header: str) -> set[str]:
    values = request.headers.getall(header, [])
    return {token.strip().lower() for value in values for token in value.split(",")}


def _is_key(value: str) -> bool:
    try:
        return len(b64decode(value, validate=True)) == 16
    except ValueError:
        return False


def _upgrade_response(connection: Connection, request: Request) -> Any:
    headers = dict(connection.response_headers)
    if connection.subprotocol is not None:
        if connection.subprotocol not in request.subprotocols:
            raise ValueError(f"subprotocol {connection.subprotocol!r} was not offered")
        headers["Sec-WebSocket-Protocol"] = connection.subprotocol
    for name, value in headers.items():
        _check_header(name, value)
    return WSUpgradeResponse.create_101_response(headers)


def _check_header(name: object, value: object) -> None:
    if not (isinstance(name, str) and isinstance(value, str)):
        raise ValueError(f"header {name!r}: name and value must be str")
    if not _token(name) or not _header_value(value):
        raise ValueError(f"header {name!r} is not valid HTTP")


class _EngineLog:
    """Take the log of the engine of one connection.

    What peers do wrong is no news, what we do wrong is. And it is the one way to learn that the
    engine gives a connection up: it logs an error before it sends the close frame.
    """

    __slots__ = ("_connection",)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def isEnabledFor(self, level: int) -> bool:
        return False

    def info(self, *args: object) -> None:
        pass

    debug = log = info

    def warning(self, message: str, *args: object) -> None:
        logger.debug(message, *args)

    def error(self, message: str, *args: object) -> None:
        logger.debug(message, *args)
        self._connection.engine_gives_up()

    def exception(self, message: str, *args: object) -> None:
        logger.exception(message, *args)
        self._connection.engine_gives_up()
