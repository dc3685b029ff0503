"""What a service manager like systemd hears from the server, and what it hands over.

Each is one datagram, or one variable, and a library for it would need a compiler or is older than
what it implements.
"""

from __future__ import annotations

import faulthandler
import os
import socket
from collections.abc import Callable, MutableMapping
from contextlib import suppress

from ..typing import StartError

__all__ = ["ServiceManager", "activated_sockets"]

FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
STATUS_BEATS = 10  # of the heartbeat, between two status lines
Environment = MutableMapping[str, str]


class ServiceManager:
    """Tell a service manager how the server is (sd_notify(3)); silent where there is none.

    The variables that it has set are for this process alone, and are removed from `environ`.
    """

    def __init__(self, environ: Environment, count_clients: Callable[[], int]) -> None:
        path = environ.pop("NOTIFY_SOCKET", "")
        interval, pid = environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        self._has_watchdog = bool(interval) and _is_for_us(pid)
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._count_clients = count_clients
        self._beats = 0
        self._state = "serving"
        self._socket: socket.socket | None = None
        if self._has_watchdog:
            with suppress(RuntimeError):  # without stderr
                faulthandler.enable()  # its SIGABRT gets a traceback of what is stuck
        if path:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def ready(self) -> None:
        """Say that the server serves."""
        self._notify("READY=1", self._status())

    def stopping(self) -> None:
        """Say that the server is about to stop."""
        self._state = "draining"
        self._notify("STOPPING=1", self._status())

    def beat(self, lag: float) -> None:
        """Say that the event loop lives, and now and then for how many; for the heartbeat.

        The watchdog of systemd restarts a server whose event loop is stuck, and so says nothing.
        """
        self._beats += 1
        if self._has_watchdog:
            self._notify("WATCHDOG=1")
        if self._beats % STATUS_BEATS == 0:
            self._notify(self._status())

    def close(self) -> None:
        """Say nothing any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _status(self) -> str:
        return f"STATUS={self._state}, {self._count_clients():,} clients"

    def _notify(self, *lines: str) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it may be busy, or gone: no reason to stop
                self._socket.sendto("\n".join(lines).encode(), self._address)


def activated_sockets(environ: Environment) -> list[socket.socket]:
    """Return the listening sockets that a service manager has passed on (sd_listen_fds(3)).

    Raises StartError for what cannot be accepted from. The variables are removed from `environ`.
    """
    count, pid = environ.pop("LISTEN_FDS", ""), environ.pop("LISTEN_PID", "")
    environ.pop("LISTEN_FDNAMES", None)
    if not count or not _is_for_us(pid):
        return []
    if not count.isdecimal():
        raise StartError(f"LISTEN_FDS={count} is not a number of sockets")
    last = FIRST_DESCRIPTOR + int(count)
    return [_listening_socket(descriptor) for descriptor in range(FIRST_DESCRIPTOR, last)]


def _listening_socket(descriptor: int) -> socket.socket:
    what = f"file {descriptor}, which the service manager has passed on (LISTEN_FDS),"
    try:
        sock = socket.socket(fileno=descriptor)
        is_listening = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError as error:
        raise StartError(f"{what} is not a socket: {error.strerror}") from None
    if sock.type != socket.SOCK_STREAM or not is_listening:
        sock.close()
        raise StartError(f"{what} is not a socket that streams can be accepted from")
    sock.setblocking(False)
    sock.set_inheritable(False)
    return sock


def _is_for_us(pid: str) -> bool:
    return pid in ("", str(os.getpid()))
