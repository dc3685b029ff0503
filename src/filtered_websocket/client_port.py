"""The port of the clients: from listening sockets to connections, and the drain at its end.

What belongs here: how its parts are put together. What does not: the parts (`sockets`, `tls`,
`listener`, `server_protocol.handshake`, `operation.drain`).
"""

from __future__ import annotations

import asyncio
import socket
from argparse import Namespace
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

from .listener import Connect, Listener
from .operation.drain import NEWCOMERS, Drain
from .operation.readiness import Readiness
from .server import FilteredWebSocketFactory
from .server_protocol.forwarded import TrustedProxies
from .server_protocol.handshake import Acceptor
from .server_protocol.http import PlainPages
from .server_protocol.limits import Limits
from .server_protocol.origins import OriginPolicy
from .sockets import are_loopback, leave_to_others, listening_sockets
from .tls import Certificate
from .typing import StartError

__all__ = ["client_port", "origin_policy"]

# Bytes that each TLS connection holds twice, for what it reads and writes. The engine's default of
# 257 KiB is 16 records: what was written to once stays resident, also after the connection.
TLS_BUFFER = 2 * (16 * 1024 + 64)


@asynccontextmanager
async def client_port(
    factory: FilteredWebSocketFactory,
    options: Namespace,
    certificate: Certificate | None,
    readiness: Readiness,
    activated: list[socket.socket],
) -> AsyncIterator[list[socket.socket]]:
    """Accept connections; on leaving stop to, and close those there are.

    Yields the sockets that listen: those of the options, or `activated` where there are any. Raises
    StartError.
    """
    drain = Drain(factory, options.drain_seconds, options.drain_code)
    try:
        with _sockets(options, activated) as sockets:
            acceptor = _acceptor(factory, options, sockets, readiness)
            connect = _connector(acceptor, certificate, factory.limits)
            listener = Listener(
                sockets, connect, factory.spawn, acceptor.has_room, factory.counters
            )
            watch = None if certificate is None else factory.spawn(certificate.watch())
            try:
                yield sockets
            finally:
                if options.reuse_port and not activated:
                    await leave_to_others(sockets)
                # What waits on sockets of the service manager is for the next server.
                listener.stop(take_rest=not activated)
                if watch is not None:
                    watch.cancel()
        await drain.run(lambda: listener.is_connecting or acceptor.has_newcomers(NEWCOMERS))
        listener.close()
        acceptor.close()
    finally:
        await factory.close(drain.grace())


def _sockets(
    options: Namespace, activated: list[socket.socket]
) -> AbstractContextManager[list[socket.socket]]:
    if activated:
        return nullcontext(activated)
    return listening_sockets(
        options.host, options.port, options.unix_socket, shared=options.reuse_port
    )


def _acceptor(
    factory: FilteredWebSocketFactory,
    options: Namespace,
    sockets: Sequence[socket.socket],
    readiness: Readiness,
) -> Acceptor:
    return Acceptor(
        factory,
        limits=factory.limits,
        origins=origin_policy(options, sockets),
        pages=PlainPages(console=not options.no_console, not_ready=readiness.why_not),
        proxies=TrustedProxies(options.trusted_proxies) if options.trusted_proxies else None,
    )


def _connector(acceptor: Acceptor, certificate: Certificate | None, limits: Limits) -> Connect:
    """Return what gives an accepted socket its transport, the cheaper one for the case.

    aiofastnet's are faster than the event loop's own with TLS, and cost 5 KiB more without.
    """
    loop = asyncio.get_running_loop()

    async def connect(accepted: socket.socket) -> None:
        await loop.connect_accepted_socket(acceptor, accepted)

    if certificate is None:
        return connect
    import aiofastnet

    async def connect_with_tls(accepted: socket.socket) -> None:
        await aiofastnet.connect_accepted_socket(
            loop,
            acceptor,
            accepted,
            ssl=certificate.context,
            ssl_handshake_timeout=limits.handshake_timeout,
            ssl_incoming_bio_size=TLS_BUFFER,
            ssl_outgoing_bio_size=TLS_BUFFER,
        )

    return connect_with_tls


def origin_policy(options: Namespace, sockets: Sequence[socket.socket]) -> OriginPolicy:
    """Return which pages may connect to these sockets. Raises StartError."""
    try:
        return OriginPolicy(options.origins, loopback_only=are_loopback(sockets))
    except ValueError as error:
        raise StartError(f"--origins: {error}") from None
