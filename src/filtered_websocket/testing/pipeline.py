"""A server in memory, for tests of filters."""

from __future__ import annotations

import asyncio
import logging
import warnings
from argparse import Namespace
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar

from ..config import resolve
from ..filters.base import text_of
from ..importer import add_storage_options, import_filters, import_storage
from ..options import default_parser
from ..server import FilteredWebSocketFactory
from ..server_protocol.handshake import Acceptor
from ..server_protocol.http import PlainPages
from ..server_protocol.limits import Limits
from ..server_protocol.origins import OriginPolicy
from ..storage_objects.base import BaseStorageObject
from .client import Client, Headers, Refused, Transport, parse_response, request
from .clock import FakeClockLoop
from .isolation import empty_chains

__all__ = ["Pipeline"]

Result = TypeVar("Result")
LONGEST_STOP = 3600.0  # seconds, of a clock that is not real


class Pipeline:
    """Run filters as `fws_server -f` would, without sockets and without waiting.

    `filters` are names of modules, as after `-f`; each pipeline imports them anew, so that none
    sees the filters or the module state of another. `storage` names a storage module, `options`
    are those of the server: `Pipeline("my_filter", rate=2)` is `-f my_filter --rate 2`.

    Time stands still until `advance`. Use it in a `with` block, or `close` it. Raises ModuleError,
    ConfigError or StorageError where `fws_server` would complain.
    """

    server: FilteredWebSocketFactory
    """The server: what consumer filters get."""
    storage_object: Any
    """The storage object of the server."""

    def __init__(self, *filters: str, storage: str | None = None, **options: Any) -> None:
        self.log: list[logging.LogRecord] = []
        """All records that were logged while its event loop ran."""
        self._loop = FakeClockLoop()
        self._handler = _Handler(self._loop, self.log)
        logging.getLogger().addHandler(self._handler)
        self._stopping = asyncio.Event()
        try:
            with empty_chains() as self._modules:
                storage_class = import_storage(storage)
                parser = default_parser()
                add_storage_options(storage_class, parser)
                resolved = resolve(parser, _arguments(options), {}).options
                for warning in import_filters(filters):
                    warnings.warn(warning, stacklevel=2)
                self._life = self._loop.create_task(self._live(resolved, storage_class))
                self._loop.settle()
                if self._life.done():
                    self._life.result()
        except BaseException:
            self._end()
            raise

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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def connect(self, path: str = "/", headers: Headers = (), *, peer: str = "127.0.0.1") -> Client:
        """Open a connection. Raises Refused when the server answers with anything but 101.

        When it closes the connection without an answer, the status is 0.

        Time passes as long as async handshake filters need it.
        """
        return self.connect_with([request(path, headers)], peer)

    def connect_with(self, chunks: Iterable[bytes], peer: str) -> Client:
        """Open a connection with a handshake that comes in `chunks`; else as `connect`."""
        transport = Transport(self._loop, peer)
        for index, chunk in enumerate(chunks):
            if index:
                transport.deliver(chunk)
            else:
                self._loop.call_soon(self._accept, transport, chunk)
            self._loop.settle()
        if not transport.sent:
            self._loop.settle(self.server.limits.handshake_timeout, lambda: bool(transport.sent))
        if not transport.sent:
            raise Refused(0, "the connection was closed without an answer", {})
        status, answered, rest = parse_response(transport.sent)
        if status != 101:
            raise Refused(status, rest.decode().rstrip("\n"), answered)
        return Client(self._loop, transport, answered, rest)

    def _accept(self, transport: Transport, first: bytes) -> None:
        transport.protocol = self._acceptor()
        transport.protocol.connection_made(transport)
        transport.deliver(first)

    def put(self, item: Any) -> None:
        """Put an item on the server's queue, for the consumer chain; raises as `queue.put` does."""
        self.call(lambda: self.server.queue.put(item))

    def advance(self, seconds: float) -> None:
        """Let time pass, in seconds, and what is due happen; it takes none.

        Raises RuntimeError when the server does not come to rest.
        """
        self._loop.settle(seconds)

    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in the server's event loop, where filters run; return its result.

        Raises what the function raises.
        """

        async def run() -> Result:
            return function()

        task = self._loop.create_task(run())
        self._loop.settle()
        return task.result()

    def module(self, name: str) -> ModuleType:
        """Return the module of this pipeline, for a test that looks into it or patches it.

        Raises KeyError for one that the pipeline has not imported.
        """
        return self._modules[name]

    @property
    def errors(self) -> list[str]:
        """What was logged as an error, such as a filter that has failed."""
        return [_text(record) for record in self.log if record.levelno >= logging.ERROR]

    def close(self) -> None:
        """Stop the server: all clients are closed with 1001, and disconnect filters run."""
        if not self._loop.is_closed():
            self._loop.call_soon(self._stopping.set)
            self._loop.settle(LONGEST_STOP, self._life.done)
            self._end()

    def _end(self) -> None:
        logging.getLogger().removeHandler(self._handler)
        self._loop.close()


class _Handler(logging.Handler):
    """Keep what is logged while one event loop runs."""

    def __init__(self, loop: FakeClockLoop, log: list[logging.LogRecord]) -> None:
        super().__init__()
        self._loop = loop
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        if asyncio._get_running_loop() is self._loop:
            self._log.append(record)


def _text(record: logging.LogRecord) -> str:
    """Return what a record says, and of its exception type and text."""
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return record.getMessage()
    return f"{record.getMessage()}: {type(error).__name__}: {text_of(error)}"


def _arguments(options: dict[str, Any]) -> list[str]:
    """Return options as they would be given to `fws_server`."""
    arguments = []
    for name, value in options.items():
        if value is True:
            arguments.append(f"--{name}")
        elif isinstance(value, list | tuple):
            arguments += [f"--{name}", *map(str, value)]
        elif value is not False:
            arguments.append(f"--{name}={value}")
    return arguments


@asynccontextmanager
async def _running(server: FilteredWebSocketFactory) -> AsyncIterator[None]:
    yield
