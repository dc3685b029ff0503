"""A server in memory, for tests of filters."""

from __future__ import annotations

import asyncio
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from ..server import FilteredWebSocketFactory
from ..server_protocol.handshake import Acceptor
from ..server_protocol.http import PlainPages
from ..server_protocol.limits import Limits
from ..server_protocol.origins import OriginPolicy
from ..storage_objects.base import BaseStorageObject
from .client import Client, Headers, Transport, parse_response, request
from .clock import FakeClockLoop
from .filter_run import PATIENCE, FilterRun

__all__ = ["Pipeline"]

Result = TypeVar("Result")
LONGEST_STOP = 3600.0  # seconds, of a clock that is not real


class Pipeline(FilterRun):
    """Run filters as `fws_server -f` would, without sockets and without waiting.

    `filters` are names of modules, as after `-f`; each pipeline imports them anew, so that none
    sees the filters or the module state of another. `storage` names a storage module, `options`
    are those of the server: `Pipeline("my_filter", rate=2)` is `-f my_filter --rate 2`.

    Time stands still until `advance`. Use it in a `with` block, or `close` it. Raises ModuleError,
    ConfigError or StorageError where `fws_server` would complain.
    """

    def __init__(self, *filters: str, storage: str | None = None, **options: Any) -> None:
        self._loop = FakeClockLoop()
        self._stopping = asyncio.Event()
        super().__init__(filters, storage, options)

    def _start(self, options: Namespace, storage_class: Any) -> None:
        self._loop.demand_use()
        self._life = self._loop.create_task(self._live(options, storage_class))
        self._loop.settle()
        if self._life.done():
            self._life.result()

    async def _live(self, options: Namespace, storage_class: Any) -> None:
        self.storage_object = storage_class(options)
        self.server = FilteredWebSocketFactory(
            storage_object=self.storage_object,
            limits=Limits.of(options),
            metered=options.metrics_port is not None,
        )
        self._acceptor = Acceptor(
            self.server,
            limits=self.server.limits,
            origins=OriginPolicy(options.origins, loopback_only=True),
            pages=PlainPages(console=False),
        )
        storage = self.storage_object
        running = storage.running if isinstance(storage, BaseStorageObject) else _running
        async with running(self.server):
            try:
                await self._stopping.wait()
            finally:
                self._acceptor.close()
                await self.server.close(options.drain_seconds)

    def connect(self, path: str = "/", headers: Headers = (), *, peer: str = "127.0.0.1") -> Client:
        """Open a connection. Raises Refused when the server answers with anything but 101.

        When it closes the connection without an answer, the status is 0.

        Time passes as long as async handshake filters need it.
        """
        return self.connect_with([request(path, headers)], peer)

    def connect_with(self, chunks: Iterable[bytes], peer: str) -> Client:
        """Open a connection with a handshake that comes in `chunks`; else as `connect`."""
        self._loop.demand_use()
        transport = Transport(self._loop, peer)
        for index, chunk in enumerate(chunks):
            if index:
                transport.deliver(chunk)
            else:
                self._loop.call_soon(self._accept, transport, chunk)
            self._loop.settle()
        if not transport.sent:
            self._loop.settle(self.server.limits.handshake_timeout, lambda: bool(transport.sent))
        client = Client(transport, *parse_response(transport.sent))
        self._loop.settle()
        return client

    def _accept(self, transport: Transport, first: bytes) -> None:
        transport.protocol = self._acceptor()
        transport.protocol.connection_made(transport)
        transport.deliver(first)

    def advance(self, seconds: float) -> None:
        """Let time pass, in seconds, and what is due happen; it takes none.

        Raises RuntimeError when the server does not come to rest, ValueError when `seconds` are
        less than none.
        """
        if not seconds >= 0:
            raise ValueError(f"time does not go back: {seconds} seconds")
        self._loop.settle(seconds)

    def wait_for(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Let time pass until `condition` is true.

        Raises TimeoutError when it is not within `seconds`.
        """
        self._loop.settle(seconds, lambda: bool(condition()))
        if not condition():
            raise TimeoutError(f"{seconds:g} seconds have passed")

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in the server's event loop, where filters run; return its result.

        Raises what the function raises.
        """

        async def run() -> Result:
            return function()

        self._loop.demand_use()
        task = self._loop.create_task(run())
        self._loop.settle()
        return task.result()

    def close(self) -> None:
        """Stop the server: all clients are closed with 1001, and disconnect filters run."""
        if not self._loop.is_closed():
            self._loop.call_soon(self._stopping.set)
            self._loop.settle(LONGEST_STOP, self._life.done)
            self._end()

    def _is_running_here(self) -> bool:
        return asyncio._get_running_loop() is self._loop

    def _end(self) -> None:
        super()._end()
        self._loop.close()


@asynccontextmanager
async def _running(server: FilteredWebSocketFactory) -> AsyncIterator[None]:
    yield
