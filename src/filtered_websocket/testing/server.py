"""A real server within the process of a test."""

from __future__ import annotations

import asyncio
import ssl
import threading
from argparse import Namespace
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from time import monotonic
from typing import Any, TypeVar

from ..operation.heartbeat import Heartbeat
from ..operation.readiness import Readiness
from ..runner import new_event_loop, prepare, serving
from ..sockets import authority
from .client import Client, Headers, request
from .filter_run import PATIENCE, FilterRun
from .socket_wire import SocketWire, notice

__all__ = ["Server"]

Result = TypeVar("Result")
LOOPBACK = "127.0.0.1"
POLL = 0.005  # seconds between two looks at a condition
LONGEST_STOP = 60.0  # seconds


class Server(FilterRun):
    """Run filters as `fws_server -f` would, on a free port of 127.0.0.1, in a thread of its own.

    It takes what `Pipeline` takes, and its clients are the same, over real sockets. Other programs
    connect to `url` and `http_url`. Time is real: what filters wait for takes its time, and tests
    `wait_for` it. Signals, limits and logging of the process stay as they are.
    """

    url: str
    """Where clients connect to, as `ws://127.0.0.1:12345`."""

    http_url: str
    """Where its pages are, as `http://127.0.0.1:12345`."""

    def __init__(self, *filters: str, storage: str | None = None, **options: Any) -> None:
        """Raise ModuleError, ConfigError or StartError where `fws_server` would complain."""
        self._loop = new_event_loop()
        self._threads: set[int] = set()  # those that filters run in
        self._wires: list[SocketWire] = []
        self._stopping = asyncio.Event()
        self._has_started = threading.Event()
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None
        super().__init__(filters, storage, {"host": LOOPBACK, "port": 0} | options)

    def _start(self, options: Namespace, storage_class: Any) -> None:
        self._thread = threading.Thread(
            target=self._run, args=(options, storage_class), name="fws_server", daemon=True
        )
        self._thread.start()
        self._has_started.wait()
        if self._failure is not None:
            raise self._failure

    # In the thread of the server

    def _run(self, options: Namespace, storage_class: Any) -> None:
        loop = self._loop
        self._note_thread()
        loop.set_default_executor(ThreadPoolExecutor(initializer=self._note_thread))
        try:
            loop.run_until_complete(self._live(options, storage_class))
        except BaseException as error:
            self._failure = error
            self._has_started.set()
        finally:
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()

    async def _live(self, options: Namespace, storage_class: Any) -> None:
        self.server, certificate = prepare(options, storage_class)
        self.storage_object = self.server.storage_object
        self._opened = notice(self.server)
        self._tls = None if certificate is None else _trusting()
        readiness, heartbeat = Readiness(self.storage_object), Heartbeat()
        served = serving(self.server, options, certificate, readiness, heartbeat, [])
        try:
            async with served as (sockets, _):
                self._host, self._port, *_ = sockets[0].getsockname()
                self._tell_addresses("" if certificate is None else "s")
                readiness.begin()
                self._has_started.set()
                await self._stopping.wait()
                readiness.end()
                for wire in self._wires:
                    if wire.is_stalled:  # the server would wait for its answer
                        wire.abort()
                await asyncio.sleep(options.drain_delay)
        finally:
            for wire in self._wires:
                await wire.leave()

    def _tell_addresses(self, s: str) -> None:
        where = authority(self._host, self._port)
        self.url, self.http_url = f"ws{s}://{where}", f"http{s}://{where}"

    def _note_thread(self) -> None:
        self._threads.add(threading.get_ident())

    # In the thread of the test

    def connect(self, path: str = "/", headers: Headers = (), *, peer: str = LOOPBACK) -> Client:
        """Open a connection. Raises Refused when the server answers with anything but 101.

        When it closes the connection without an answer, the status is 0. `peer` is where the client
        comes from: an address of this machine, on Linux any that begins with 127.
        """
        longest = self.server.limits.handshake_timeout
        return self._in_loop(self._connect(request(path, headers), peer), longest)

    async def _connect(self, handshake: bytes, peer: str) -> Client:
        wire = SocketWire(self._in_loop)
        source = None if peer == LOOPBACK else (peer, 0)
        await self._loop.create_connection(
            lambda: wire, self._host, self._port, local_addr=source, ssl=self._tls
        )
        self._wires.append(wire)
        return await wire.open(handshake, self._opened)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in the server's event loop, where filters run; return its result.

        Raises RuntimeError when it is called there.
        """

        async def run() -> Result:
            try:
                return function()
            finally:
                await asyncio.sleep(0)  # for what it has put on the queue

        return self._in_loop(run())

    def wait_for(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Return when `condition` is true, for what async filters do in their own time.

        Raises TimeoutError when it is not within `seconds`.
        """
        end = monotonic() + seconds
        while not condition():
            if monotonic() > end:
                raise TimeoutError(f"{seconds:g} seconds have passed")
            self._in_loop(asyncio.sleep(POLL))

    def close(self) -> None:
        """Stop the server: all clients are closed with 1001, and disconnect filters run.

        Clients that have stopped reading are cut off.
        """
        if not self._loop.is_closed():
            self._end()
            if self._failure is not None:
                raise self._failure

    def _in_loop(self, coroutine: Coroutine[Any, Any, Result], more_seconds: float = 0) -> Result:
        if self._loop.is_closed() or threading.get_ident() in self._threads:
            coroutine.close()
            where = "closed" if self._loop.is_closed() else "not for its own filters to use"
            raise RuntimeError(f"the server is {where}")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result(2 * PATIENCE + more_seconds)
        except TimeoutError:
            if future.done():
                raise
            raise TimeoutError("the event loop is stuck: a filter blocks it") from None

    def _is_running_here(self) -> bool:
        return threading.get_ident() in self._threads

    def _end(self) -> None:
        if self._thread is None:
            self._loop.close()
        else:
            with suppress(RuntimeError):  # it has ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
            self._thread.join(LONGEST_STOP)
        super()._end()
        if self._thread is not None and self._thread.is_alive():
            raise TimeoutError("the server does not stop: a filter blocks it")


def _trusting() -> ssl.SSLContext:
    """Return what clients connect with to a server of the same process."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
