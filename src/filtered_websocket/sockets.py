"""The sockets that a server listens on: loopback, addresses, or a Unix socket."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from .typing import StartError

__all__ = ["authority", "check_address", "listening_sockets"]

Address = tuple[socket.AddressFamily, str]

FREE_PORT_TRIES = 10
BACKLOG = 1024  # connections that the kernel may hold until they are accepted
UNIX_SOCKET_MODE = 0o666


@contextmanager
def listening_sockets(
    host: str | None, port: int, unix_socket: str | None = None
) -> Iterator[list[socket.socket]]:
    """Listen on a Unix socket, else on `host`, all addresses (`*`), or loopback (None).

    All addresses have the same port, also when it is 0, for a free one. Raises StartError.
    """
    addresses = check_address(host, unix_socket)
    if unix_socket is None:
        sockets = _open_port(addresses, port)
    else:
        sockets = [_open_unix(unix_socket)]
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


def check_address(host: str | None, unix_socket: str | None = None) -> list[Address]:
    """Return the addresses that a server would listen on, none for a Unix socket.

    Raises StartError when there cannot be any.
    """
    if unix_socket is None:
        return _addresses(host)
    if host is not None:
        raise StartError(f"--host {host} was given with --unix_socket: choose one of them")
    return []


def authority(host: str, port: int) -> str:
    """Return host and port as URLs write them (RFC 3986 section 3.2)."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


# Ports


def _open_port(addresses: Sequence[Address], port: int) -> list[socket.socket]:
    for _ in range(FREE_PORT_TRIES if port == 0 else 1):
        try:
            return _bind_all(addresses, port)
        except StartError as error:
            reason = error  # a port that is free on one address may be in use on the next
    raise reason


def _bind_all(addresses: Sequence[Address], port: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    for family, address in addresses:
        try:
            sock = _bind(family, address, port)
        except OSError as error:
            if sockets and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue  # this machine has no IPv6
            for sock in sockets:
                sock.close()
            raise StartError(_bind_error(error, address, port)) from None
        sockets.append(sock)
        port = sock.getsockname()[1]
    return sockets


def _addresses(host: str | None) -> list[Address]:
    if host is None:
        return [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
    if host == "*":
        return [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "this is no name of a host"
        raise StartError(f"cannot listen on --host {host}: {reason}") from None
    return sorted({(family, str(address[0])) for family, _, _, _, address in found})


def _bind(family: socket.AddressFamily, address: str, port: int) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((address, port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except OSError:
        sock.close()
        raise
    return sock


def _bind_error(error: OSError, address: str, port: int) -> str:
    where = f"cannot listen on {authority(address, port)}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: the port is in use; stop the other server or choose a port with -p"
    if error.errno == errno.EACCES:
        return f"{where}: ports below 1024 need privileges; choose a higher one with -p"
    return f"{where}: {error.strerror}"


# Unix sockets


def _open_unix(path: str) -> socket.socket:
    where = f"cannot listen on --unix_socket {path}"
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _locked(os.path.dirname(path) or "."):
            _make_way(path)
            sock.bind(path)
            os.chmod(path, UNIX_SOCKET_MODE)
            sock.listen(BACKLOG)
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


def _make_way(path: str) -> None:
    """Remove a socket that nobody listens on; raise OSError for anything else that is there."""
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
    raise OSError(errno.EADDRINUSE, "it is in use; stop the other server or choose another path")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
