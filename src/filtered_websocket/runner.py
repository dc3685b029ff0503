"""The life of a server: start, serve, drain, stop.

What belongs here: the order of these steps, signals, the start lines. What does not: the parts that
are put together (`sockets`, `tls`, `listener`), and what happens on a connection (`server`,
`server_protocol`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import socket
import ssl
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    nullcontext,
    suppress,
)
from typing import Any

from .filters.base import FilterBase
from .listener import Connect, Listener
from .operation import machine
from .operation.drain import NEWCOMERS, Drain
from .operation.explain import chain_name
from .operation.heartbeat import Heartbeat
from .operation.logs import NOT_OF_THE_CHAIN, tell_repeats
from .operation.readiness import Readiness
from .operation.systemd import ServiceManager, activated_sockets
from .operation.trace import set_up_tracing
from .server import FilteredWebSocketFactory
from .server_protocol.forwarded import TrustedProxies
from .server_protocol.handshake import Acceptor
from .server_protocol.http import PlainPages
from .server_protocol.limits import Limits
from .server_protocol.origins import OriginPolicy, is_loopback
from .sockets import (
    are_loopback,
    authority,
    check_address,
    leave_to_others,
    listening_sockets,
)
from .storage_objects.base import BaseStorageObject, StorageError
from .tls import Certificate
from .typing import StartError

__all__ = ["StartError", "check", "run"]

logger = logging.getLogger(__name__)

ONE_SIGNAL = 0.05  # seconds: what comes within them is meant once, as two from `timeout make run`
# Bytes that each TLS connection holds twice, for what it reads and writes. The engine's default of
# 257 KiB is 16 records: what was written to once stays resident, also after the connection.
TLS_BUFFER = 2 * (16 * 1024 + 64)
SPARE_FILES = 64  # descriptors for all that is no client: listeners, Redis, files of filters


def run(
    options: Namespace, storage_class: Any, reread: Callable[[], Namespace] | None = None
) -> int:
    """Run a server until a signal stops it; return the exit code.

    The filters are imported already. `reread` returns the options as they are now, for what can
    change while the server runs. Raises StartError.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        factory = runner.run(_serve(options, storage_class, reread or (lambda: options)))
        if factory.stuck:
            logger.error("%d tasks of filters do not end; the server ends without", factory.stuck)
            logging.shutdown()
            with suppress(OSError):
                sys.stdout.flush()
            os._exit(0)  # the runner would wait for them
    return 0


def check(options: Namespace, storage_class: Any) -> Any:
    """Do all that a start does before it listens; return the storage object. Raises StartError."""

    async def prepare_and_close() -> FilteredWebSocketFactory:
        factory, _ = _prepare(options, storage_class)
        await factory.close(0)
        return factory

    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        factory = runner.run(prepare_and_close())
    check_address(options.host, options.unix_socket)
    check_address(options.metrics_host, option="--metrics_host")
    return factory.storage_object


async def _serve(
    options: Namespace, storage_class: Any, reread: Callable[[], Namespace]
) -> FilteredWebSocketFactory:
    asyncio.get_running_loop().set_exception_handler(_log_loop_error)
    stop = _stop_signal()
    activated = activated_sockets(os.environ)
    machine.raise_file_limit()
    factory, certificate = _prepare(options, storage_class)
    _reload_on_hangup(certificate)
    set_up_tracing(factory, options, reread)
    readiness = Readiness(factory.storage_object)
    service_manager = ServiceManager(os.environ, factory.users.__len__)
    heartbeat = Heartbeat()
    heartbeat.listeners += [tell_repeats, service_manager.beat]
    heartbeat.start()
    try:
        async with (
            _serving_metrics(factory, options, heartbeat, readiness) as metrics_sockets,
            _storage_running(factory),
            _listening(factory, options, certificate, readiness, activated) as sockets,
        ):
            _announce(options, sockets, metrics_sockets, factory, is_activated=bool(activated))
            # What start-up made lives as long as the server: the collector may leave it alone.
            gc.collect()
            gc.freeze()
            readiness.begin()
            service_manager.ready()
            await stop.wait()
            readiness.end()
            service_manager.stopping()
            await asyncio.sleep(options.drain_delay)
    except StorageError as error:
        raise StartError(str(error)) from None
    finally:
        heartbeat.stop()
        service_manager.close()
    logger.info("stopped")
    return factory


def _prepare(
    options: Namespace, storage_class: Any
) -> tuple[FilteredWebSocketFactory, Certificate | None]:
    """Make what a server is made of, before it listens to anybody. Raises StartError."""
    certificate = _certificate(options)
    _origin_policy(options, ())  # made again when it is known what the server listens on
    factory = FilteredWebSocketFactory(
        storage_object=_make_storage(storage_class, options),
        limits=Limits.of(options, sockets=_sockets_left()),
        compress_from=None if options.compression == "off" else options.compression_min_size,
        metered=options.metrics_port is not None,
    )
    return factory, certificate


def _serving_metrics(
    factory: FilteredWebSocketFactory,
    options: Namespace,
    heartbeat: Heartbeat,
    readiness: Readiness,
) -> AbstractAsyncContextManager[list[socket.socket]]:
    if options.metrics_port is None:
        return nullcontext([])
    from .operation.metrics_port import serving_metrics  # its imports take 80 ms

    return serving_metrics(
        factory, options.metrics_host, options.metrics_port, heartbeat, readiness.why_not
    )


def _storage_running(factory: FilteredWebSocketFactory) -> AbstractAsyncContextManager[None]:
    storage = factory.storage_object
    return storage.running(factory) if isinstance(storage, BaseStorageObject) else nullcontext()


@asynccontextmanager
async def _listening(
    factory: FilteredWebSocketFactory,
    options: Namespace,
    certificate: Certificate | None,
    readiness: Readiness,
    activated: list[socket.socket],
) -> AsyncIterator[list[socket.socket]]:
    """Accept connections; on leaving stop to, and close those there are."""
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
        origins=_origin_policy(options, sockets),
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
        extra=NOT_OF_THE_CHAIN,  # of a forgotten task that fails Python tells when it collects it
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
            # The kernel keeps the default action from the first process of a container.
            is_first = os.getpid() == 1
            signal.signal(number, _exit_at_once if is_first else signal.SIG_DFL)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    return stop


def _exit_at_once(number: int, frame: object) -> None:
    os._exit(128 + number)  # as a shell reports a process that was ended by a signal


def _reload_on_hangup(certificate: Certificate | None) -> None:
    """Let SIGHUP reload the certificate; without one it must not end the server either."""

    def on_signal() -> None:
        if certificate is None:
            logger.info("there is no certificate to reload: the server runs without TLS")
        else:
            certificate.reload()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, on_signal)


def _certificate(options: Namespace) -> Certificate | None:
    if options.key is None and options.cert is None:
        return None
    if options.key is None or options.cert is None:
        missing, given = ("-key", "-cert") if options.key is None else ("-cert", "-key")
        raise StartError(f"{given} was given without {missing}: TLS needs both")
    return Certificate(options.key, options.cert)


def _make_storage(storage_class: type, options: Namespace) -> Any:
    try:
        return storage_class(options)
    except StorageError as error:
        raise StartError(str(error)) from None
    except Exception as error:
        name = f"{storage_class.__module__}.{storage_class.__qualname__}"
        raise StartError(f"{name} failed: {type(error).__name__}: {error}") from None


def _sockets_left() -> int | None:
    """Return how many sockets of clients the limit on open files leaves."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if limit == resource.RLIM_INFINITY:
        return None
    return limit - min(SPARE_FILES, limit // 2)


def _origin_policy(options: Namespace, sockets: Sequence[socket.socket]) -> OriginPolicy:
    try:
        return OriginPolicy(options.origins, loopback_only=are_loopback(sockets))
    except ValueError as error:
        raise StartError(f"--origins: {error}") from None


# What the operator sees


def _announce(
    options: Namespace,
    sockets: Sequence[socket.socket],
    metrics_sockets: Sequence[socket.socket],
    factory: FilteredWebSocketFactory,
    *,
    is_activated: bool,
) -> None:
    """Say what runs: in aligned lines on a terminal, else as log lines."""
    memory, tls = machine.find_memory(), options.key is not None
    lines = _description(options, sockets, factory, is_activated=is_activated)
    room = machine.room(factory.limits, memory, tls=tls)
    lines.append(("room for", f"{room.clients:,} clients ({room.bound})"))
    if metrics_sockets:
        lines.append(("metrics", _url(metrics_sockets, "http")))
    if sys.stderr.isatty() and options.log_format == "text":
        width = max(len(name) for name, _ in lines)
        print("\n".join(f"{name:>{width}}  {text}" for name, text in lines), file=sys.stderr)
    else:
        for name, text in lines:
            logger.info("%s: %s", name, text)
    if warning := machine.warning_of(factory.limits, memory, tls=tls):
        logger.warning(warning)


def _description(
    options: Namespace,
    sockets: Sequence[socket.socket],
    factory: FilteredWebSocketFactory,
    *,
    is_activated: bool = False,
) -> list[tuple[str, str]]:
    ports = [s for s in sockets if s.family != socket.AF_UNIX]
    if ports:
        lines = _ports(ports, "https" if options.key else "http")
    else:
        path = sockets[0].getsockname() if is_activated else options.unix_socket
        lines = [("fws_server", f"unix:{path}"), ("open to", "whom its directory lets in")]
    if is_activated:
        passed_on = "what the service manager has passed on, not on --port, --host, --unix_socket"
        lines.append(("listens on", passed_on))
    if not any(chain.chain().steps for chain in FilterBase.__subclasses__()):
        lines.append(("filters", "none"))
    for chain in FilterBase.__subclasses__():
        steps = [name for name, _ in chain.chain().steps]
        if steps:
            lines.append((chain_name(chain), " | ".join(steps)))
    storage = type(factory.storage_object)
    lines.append(("storage", f"{storage.__module__}.{storage.__name__}"))
    if options.config:
        lines.append(("config", options.config))
    return lines


def _ports(sockets: Sequence[socket.socket], scheme: str) -> list[tuple[str, str]]:
    addresses = [s.getsockname()[:2] for s in sockets]
    if all(is_loopback(address) for address, _ in addresses):
        open_to = "this machine only; --host '*' lets others in"
    else:
        open_to = ", ".join(authority(*address) for address in addresses)
    return [("fws_server", _url(sockets, scheme)), ("open to", open_to)]


def _url(sockets: Sequence[socket.socket], scheme: str) -> str:
    address, port = sockets[0].getsockname()[:2]
    by_name = address in ("0.0.0.0", "::") or (len(sockets) > 1 and is_loopback(address))
    return f"{scheme}://{authority('localhost' if by_name else address, port)}/"
