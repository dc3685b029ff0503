"""The life of a server: start, serve, drain, stop.

What belongs here: the order of these steps, signals, the event loop. What does not: the parts that
are put together (`client_port`, `operation`), and what happens on a connection (`server`,
`server_protocol`).
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
import sys
from argparse import Namespace
from collections.abc import AsyncIterator, Callable
from contextlib import (
    AbstractAsyncContextManager,
    asynccontextmanager,
    closing,
    nullcontext,
    suppress,
)
from typing import Any

from .client_port import client_port, origin_policy
from .operation.heartbeat import Heartbeat
from .operation.logs import NOT_OF_THE_CHAIN, tell_repeats
from .operation.machine import raise_file_limit, sockets_left
from .operation.readiness import Readiness
from .operation.start_lines import announce
from .operation.systemd import ServiceManager, activated_sockets
from .operation.trace import set_up_tracing
from .server import FilteredWebSocketFactory
from .server_protocol.limits import Limits
from .sockets import check_address
from .storage_objects.base import BaseStorageObject, StorageError
from .tls import Certificate
from .typing import StartError

__all__ = ["StartError", "check", "new_event_loop", "prepare", "run", "serving"]

logger = logging.getLogger(__name__)

ONE_SIGNAL = 0.05  # seconds: what comes within them is meant once, as two from `timeout make run`


def run(
    options: Namespace, storage_class: Any, reread: Callable[[], Namespace] | None = None
) -> int:
    """Run a server until a signal stops it; return the exit code.

    The filters are imported already. `reread` returns the options as they are now, for what can
    change while the server runs. Raises StartError.
    """
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        factory = runner.run(_run(options, storage_class, reread or (lambda: options)))
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
        factory, _ = prepare(options, storage_class)
        await factory.close(0)
        return factory

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        factory = runner.run(prepare_and_close())
    check_address(options.host, options.unix_socket)
    check_address(options.metrics_host, option="--metrics_host")
    return factory.storage_object


async def _run(
    options: Namespace, storage_class: Any, reread: Callable[[], Namespace]
) -> FilteredWebSocketFactory:
    stop = _stop_signal()
    activated = activated_sockets(os.environ)
    raise_file_limit()
    factory, certificate = prepare(options, storage_class)
    _reload_on_hangup(certificate)
    set_up_tracing(factory, options, reread)
    readiness, heartbeat = Readiness(factory.storage_object), Heartbeat()
    with closing(ServiceManager(os.environ, factory.users.__len__)) as service_manager:
        heartbeat.listeners += [tell_repeats, service_manager.beat]
        async with serving(factory, options, certificate, readiness, heartbeat, activated) as (
            sockets,
            metrics_sockets,
        ):
            announce(options, sockets, metrics_sockets, factory, is_activated=bool(activated))
            # What start-up made lives as long as the server: the collector may leave it alone.
            gc.collect()
            gc.freeze()
            readiness.begin()
            service_manager.ready()
            await stop.wait()
            readiness.end()
            service_manager.stopping()
            await asyncio.sleep(options.drain_delay)
    logger.info("stopped")
    return factory


@asynccontextmanager
async def serving(
    factory: FilteredWebSocketFactory,
    options: Namespace,
    certificate: Certificate | None,
    readiness: Readiness,
    heartbeat: Heartbeat,
    activated: list[socket.socket],
) -> AsyncIterator[tuple[list[socket.socket], list[socket.socket]]]:
    """Serve while the block runs, and drain at its end.

    Yields the sockets that listen for clients, and those that do for operators. Raises StartError.
    """
    heartbeat.start()
    try:
        async with (
            _metrics_port(factory, options, readiness, heartbeat) as metrics_sockets,
            _storage_running(factory),
            client_port(factory, options, certificate, readiness, activated) as sockets,
        ):
            yield sockets, metrics_sockets
    except StorageError as error:
        raise StartError(str(error)) from None
    finally:
        heartbeat.stop()


def prepare(
    options: Namespace, storage_class: Any
) -> tuple[FilteredWebSocketFactory, Certificate | None]:
    """Make what a server is made of, before it listens to anybody. Raises StartError."""
    _check_ports(options)
    certificate = _certificate(options)
    origin_policy(options, ())  # made again when it is known what the server listens on
    factory = FilteredWebSocketFactory(
        storage_object=_make_storage(storage_class, options),
        limits=Limits.of(options, sockets=sockets_left()),
        compress_from=None if options.compression == "off" else options.compression_min_size,
        metered=options.metrics_port is not None,
    )
    return factory, certificate


def _check_ports(options: Namespace) -> None:
    # The port of the metrics is opened first, and its own server would be told to stop another one.
    of_clients = None if options.unix_socket else (options.host, options.port)
    if options.metrics_port and (options.metrics_host, options.metrics_port) == of_clients:
        raise StartError(f"--metrics_port {options.port} is the port of the clients: take another")


def _metrics_port(
    factory: FilteredWebSocketFactory,
    options: Namespace,
    readiness: Readiness,
    heartbeat: Heartbeat,
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


def new_event_loop() -> asyncio.AbstractEventLoop:
    """Return an event loop, uvloop's where there is one, that reports what fails in it."""
    try:
        import uvloop
    except ImportError:
        loop = asyncio.new_event_loop()
    else:
        loop = uvloop.new_event_loop()
    loop.set_exception_handler(_log_loop_error)
    return loop


def _log_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what the event loop reports; how peers break their connections is no news."""
    error = context.get("exception")
    # aiofastnet reports a class of exceptions where a TLS client goes away in the handshake. What
    # is of no transport is a filter's: its own connections, to a database, break in the same ways.
    is_peers = "transport" in context and (
        error is ConnectionResetError
        or isinstance(error, ConnectionError | TimeoutError | ssl.SSLError)
    )
    # Of callbacks the event loop shows the arguments, which may be a message.
    message = "a callback failed" if "handle" in context else context["message"]
    logger.log(
        logging.DEBUG if is_peers else logging.ERROR,
        "%s",
        message,
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
