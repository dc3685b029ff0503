"""Accept connections, and wait where there is no descriptor left for one.

The servers of the event loop and of aiofastnet are not used for this. At the limit of descriptors
they log each turn or spin, and they keep the TLS context that they were given.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from .counters import Counters

__all__ = ["Listener"]

logger = logging.getLogger(__name__)

Connect = Callable[[socket.socket], Coroutine[Any, Any, None]]
Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]

# Of one socket in one turn of the event loop. It takes some turns until they count, and a crowd
# must meet the limit of sockets before that of descriptors.
ACCEPTS = 8
OUT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
PAUSE = 1.0  # seconds
REST = 4096  # what is accepted at last: the backlog is not longer, and new clients may still come
EPISODE = 60.0  # seconds without running out, after which it is news again


class Listener:
    """Accept from listening sockets; `connect` makes a connection of each accepted one."""

    def __init__(
        self,
        sockets: Sequence[socket.socket],
        connect: Connect,
        spawn: Spawn,
        has_room: Callable[[int], bool] = lambda connecting: True,
        counters: Counters | None = None,
    ) -> None:
        """Close accepted sockets at once when `has_room` says so of how many are being made."""
        self._counters = counters or Counters()
        self._has_room = has_room
        self._sockets = sockets
        self._connect = connect
        self._spawn = spawn
        self._loop = asyncio.get_running_loop()
        self._connecting: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        self._ran_out_at = -EPISODE
        self._start()

    @property
    def is_connecting(self) -> bool:
        """Whether a connection is being made, as by the handshake of TLS."""
        return bool(self._connecting)

    def stop(self, *, take_rest: bool) -> None:
        """Accept no more; connections that are being made go on.

        `take_rest` accepts what waits in the kernel before: it would be reset with the sockets.
        """
        if take_rest:
            for sock in self._sockets:
                self._accept(sock, most=REST)
        self._stop()
        self._sockets = ()
        if self._pause is not None:
            self._pause.cancel()

    def close(self) -> None:
        """Accept no more, and give up connections that are not made yet."""
        self.stop(take_rest=False)
        for task in self._connecting:
            task.cancel()

    def _start(self) -> None:
        for sock in self._sockets:
            self._loop.add_reader(sock, self._accept, sock)

    def _stop(self) -> None:
        for sock in self._sockets:
            self._loop.remove_reader(sock)

    def _accept(self, sock: socket.socket, most: int | None = None) -> None:
        for _ in range(most or ACCEPTS):
            try:
                accepted, _ = sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno not in OUT_OF:
                    continue  # accept(2) reports what is wrong with the one connection, too
                self._wait(error)
                return
            if not self._has_room(len(self._connecting)):
                accepted.close()
                continue
            accepted.setblocking(False)
            if sock.family != socket.AF_UNIX:
                # Plain asyncio leaves it to us for accepted sockets.
                accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            task = self._spawn(self._make(accepted))
            self._connecting.add(task)
            task.add_done_callback(self._made)
            self._counters.connecting += 1

    def _made(self, task: asyncio.Task[None]) -> None:
        self._connecting.discard(task)
        self._counters.connecting -= 1

    async def _make(self, accepted: socket.socket) -> None:
        try:
            await self._connect(accepted)
        except OSError as error:  # how peers break their connections is no news
            logger.debug("a connection was not made: %s", error)
            accepted.close()
            self._counters.abandoned += 1
            # It refers to frames that refer to the transport, 50 KiB with TLS, which keeps it.
            error.__traceback__ = None

    def _wait(self, error: OSError) -> None:
        """Leave connections in the backlog of the kernel for a while."""
        self._stop()
        self._pause = self._loop.call_later(PAUSE, self._start)
        if self._loop.time() - self._ran_out_at >= EPISODE:
            logger.error("cannot accept more connections for now: %s", _advice(error))
        self._ran_out_at = self._loop.time()


def _advice(error: OSError) -> str:
    if error.errno == errno.EMFILE:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        return f"{limit} files are open, the limit of a process; raise it with ulimit -n"
    if error.errno == errno.ENFILE:
        return "the limit of open files of the machine is reached; raise fs.file-max with sysctl"
    return error.strerror or str(error)
