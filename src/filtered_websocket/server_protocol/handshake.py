"""From the first byte of a connection to an open WebSocket, or to an HTTP answer.

A connection begins as a `Handshake`, which collects the head of one HTTP request and decides
(RFC 6455 section 4.2). Then the `Connection` takes over the transport, and the `Handshake` is gone.
All handshakes of a server share one `Acceptor`.

What belongs here: who may open a connection, and when. What does not: parsing the request
(`request`), the answers to those that want no WebSocket (`http`), and what follows (`server`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Coroutine, Hashable, Mapping
from typing import Any
from typing import Protocol as Interface

from ..counters import Counters
from ..typing import RejectHandshake, Request
from .admission import RETRY, Admission
from .deflate import negotiate
from .exception import ProtocolError
from .forwarded import HOPS, TrustedProxies
from .http import Pages, response, upgrade_required
from .limits import Limits
from .origins import OriginPolicy
from .parser import ParserPool
from .request import (
    accept_response,
    asks_for_websocket,
    check_header,
    check_upgrade,
    parse_request,
)
from .server import Outlet, Protocol, end_writing, resume_reading
from .turns import Turns

__all__ = ["Acceptor", "Connection", "Factory"]

logger = logging.getLogger(__name__)

ANSWERED = 16  # sockets beyond the limit that still get an answer
SWEEP = 8  # handshakes that are given up in one turn of the event loop
TLS_HANDSHAKE = 0x16  # the first byte of TLS, and of no HTTP request (RFC 8446 section 5.1)
TOO_LONG = "the handshake took too long"
ROOM = 0.95  # the part of the limit below which the log tells that there is room again
NO_FILES = (
    "all that the limit on open files leaves: more are refused; raise the limit (ulimit -n, "
    "LimitNOFILE)"
)


class Connection(Protocol):
    """What a handshake needs of a connection beyond the wire."""

    __slots__ = ("_acceptor", "_address", "request", "response_headers", "subprotocol")

    request: Request
    """The `Request` that asked for this connection; None while only data filters have run."""
    response_headers: dict[str, str]
    """Headers for the answer to the request, such as Set-Cookie; for handshake filters."""
    subprotocol: str | None
    """One of `request.subprotocols`, for handshake filters to choose (RFC 6455 section 1.9)."""

    def __init__(self, users: Outlet, limits: Limits, parsers: ParserPool, turns: Turns) -> None:
        super().__init__(users, limits, parsers, turns)
        self._acceptor: Acceptor | None = None
        self._address: str | None = None

    def onHandshake(self, request: Request) -> bool | Awaitable[bool]:
        """Tell whether the connection may open, at once or later; raise `RejectHandshake`."""
        return True

    def dataReceived(self, data: bytes) -> None:
        """Handle bytes as they were read; called when the factory says so."""

    def come_from(self, acceptor: Acceptor, address: str | None) -> None:
        """Remember whom to tell that the socket is free again."""
        self._acceptor = acceptor
        self._address = address

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._acceptor is not None:
            self._acceptor.lost(self._address)


class Factory(Interface):
    """What a handshake needs of the server that it is for."""

    @property
    def wants_raw_data(self) -> bool: ...
    @property
    def compresses(self) -> bool: ...
    @property
    def counters(self) -> Counters: ...
    def buildProtocol(self, address: str) -> Connection: ...
    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]: ...


class Acceptor:
    """Make the `Handshake` for each accepted socket, count them, end those that take too long."""

    def __init__(
        self,
        factory: Factory,
        *,
        limits: Limits,
        origins: OriginPolicy,
        pages: Pages,
        proxies: TrustedProxies | None = None,
        why_full: str = NO_FILES,
    ) -> None:
        """Log `why_full` after the number of sockets when `limits` allow no more of them."""
        self.factory = factory
        self.limits = limits
        self.origins = origins
        self.pages = pages
        self.proxies = proxies
        self.admission = Admission(limits.connections, limits.connections_per_address)
        if factory.compresses:
            negotiate(["permessage-deflate"])  # loads what it needs before the first client comes
        # One buffer serves all: it is filled and emptied within one call of the event loop.
        self.read_buffer = memoryview(bytearray(16 * 1024))
        self.is_closed = False
        self.counters = factory.counters
        self._why_full = why_full
        self._is_full = False
        self._deadlines: dict[Handshake, float] = {}
        self._sweep_at: asyncio.TimerHandle | None = None

    def __call__(self) -> Handshake:
        return Handshake(self)

    def made(self) -> bool:
        """Count a socket; tell whether the limit on open files leaves it a place."""
        self.counters.sockets += 1
        limit = self.limits.sockets
        if limit is None or self.counters.sockets <= limit:
            return True
        self._tell_full()
        return False

    def has_room(self, connecting: int) -> bool:
        """Tell whether there is room for one more beside those whose TLS handshake is under way."""
        limit = self.limits.sockets
        if limit is None or self.counters.sockets + connecting < limit + ANSWERED:
            return True
        self._tell_full()
        return False

    def _tell_full(self) -> None:
        if not self._is_full:
            self._is_full = True
            logger.warning("%d sockets are open, %s", self.limits.sockets, self._why_full)

    def lost(self, address: str | None) -> None:
        """Forget a socket, and the connection from `address` that it was, unless it was none."""
        self.counters.sockets -= 1
        if address is not None:
            self.admission.leave(address)
        if self._is_full and self.counters.sockets <= self.limits.sockets * ROOM:  # type: ignore[operator]
            self._is_full = False
            about = {"cause": ("room again", self._why_full)}  # a small limit is met often
            logger.info("there is room for more sockets again", extra=about)

    def watch(self, handshake: Handshake) -> None:
        """End `handshake` when it is still there after the time limit."""
        loop = asyncio.get_running_loop()
        self._deadlines.pop(handshake, None)
        self._deadlines[handshake] = deadline = loop.time() + self.limits.handshake_timeout
        if self._sweep_at is None:
            self._sweep_at = loop.call_at(deadline, self._sweep)

    def forget(self, handshake: Handshake) -> None:
        self._deadlines.pop(handshake, None)

    def has_newcomers(self, seconds: float) -> bool:
        """Tell whether a handshake is under way that has begun within the last `seconds`."""
        latest = next(reversed(self._deadlines.values()), 0.0)
        now = asyncio.get_running_loop().time()
        return latest - self.limits.handshake_timeout + seconds > now

    def close(self) -> None:
        """Cut off all connections that are not open yet, and those that still come."""
        self.is_closed = True
        if self._sweep_at is not None:
            self._sweep_at.cancel()
        for handshake in list(self._deadlines):
            handshake.abort()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        for _ in range(SWEEP):
            handshake, deadline = next(iter(self._deadlines.items()), (None, 0.0))
            if handshake is None or deadline > loop.time():
                break
            self.forget(handshake)
            handshake.time_out()
        # One timer, also when timing out has put a handshake back, to wait for its client to close.
        deadline = next(iter(self._deadlines.values()), 0.0)
        self._sweep_at = loop.call_at(deadline, self._sweep) if deadline else None


class Handshake(asyncio.BufferedProtocol):
    """Read one HTTP request and answer it, or hand the transport to a connection."""

    __slots__ = (
        "_acceptor",
        "_address",
        "_agreed",
        "_answered",
        "_connection",
        "_head",
        "_peer",
        "_task",
        "_transport",
    )

    _transport: asyncio.Transport

    def __init__(self, acceptor: Acceptor) -> None:
        self._acceptor = acceptor
        self._address: str | None = None  # while it counts as a connection
        self._agreed: tuple[str, int] | None = None  # on compression: the answer, window bits
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
            advice = "the request came in time, an async handshake filter has not ended"
            self._refuse("filter_timeout", 408, TOO_LONG, advice=advice)
        else:
            self._refuse("timeout", 408, TOO_LONG, advice="the request was not whole")

    # The event loop calls these

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        has_place = self._acceptor.made()
        if self._acceptor.is_closed:
            transport.abort()
            return
        address = transport.get_extra_info("peername")
        self._peer = address[0] if isinstance(address, tuple) else ""
        self._acceptor.watch(self)
        if not has_place:
            self._refuse("no_room", 503, "the server has no room for more", RETRY)
            return
        if self._acceptor.factory.wants_raw_data:
            self._build_connection()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._answered:
            self._acceptor.counters.abandoned += 1
        self._acceptor.forget(self)
        self._acceptor.lost(self._address)
        if self._connection is not None:
            self._connection.will_not_open()
            self._connection.transport = None
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
        end = self._head.find(b"\r\n\r\n", searched, self._acceptor.limits.header_size)
        if self._head[0] == TLS_HANDSHAKE:  # first, so that it does not matter how the bytes come
            self._refuse(
                "tls",
                400,
                "this is TLS, and the server speaks plain HTTP here",
                advice="let the client use ws://, or start with -key and -cert",
            )
        elif end >= 0:
            self._answer(bytes(self._head[:end]))
        elif len(self._head) > self._acceptor.limits.header_size:
            self._refuse("header_size", 431, "the request is too large")

    # What to answer

    def _answer(self, head: bytes) -> None:
        try:
            request = parse_request(head, self._peer)
            if self._acceptor.proxies is not None:
                peer = self._acceptor.proxies.client(self._peer, request.headers)
                self._peer = request.peer = peer
            if not (self._acceptor.pages.upgrades and asks_for_websocket(request)):
                self._send(self._acceptor.pages.answer(request))
                self._acceptor.counters.pages += self._answered
                return
            check_upgrade(request)
            self._check_origin(request)
            if self._acceptor.factory.compresses:
                self._agreed = negotiate(request.headers.getall("Sec-WebSocket-Extensions", []))
            self._enter(request)
        except ProtocolError as error:
            self._refuse(error.kind, error.status, error.reason, error.headers, error.advice)
            return
        self._address = request.peer
        self._ask_filters(request, len(head) + 4)

    def _check_origin(self, request: Request) -> None:
        origin = request.headers.get("Origin")
        if not self._acceptor.origins.allows(origin, request.headers.get("Host")):
            raise ProtocolError(
                "pages of this origin may not connect here",
                403,
                kind="origin",
                advice=f"to let them, start with --origins {_printable(origin)}",
            )

    def _enter(self, request: Request) -> None:
        try:
            self._acceptor.admission.enter(request.peer)
        except ProtocolError as error:
            if error.kind == "per_address" and any(name in request.headers for name in HOPS):
                error.advice = (
                    "it has forwarding headers: a proxy's count only when "
                    "--trusted_proxies names it"
                )
            raise

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
        connection.hold_reading()
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
        self._conclude(accepted, connection, request, head_size)
        connection.release_reading()

    def _conclude(
        self, accepted: bool, connection: Connection, request: Request, head_size: int
    ) -> None:
        if self._answered or self._transport.is_closing():
            return
        if not accepted:
            self._refuse("filter_failed", 500, "the server could not check this connection")
            return
        try:
            answer = self._accept(connection, request)
        except (ValueError, TypeError) as error:
            self._tell_unsendable(error)
            self._refuse("filter_failed", 500, "the server could not answer this connection")
            return
        self._hand_over(connection, answer, bytes(self._head[head_size:]))

    def _accept(self, connection: Connection, request: Request) -> bytes:
        """Return the 101 with what the handshake filters have chosen."""
        headers = dict(connection.response_headers)
        if connection.subprotocol is not None:
            if connection.subprotocol not in request.subprotocols:
                raise ValueError(f"subprotocol {connection.subprotocol!r} was not offered")
            headers["Sec-WebSocket-Protocol"] = connection.subprotocol
        for name, value in headers.items():
            check_header(name, value)
        if self._agreed is not None:
            headers["Sec-WebSocket-Extensions"], connection.window_bits = self._agreed
        return accept_response(request, headers)

    def _hand_over(self, connection: Connection, answer: bytes, rest: bytes) -> None:
        """Open the connection, which gets the transport and what followed the request."""
        self._acceptor.forget(self)
        self._answered = True
        connection.come_from(self._acceptor, self._address)
        self._transport.set_protocol(connection)
        self._transport.write(answer)
        connection.open(self._transport)
        if rest:
            connection.receive(memoryview(rest))

    def _build_connection(self) -> Connection:
        self._connection = self._acceptor.factory.buildProtocol(self._peer)
        self._connection.transport = self._transport
        return self._connection

    def _reject(self, rejection: RejectHandshake) -> None:
        try:
            for name, value in rejection.headers.items():
                check_header(name, value)
        except ValueError as error:
            self._tell_unsendable(error)
            rejection.headers.clear()
        self._refuse(
            "filter_rejected", rejection.status, rejection.reason, rejection.headers, by=rejection
        )

    def _refuse(
        self,
        kind: str,
        status: int,
        reason: str,
        headers: Mapping[str, str] | None = None,
        advice: str = "",
        by: RejectHandshake | None = None,
    ) -> None:
        if self._answered:
            return  # with a 408, before the filters were done
        # On a port of operators it is no client who is refused, often a browser that waits.
        logger.log(
            logging.INFO if self._acceptor.pages.upgrades else logging.DEBUG,
            "refused: %d %s%s",
            status,
            by or reason,  # of an error the log hides secrets of the client that a filter names
            advice and f"; {advice}",
            extra=self._about(("refused", status, reason)),
        )
        if status == 426:
            fields = {"Sec-WebSocket-Version": "13"} | dict(headers or {})
            self._send(upgrade_required(reason, fields))
        else:
            self._send(response(status, reason, headers))
        self._acceptor.counters.refusals[status, kind] += self._answered

    def _tell_unsendable(self, error: Exception) -> None:
        about = self._about(("unsendable", type(error)))
        logger.error("a handshake filter set what cannot be sent: %s", error, extra=about)

    def _about(self, cause: Hashable) -> dict[str, Any]:
        return {"cause": cause, "connection": self._connection, "peer": self._peer}

    def _send(self, answer: bytes) -> None:
        if self._answered or self._transport.is_closing():
            return
        self._answered = True
        self._head.clear()
        if self._address is not None:
            self._acceptor.admission.leave(self._address)
            self._address = None
        if self._connection is not None:
            self._connection.will_not_open()
        self._transport.write(answer)
        # Closing with unread bytes would reset the connection and might lose the answer: let the
        # client close, within the time limit.
        end_writing(self._transport)
        if not self._transport.is_closing():
            resume_reading(self._transport)
        self._acceptor.watch(self)


def _printable(text: str | None) -> str:
    """Return what a client has made up so that it may be logged."""
    return ascii(text)[1:-1][:100]
