"""The life of a server: start, serve, drain, stop.

What belongs here: the order of these steps, the sockets, TLS, signals, the start lines. What does
not: what happens on a connection (`server`, `server_protocol`).
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from .filters.base import FilterBase
from .server import FilteredWebSocketFactory
from .server_protocol.forwarded import TrustedProxies
from .server_protocol.handshake import Acceptor
from .server_protocol.http import PlainPages
from .server_protocol.limits import Limits
from .server_protocol.origins import OriginPolicy, is_loopback
from .storage_objects.base import BaseStorageObject, StorageError

__all__ = ["StartError", "run"]

logger = logging.getLogger(__name__)

Address = tuple[socket.AddressFamily, str]

FREE_PORT_TRIES = 10
ONE_SIGNAL = 0.05  # seconds: what comes within them is meant once, as two from `timeout make run`
SPARE_FILES = 64  # descriptors for all that is no client: listeners, Redis, files of filters
BACKLOG = 1024  # connections that the kernel may hold until they are accepted


class StartError(Exception):
    """Report why the server cannot start: what, where, what now."""


def run(options: Namespace, storage_class: Any) -> int:
    """Run a server until a signal stops it; return the exit code.

    The filters are imported already. Raises StartError.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        factory = runner.run(_serve(options, storage_class))
        if factory.stuck:
            logger.error("%d tasks of filters do not end; the server ends without", factory.stuck)
            logging.shutdown()
            sys.stdout.flush()
            os._exit(0)  # the runner would wait for them
    return 0


async def _serve(options: Namespace, storage_class: Any) -> FilteredWebSocketFactory:
    asyncio.get_running_loop().set_exception_handler(_log_loop_error)
    stop = _stop_signal()
    factory = FilteredWebSocketFactory(
        storage_object=_make_storage(storage_class, options),
        limits=_limits(options),
        compress_from=None if options.compression == "off" else options.compression_min_size,
    )
    try:
        async with _storage_running(factory), _listening(factory, options) as sockets:
            _announce(options, sockets, factory)
            # What start-up made lives as long as the server: the collector may leave it alone.
            gc.collect()
            gc.freeze()
            await stop.wait()
    except StorageError as error:
        raise StartError(str(error)) from None
    return factory


def _storage_running(factory: FilteredWebSocketFactory) -> AbstractAsyncContextManager[None]:
    storage = factory.storage_object
    return storage.running(factory) if isinstance(storage, BaseStorageObject) else nullcontext()


@asynccontextmanager
async def _listening(
    factory: FilteredWebSocketFactory, options: Namespace
) -> AsyncIterator[list[socket.socket]]:
    """Accept connections; on leaving stop to, and close those there are."""
    tls = _tls_context(options)
    sockets = open_sockets(options.host, options.port)
    acceptor = Acceptor(
        factory,
        limits=factory.limits,
        origins=_origin_policy(options, sockets),
        pages=PlainPages(console=not options.no_console),
        proxies=TrustedProxies(options.trusted_proxies) if options.trusted_proxies else None,
    )
    servers = await _start_servers(acceptor, sockets, tls, factory.limits)
    try:
        yield sockets
    finally:
        for server in servers:
            server.close()
        acceptor.close()
        left = await factory.close(options.drain_seconds)
        if left:
            logger.warning("cut off %d clients that did not leave in time", left)
        logger.info("stopped")


async def _start_servers(
    acceptor: Acceptor,
    sockets: Sequence[socket.socket],
    tls: ssl.SSLContext | None,
    limits: Limits,
) -> list[Any]:
    """Serve on the sockets, each transport being the cheaper one for its case.

    aiofastnet's are faster than the event loop's own with TLS, and cost 5 KiB more without.
    """
    loop = asyncio.get_running_loop()
    if tls is None:
        return [await loop.create_server(acceptor, sock=s, backlog=BACKLOG) for s in sockets]
    import aiofastnet

    return [
        await aiofastnet.create_server(
            loop,
            acceptor,
            sock=s,
            backlog=BACKLOG,
            ssl=tls,
            ssl_handshake_timeout=limits.handshake_timeout,
        )
        for s in sockets
    ]


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what the event loop reports; how peers break their connections is no news."""
    error = context.get("exception")
    # aiofastnet reports a class of exceptions where a TLS client goes away in the handshake.
    is_peers = error is ConnectionResetError or isinstance(
        error, ConnectionError | TimeoutError | ssl.SSLError
    )
    logger.log(
        logging.DEBUG if is_peers else logging.ERROR,
        "%s",
        context["message"],
        exc_info=error if isinstance(error, Exception) else None,
    )


def _stop_signal() -> asyncio.Event:
    """Return an event that the first SIGTERM or SIGINT sets; a second one ends the process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if not stop.is_set():
            logger.info("stopping")
            stop.set()
            loop.call_later(ONE_SIGNAL, end_at_the_next)

    def end_at_the_next() -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def _make_storage(storage_class: type, options: Namespace) -> Any:
    try:
        return storage_class(options)
    except StorageError as error:
        raise StartError(str(error)) from None
    except Exception as error:
        name = f"{storage_class.__module__}.{storage_class.__qualname__}"
        raise StartError(f"{name} failed: {type(error).__name__}: {error}") from None


def _limits(options: Namespace) -> Limits:
    return Limits(
        message_size=options.max_message_size,
        header_size=options.max_header_size,
        handshake_timeout=options.handshake_timeout,
        queue_bytes=options.max_queue_bytes,
        slow_client=options.slow_client,
        rate=options.rate,
        rate_burst=options.rate_burst or options.rate,
        ping_interval=options.ping_interval,
        ping_timeout=options.ping_timeout,
        connections=options.max_connections,
        connections_per_address=options.max_connections_per_ip or None,
        sockets=_sockets_left(),
    )


def _sockets_left() -> int | None:
    """Return how many sockets of clients the limit on open files leaves."""
    try:
        import resource
    except ImportError:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    return limit - min(SPARE_FILES, limit // 2)


def _origin_policy(options: Namespace, sockets: Sequence[socket.socket]) -> OriginPolicy:
    loopback_only = all(is_loopback(s.getsockname()[0]) for s in sockets)
    try:
        return OriginPolicy(options.origins, loopback_only=loopback_only)
    except ValueError as error:
        raise StartError(f"--origins: {error}") from None


# Sockets


def open_sockets(host: str | None, port: int) -> list[socket.socket]:
    """Return listening sockets: for `host`, for all addresses (`*`), or for loopback (None).

    All have the same port, also when it is 0, for a free one. Raises StartError.
    """
    addresses = _addresses(host)
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
    where = f"cannot listen on {_authority(address, port)}"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: the port is in use; stop the other server or choose a port with -p"
    if error.errno == errno.EACCES:
        return f"{where}: ports below 1024 need privileges; choose a higher one with -p"
    return f"{where}: {error.strerror}"


# TLS


def _tls_context(options: Namespace) -> ssl.SSLContext | None:
    if options.key is None and options.cert is None:
        return None
    if options.key is None or options.cert is None:
        missing, given = ("-key", "-cert") if options.key is None else ("-cert", "-key")
        raise StartError(f"{given} was given without {missing}: TLS needs both")
    for option, path in (("-key", options.key), ("-cert", options.cert)):
        try:
            with open(path, "rb"):
                pass
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise StartError(f"{option} {path}: {reason}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    password = _KeyPassword()
    try:
        context.load_cert_chain(options.cert, options.key, password)
    except (ssl.SSLError, ValueError) as error:
        raise StartError(_tls_error(error, options, password)) from None
    return context


class _KeyPassword:
    """Give OpenSSL the password of the key, and remember whether it asked."""

    def __init__(self) -> None:
        self.value = os.environ.get("FWS_KEY_PASSWORD", "")
        self.was_asked = False

    def __call__(self) -> str:
        self.was_asked = True
        return self.value


def _tls_error(error: Exception, options: Namespace, password: _KeyPassword) -> str:
    reason = getattr(error, "reason", None) or str(error)
    if reason == "KEY_VALUES_MISMATCH":
        return f"-key {options.key} is not the key of -cert {options.cert}"
    if password.was_asked:
        advice = "not its password" if password.value else "not set: it needs the password"
        return f"-key {options.key} is encrypted, and FWS_KEY_PASSWORD is {advice}"
    return (
        f"-key {options.key} and -cert {options.cert} are not a key and a certificate in PEM "
        f"({reason})"
    )


# What the operator sees


def _announce(
    options: Namespace, sockets: Sequence[socket.socket], factory: FilteredWebSocketFactory
) -> None:
    """Say what runs: in aligned lines on a terminal, else as log lines."""
    lines = list(_description(options, sockets, factory))
    if sys.stderr.isatty():
        width = max(len(name) for name, _ in lines)
        print("\n".join(f"{name:>{width}}  {text}" for name, text in lines), file=sys.stderr)
    else:
        for name, text in lines:
            logger.info("%s: %s", name, text)


def _description(
    options: Namespace, sockets: Sequence[socket.socket], factory: FilteredWebSocketFactory
) -> list[tuple[str, str]]:
    scheme = "https" if options.key else "http"
    addresses = [s.getsockname()[:2] for s in sockets]
    address, port = addresses[0]
    by_name = address in ("0.0.0.0", "::") or (len(addresses) > 1 and is_loopback(address))
    url = f"{scheme}://{_authority('localhost' if by_name else address, port)}/"
    lines = [("fws_server", url)]
    if all(is_loopback(address) for address, _ in addresses):
        lines.append(("open to", "this machine only; --host '*' lets others in"))
    else:
        lines.append(("open to", ", ".join(_authority(*address) for address in addresses)))
    if not any(chain.chain().steps for chain in FilterBase.__subclasses__()):
        lines.append(("filters", "none"))
    for chain in FilterBase.__subclasses__():
        steps = [name for name, _ in chain.chain().steps]
        if steps:
            lines.append((_chain_name(chain), " | ".join(steps)))
    storage = type(factory.storage_object)
    lines.append(("storage", f"{storage.__module__}.{storage.__name__}"))
    if options.config:
        lines.append(("config", options.config))
    return lines


def _chain_name(chain: type[FilterBase]) -> str:
    name = chain.__name__
    if name.startswith("WebSocket") and name.endswith("Filter"):
        return name.removeprefix("WebSocket").removesuffix("Filter").lower()
    return name


def _authority(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
