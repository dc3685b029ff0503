"""A port of its own for operators: what `pages` answers, beside the port of the clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from ..listener import Listener
from ..server import FilteredWebSocketFactory
from ..server_protocol.handshake import Acceptor
from ..server_protocol.limits import Limits
from ..server_protocol.origins import OriginPolicy
from ..sockets import are_loopback, listening_sockets
from .heartbeat import Heartbeat
from .metrics import ServerCollector, make_registry
from .pages import NoConnections, OperationPages

__all__ = ["serving_metrics"]

OPTIONS = ("--metrics_host", "--metrics_port")
SOCKETS = 16  # open at once; they are some of the descriptors that are no client's


@asynccontextmanager
async def serving_metrics(
    factory: FilteredWebSocketFactory,
    host: str | None,
    port: int,
    heartbeat: Heartbeat,
    not_ready: Callable[[], str],
) -> AsyncIterator[list[socket.socket]]:
    """Answer operators while the block runs; yield the sockets that listen.

    `not_ready` says why the server is not ready, "" when it is. Raises StartError.
    """
    collector = ServerCollector(factory, not_ready)
    heartbeat.listeners.append(collector.loop_lag.observe)
    with listening_sockets(host, port, options=OPTIONS) as sockets:
        loopback_only = are_loopback(sockets)
        acceptor = Acceptor(
            NoConnections(factory.spawn),
            limits=Limits(sockets=SOCKETS),
            origins=OriginPolicy(None, loopback_only=loopback_only),
            pages=OperationPages(make_registry(collector), not_ready, loopback_only=loopback_only),
            why_full="all that the metrics port has: more are refused; see who keeps them open",
        )
        loop = asyncio.get_running_loop()

        async def connect(accepted: socket.socket) -> None:
            await loop.connect_accepted_socket(acceptor, accepted)

        listener = Listener(sockets, connect, factory.spawn, acceptor.has_room)
        try:
            yield sockets
        finally:
            listener.close()
            acceptor.close()
