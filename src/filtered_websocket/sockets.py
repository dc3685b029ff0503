"""The sockets that a server listens on: loopback, addresses, or a Unix socket.

What belongs here: opening and closing them, also where one server takes over from another. What
does not: accepting (`listener`).
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import fcntl
import os
import socket
import stat
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from .server_protocol.origins import is_loopback
from .typing import StartError

__all__ = [
    "are_loopback",
    "authority",
    "check_address",
    "leave_to_others",
    "listening_sockets",
]

Address = tuple[socket.AddressFamily, str]

FREE_PORT_TRIES = 10
BACKLOG = 1024  # connections that the kernel may hold until they are accepted
UNIX_SOCKET_MODE = 0o666
HANDOVER = 0.5  # seconds: the longest round trip of a client whose connection is being made

SO_ATTACH_FILTER = 26  # of socket(7); Python has no name for it
# In classic BPF, on the header of TCP, whose byte 13 has the flags: nothing is kept (0 bytes) of a
# packet with SYN and without ACK, of any other all.
DROP_SYN = (
    (0x30, 0, 0, 13),  # load the byte
    (0x54, 0, 0, 0x12),  # and it with SYN | ACK
    (0x15, 0, 1, 0x02),  # equal to SYN? else skip one
    (0x06, 0, 0, 0),  # return 0
    (0x06, 0, 0, 0xFFFFFFFF),  # return all
)


@contextmanager
def listening_sockets(
    host: str | None,
    port: int,
    unix_socket: str | None = None,
    *,
    shared: bool = False,
    options: tuple[str, str] = ("--host", "-p"),
) -> Iterator[list[socket.socket]]:
    """Listen on a Unix socket, else on `host`, all addresses (`*`), or loopback (None).

    All addresses have the same port, also when it is 0, for a free one. When `shared`, other
    servers that say so too may listen on the port at the same time, and a Unix socket is taken over
    from the server that has it. Raises StartError, which names the `options` that host and port
    came from.
    """
    addresses = check_address(host, unix_socket, options[0])
    if unix_socket is None:
        sockets = _open_port(addresses, port, shared, options[1])
    else:
        sockets = [_open_unix(unix_socket, shared)]
    identity = None if unix_socket is None else _identity(unix_socket)
    try:
        yield sockets
    finally:
        # Another server may have taken the path meanwhile: its socket is not ours to remove.
        if unix_socket is not None and identity == _identity(unix_socket):
            with suppress(OSError):
                os.unlink(unix_socket)
        for sock in sockets:
            sock.close()


def check_address(
    host: str | None, unix_socket: str | None = None, option: str = "--host"
) -> list[Address]:
    """Return the addresses that a server would listen on, none for a Unix socket.

    Raises StartError when there cannot be any.
    """
    if unix_socket is None:
        return _addresses(host, option)
    if host is not None:
        raise StartError(f"--host {host} was given with --unix_socket: choose one of them")
    return []


async def leave_to_others(sockets: Sequence[socket.socket]) -> None:
    """Let the kernel send new clients to the other servers on a shared port.

    What was under way when a listening socket is closed is reset, even if others listen. So the
    kernel first drops all attempts to connect to these sockets, for as long as those take that have
    begun before; go on accepting meanwhile. Whoever was dropped tries again after a second, and
    then only the others are there.
    """
    if sys.platform == "linux":
        program = b"".join(struct.pack("HBBI", *step) for step in DROP_SYN)
        steps = ctypes.create_string_buffer(program)
        value = struct.pack("HP", len(DROP_SYN), ctypes.addressof(steps))
        for sock in sockets:
            if sock.family != socket.AF_UNIX:
                with suppress(OSError):  # where it is forbidden, a few connections are reset
                    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, value)
    await asyncio.sleep(HANDOVER)


def authority(host: str, port: int) -> str:
    """Return host and port as URLs write them (RFC 3986 section 3.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def are_loopback(sockets: Sequence[socket.socket]) -> bool:
    """Tell whether only this machine can ask; behind a Unix socket is a proxy, for everybody."""
    return all(s.family != socket.AF_UNIX and is_loopback(s.getsockname()[0]) for s in sockets)


# Ports


def _open_port(
    addresses: Sequence[Address], port: int, shared: bool, option: str
) -> list[socket.socket]:
    for _ in range(FREE_PORT_TRIES if port == 0 else 1):
        try:
            return _bind_all(addresses, port, shared, option)
        except StartError as error:
            reason = error  # a port that is free on one address may be in use on the next
    raise reason


def _bind_all(
    addresses: Sequence[Address], port: int, shared: bool, option: str
) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    for family, address in addresses:
        try:
            sock = _bind(family, address, port, shared)
        except OSError as error:
            if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # this machine has no IPv6
            for sock in sockets:
                sock.close()
            raise StartError(_bind_error(error, address, port, shared, option)) from None
        sockets.append(sock)
        port = sock.getsockname()[1]
    return sockets


def _addresses(host: str | None, option: str) -> list[Address]:
    if host is None:
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    if host == "*":
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is no name of a host"
        raise StartError(f"cannot listen on {option} {host}: {reason}") from None
    return sorted({(family, str(address[0])) for family, _, _, _, address in found})


def _bind(family: socket.AddressFamily, address: str, port: int, shared: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_error(error: OSError, address: str, port: int, shared: bool, option: str) -> str:
    where = f"cannot listen on {authority(address, port)}"
    if error.errno == errno.EADDRINUSE and shared:
        return f"{where}: the port is in use, by a server without --reuse_port or of another user"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: the port is in use; stop the other server or choose a port with {option}"
    if error.errno == errno.EACCES:
        return f"{where}: ports below 1024 need privileges; choose a higher one with {option}"
    return f"{where}: {error.strerror}"


# Unix sockets


def _open_unix(path: str, shared: bool) -> socket.socket:
    where = f"cannot listen on --unix_socket {path}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked(os.path.dirname(path) or "."):
            _make_way(path, shared)
            # A socket that another server listens on is replaced by one that is listened on.
            bound = path + ".new" if shared else path
            _make_way(bound, shared=False)
            sock.bind(bound)
            os.chmod(bound, UNIX_SOCKET_MODE)
            sock.listen(BACKLOG)
            os.rename(bound, path)
        sock.setblocking(False)
    except (OSError, ValueError) as error:
        sock.close()
        raise StartError(f"{where}: {getattr(error, 'strerror', None) or error}") from None
    return sock


@contextmanager
def _locked(directory: str) -> Iterator[None]:
    """Let two servers that start at once not both find, and remove, the same stale socket."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _make_way(path: str, shared: bool) -> None:
    """Remove a socket that nobody listens on; raise OSError for anything else that is there.

    One that is listened on may stay when `shared`.
    """
    if not path or path.endswith("/"):
        raise FileNotFoundError(errno.ENOENT, "this is no name of a file")
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file, and it is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EPERM):
                raise
    if shared:
        return
    raise OSError(errno.EADDRINUSE, "it is in use; stop the other server or choose another path")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
