"""A socket between a client and the server, both in one event loop.

A test must not look before the server has done what it should, and must not sleep. So a wire counts
the bytes that the server has handled, and has the server send a ping of the wire's own behind all
that it has sent. What the server reads is exactly what the test sends, as data filters see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ClassVar

from ..frames import PING, encode_control
from ..server import FilteredWebSocket, FilteredWebSocketFactory
from .client import Client, parse_response
from .filter_run import PATIENCE

__all__ = ["SocketWire", "notice"]

OWN_PING = b"the client has all until here"

Address = tuple[str, int]


class _Noticed(FilteredWebSocket):
    """Tell which client it is for, and how far it has come with what that sends."""

    __slots__ = ()

    opened: ClassVar[dict[Address, _Noticed]]

    def open(self, transport: asyncio.Transport) -> None:
        self._handled_bytes = 0
        self.opened[_address(transport, "peername")] = self
        super().open(transport)

    def buffer_updated(self, nbytes: int) -> None:
        super().buffer_updated(nbytes)
        self._handled_bytes += nbytes

    @property
    def is_held_by_filters(self) -> bool:
        """Whether filters, or `--rate`, take so long that it reads nothing meanwhile."""
        return self._is_backed_up

    def has_handled(self, nbytes: int) -> bool:
        """Tell whether it has come so far, as far as its filters let it."""
        return self._is_backed_up or (self._handled_bytes == nbytes and not self._unread)


def notice(server: FilteredWebSocketFactory) -> dict[Address, _Noticed]:
    """Let connections tell how far they are; return them by the addresses of their clients."""
    opened: dict[Address, _Noticed] = {}
    bases = (_Noticed, server._connection_class)
    server._connection_class = type("Connection", bases, {"__slots__": (), "opened": opened})
    return opened


class SocketWire(asyncio.Protocol):
    """Carry bytes over a socket, and know when the other end has handled them."""

    _connection: _Noticed
    _transport: asyncio.Transport

    def __init__(self, run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
        """`run` runs a coroutine in the event loop, and returns when it is done."""
        self.client: Client | None = None
        self.is_stalled = False  # the client does not read
        self._run = run
        self._answer = b""  # as long as there is no client
        self._answered = asyncio.Event()
        self._lost = asyncio.Event()
        self._is_marked = False  # the own ping has come
        self._sent_bytes = 0  # since the handshake

    @property
    def connection(self) -> FilteredWebSocket:
        return self._connection

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    # For the thread of the test

    def do(self, action: Callable[[], None]) -> None:
        self._run(self._do(action))

    def refresh(self) -> None:
        if not self.is_lost:
            self._run(self._settle())

    # For the event loop

    async def open(self, request: bytes, opened: dict[Address, _Noticed]) -> Client:
        """Send a handshake; return the client when it has all that it gets at once.

        Raises Refused.
        """
        self._transport.write(request)
        await self._answered.wait()
        if not self._answer.startswith(b"HTTP/1.1 101 "):
            await self._lost.wait()
        headers, rest = parse_response(self._answer)
        self._connection = opened.pop(self._own_address)
        client = Client(self, headers, rest)
        await self._settle()
        return client

    def deliver(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._sent_bytes += len(data)
            self._transport.write(data)

    def abort(self) -> None:
        self.is_stalled = False
        self._transport.abort()

    def stall(self) -> None:
        if not self.is_stalled and not self._transport.is_closing():
            self.is_stalled = True
            self._transport.pause_reading()

    def unstall(self) -> None:
        if self.is_stalled:
            self.is_stalled = False
            self._transport.resume_reading()

    def is_own_ping(self, payload: bytes) -> bool:
        self._is_marked = payload == OWN_PING
        return self._is_marked

    async def leave(self) -> None:
        """End the connection; return when the socket is closed."""
        self.abort()
        await self._lost.wait()

    async def _do(self, action: Callable[[], None]) -> None:
        action()
        await self._settle()

    async def _settle(self) -> None:
        """Return when the server has handled what was sent, and all that it has sent is here."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self._wait_till_handled()
                if not self.is_stalled:
                    await self._wait_till_here()
        except TimeoutError:
            raise TimeoutError(f"the server has not come along for {PATIENCE:g} seconds") from None

    async def _wait_till_handled(self) -> None:
        server = self._connection
        await _turns_until(
            lambda: not server.is_open or self.is_lost or server.has_handled(self._sent_bytes)
        )

    async def _wait_till_here(self) -> None:
        server = self._connection
        server.users.flush()
        await _turns_until(
            lambda: not server.is_open or self._has_ended() or not server.is_backed_up
        )
        self._is_marked = False
        if server.is_open:
            server.write(encode_control(PING, OWN_PING))
        await _turns_until(lambda: self._is_marked or self._has_ended())

    def _has_ended(self) -> bool:
        if self._connection.is_held_by_filters:  # it does not see its client go
            return self.is_lost
        return self.is_lost and self._connection.transport is None

    # The event loop calls these

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._own_address = _address(transport, "sockname")

    def data_received(self, data: bytes) -> None:
        if self.client is not None:
            self.client.on_bytes(data)
            return
        self._answer += data
        if b"\r\n\r\n" in self._answer:
            self._answered.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost.set()
        self._answered.set()
        if self.client is not None:
            self.client.on_end()


async def _turns_until(condition: Callable[[], bool]) -> None:
    """Let the event loop go on; nothing tells when `condition` is true, and it is soon."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


def _address(transport: asyncio.Transport, of: str) -> Address:
    host, port, *_ = transport.get_extra_info(of)
    return host, port
