"""What a pipeline and a server have in common: filters of their own, options, a log."""

from __future__ import annotations

import logging
import warnings
from abc import ABC, abstractmethod
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar

from ..config import resolve
from ..filters.base import text_of
from ..importer import add_storage_options, import_filters, import_storage
from ..options import default_parser
from ..server import FilteredWebSocketFactory
from .client import Client, Headers
from .import_path import with_own_folders
from .isolation import empty_chains

__all__ = ["PATIENCE", "FilterRun"]

Result = TypeVar("Result")
PATIENCE = 10.0  # seconds that a test waits for what should come at once


class FilterRun(ABC):
    """Run filters as `fws_server -f` would, apart from those of other tests."""

    log: list[logging.LogRecord]
    """All records that were logged while its event loop ran."""
    server: FilteredWebSocketFactory
    """The server: what consumer filters get."""
    storage_object: Any
    """The storage object of the server."""

    def __init__(
        self, filters: Sequence[str], storage: str | None, options: dict[str, Any]
    ) -> None:
        """Import the modules anew and start. Raises what `fws_server` would complain of."""
        self.log = []
        self._handler = _Handler(self.log, self._is_running_here)
        logging.getLogger().addHandler(self._handler)
        self._folders = ExitStack()  # filters may import later as well
        try:
            if "filters" in options or not all(isinstance(name, str) for name in filters):
                kind = type(self).__name__
                raise TypeError(f'name filters one by one, as {kind}("my_filter", "other_filter")')
            self._folders.enter_context(with_own_folders())
            with empty_chains() as self._modules:
                storage_class = import_storage(storage)
                parser = default_parser()
                add_storage_options(storage_class, parser)
                resolved = resolve(parser, _arguments(options), {}).options
                for warning in import_filters(filters):
                    warnings.warn(warning, stacklevel=3)
                self._start(resolved, storage_class)
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @abstractmethod
    def connect(self, path: str = "/", headers: Headers = (), *, peer: str = "127.0.0.1") -> Client:
        """Open a connection. Raises Refused when the server answers with anything but 101.

        When it closes the connection without an answer, the status is 0.
        """

    @abstractmethod
    def call(self, function: Callable[[], Result]) -> Result:
        """Call a function in the server's event loop, where filters run; return its result."""

    @abstractmethod
    def wait_for(self, condition: Callable[[], object], seconds: float = PATIENCE) -> None:
        """Return when `condition` is true. Raises TimeoutError when it is not within `seconds`."""

    @abstractmethod
    def close(self) -> None:
        """Stop the server: all clients are closed with 1001, and disconnect filters run."""

    def put(self, item: Any) -> None:
        """Put an item on the server's queue, for the consumer chain; raises as `queue.put` does."""
        self.call(lambda: self.server.queue.put(item))

    def module(self, name: str) -> ModuleType:
        """Return the module of this run, for a test that looks into it or patches it.

        Raises KeyError for one that it has not imported.
        """
        return self._modules[name]

    @property
    def errors(self) -> list[str]:
        """What was logged as an error, such as a filter that has failed."""
        return [_text(record) for record in self.log if record.levelno >= logging.ERROR]

    @abstractmethod
    def _start(self, options: Namespace, storage_class: Any) -> None:
        """Start the server; return when it serves, and has taken the chains as they are."""

    @abstractmethod
    def _is_running_here(self) -> bool:
        """Tell whether what is logged at this moment is of this run."""

    def _end(self) -> None:
        """Leave nothing behind."""
        logging.getLogger().removeHandler(self._handler)
        self._folders.close()


class _Handler(logging.Handler):
    """Keep what is logged of one run."""

    def __init__(self, log: list[logging.LogRecord], is_ours: Callable[[], bool]) -> None:
        super().__init__()
        self._log = log
        self._is_ours = is_ours

    def emit(self, record: logging.LogRecord) -> None:
        if self._is_ours():
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
