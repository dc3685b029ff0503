"""The way of single messages through their filters, for whoever asks why one did not arrive.

While a `Tracer` is on, it stands in the place of its chain's `run`. What it traces goes down the
chain's own loop, with steps that watch the filters; all else goes as always. Afterwards the chain
is as it was, so that a server that traces nothing pays nothing.

Payloads are shown here, other than in the log: that is what was asked for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from argparse import Namespace
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

from ..config import ConfigError
from ..filters.base import Chain
from ..server import FilteredWebSocketFactory
from ..typing import Message
from ..users import Users
from .trace_record import Trace, Visit, as_json_line, as_text, repr_of, snapshot

__all__ = ["Tracer", "set_up_tracing"]

logger = logging.getLogger(__name__)

DEFAULT_COUNT = 10  # messages, where the options give no number


def set_up_tracing(
    factory: FilteredWebSocketFactory, options: Namespace, reread: Callable[[], Namespace]
) -> None:
    """Trace messages from the start where the options say so, and after each SIGUSR1.

    `reread` returns the options as they are when the signal comes, or raises ConfigError.
    """
    of_messages, of_items = (
        Tracer(chain, factory.users, as_json=options.log_format == "json")
        for chain in (factory.message_chain, factory.consumer_chain)
    )

    def start(options: Namespace) -> None:
        count = options.trace or DEFAULT_COUNT
        connection, text = options.trace_connection or "", options.trace_match or ""
        of_connection = f" of {connection}" if connection else ""
        with_text = f" with {text!r}" if text else ""
        logger.info("tracing the next %d messages%s%s", count, of_connection, with_text)
        of_messages.start(count, connection, text)
        of_items.stop()
        if not connection:  # items are of none
            of_items.start(count, text=text)

    def on_signal() -> None:
        try:
            start(reread())
        except ConfigError as error:
            logger.error("%s; the options of the start are used", error)
            start(options)

    is_narrowed = options.trace_connection or options.trace_match
    if options.trace or (options.trace is None and is_narrowed):
        start(options)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, on_signal)


class Tracer:
    """Print the way of what goes down a chain; deliveries are what `users` counts as offered."""

    def __init__(
        self,
        chain: Chain,
        users: Users[Any],
        *,
        as_json: bool = False,
        write: Callable[[str], object] | None = None,
    ) -> None:
        self._chain = chain
        self._users = users
        self._connection = self._text = ""
        self._bytes = b""
        self._render = as_json_line if as_json else as_text
        self._write = write or _write_to_stderr
        self._run = chain.run  # the chain's own
        self._steps = chain.steps
        self._is_on = False
        self._number = self._count = self._under_way = 0

    def start(self, count: int, connection: str = "", text: str = "") -> None:
        """Trace the next `count`, however many the last call has left; then end by itself.

        `connection` (how its id begins, or the address of its peer) and `text` narrow it: others go
        by and do not count.
        """
        self._connection, self._text = connection.lower(), text
        self._bytes = text.encode(errors="surrogateescape")  # arguments need not be UTF-8
        if not self._is_on:
            self._is_on = True
            self._run, self._steps = self._chain.run, self._chain.steps
            self._chain.run = self._traced_async if self._chain.is_async else self._traced
        self._number, self._count = 0, count

    def stop(self) -> None:
        """Trace no more; those that are under way come to their end."""
        if self._is_on:
            self._is_on = False
            self._chain.run = self._run

    def _traced(self, web_socket_instance: Any, data: Any) -> Any:
        if not self._wants(web_socket_instance, data):
            return self._run(web_socket_instance, data)
        with self._watching(self._next(web_socket_instance, data)):
            return self._run(web_socket_instance, data)

    def _traced_async(self, web_socket_instance: Any, data: Any) -> Awaitable[Any]:
        run: Callable[[Any, Any], Awaitable[Any]] = self._run
        if not self._wants(web_socket_instance, data):
            return run(web_socket_instance, data)
        trace = self._next(web_socket_instance, data)

        async def traced() -> Any:
            with self._watching(trace):
                return await run(web_socket_instance, data)

        return traced()

    def _wants(self, web_socket_instance: Any, data: Any) -> bool:
        wanted = self._connection
        if wanted and _peer(web_socket_instance) != wanted:
            if not str(getattr(web_socket_instance, "id", "")).startswith(wanted):
                return False
        if not self._text:
            return True
        if isinstance(data, Message):
            return data.find(self._bytes) >= 0
        return self._text in repr_of(data)

    def _next(self, web_socket_instance: Any, data: Any) -> Trace:
        self._number += 1
        if self._number == self._count:
            self.stop()
        connection = str(getattr(web_socket_instance, "id", ""))
        return Trace.of_data(
            data, self._number, self._count, connection, _peer(web_socket_instance)
        )

    @contextmanager
    def _watching(self, trace: Trace) -> Iterator[None]:
        """Let the run that begins in this block find steps that watch, and tell of it at its end.

        Other runs do not find them: the loop has begun with its steps when a filter is called, and
        the first one that is puts the chain's own back.
        """
        watch = self._watched_async if self._chain.is_async else self._watched
        names = [step[0] for step in self._steps]
        self._under_way += 1
        # A step may have more than name and function, for whoever measures it.
        self._chain.steps = tuple(
            (step[0], partial(watch, trace, *step[:2]), *step[2:]) for step in self._steps
        )
        try:
            yield
        finally:
            self._chain.steps = self._steps
            trace.not_reached = names[len(trace.filters) :]
            with suppress(OSError, ValueError):  # where it goes to is full, or closed
                self._write(self._render(trace))
            self._under_way -= 1
            if self._number == self._count and not self._under_way:
                again = f"kill -USR1 {os.getpid()}"
                logger.info("traced %d, as was asked for; begin again with: %s", trace.of, again)

    def _watched(
        self,
        trace: Trace,
        name: str,
        function: Callable[[Any, Any], Any],
        web_socket_instance: Any,
        data: Any,
    ) -> Any:
        __tracebackhide__ = True
        before = snapshot(data)
        with self._visit(trace, name) as visit:
            with self._counting(visit):
                result = function(web_socket_instance, data)
            result = self._accept(result, data)
        visit.compare(before, snapshot(data if result is None else result))
        return result

    async def _watched_async(
        self,
        trace: Trace,
        name: str,
        function: Callable[[Any, Any], Any],
        web_socket_instance: Any,
        data: Any,
    ) -> Any:
        __tracebackhide__ = True
        before = snapshot(data)
        with self._visit(trace, name) as visit:
            with self._counting(visit):
                result = function(web_socket_instance, data)
            if isinstance(result, Awaitable):
                result = await _Counted(result, partial(self._counting, visit))
            result = self._accept(result, data)
        visit.compare(before, snapshot(data if result is None else result))
        return result

    @contextmanager
    def _visit(self, trace: Trace, name: str) -> Iterator[Visit]:
        """Take down how long the filter in this block takes, and how it ends."""
        self._chain.steps = self._steps
        visit = Visit(name)
        trace.filters.append(visit)
        began = time.perf_counter_ns()
        try:
            yield visit
        except self._chain.ended_by:
            visit.verdict = "dropped"
            raise
        except BaseException as error:
            visit.fail(error)
            raise
        finally:
            visit.microseconds = (time.perf_counter_ns() - began) // 1000

    def _accept(self, result: Any, data: Any) -> Any:
        """Do with a result what the chain will, which then finds nothing more to do."""
        return result if result is None or result is data else self._chain.accept(result, data)

    @contextmanager
    def _counting(self, visit: Visit) -> Iterator[None]:
        before = self._users.offered
        try:
            yield
        finally:
            visit.sent += self._users.offered - before


class _Counted:
    """Await something, and count in each of its steps: what runs in between is not its doing."""

    def __init__(
        self, awaitable: Awaitable[Any], counting: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._awaitable = awaitable
        self._counting = counting

    def __await__(self) -> Generator[Any, None, Any]:
        __tracebackhide__ = True
        steps = self._awaitable.__await__()
        resume: Callable[[], Any] = partial(next, steps)
        while True:
            with self._counting():
                try:
                    waited_for = resume()
                except StopIteration as end:
                    return end.value
            try:
                yield waited_for
            except BaseException as error:  # a cancellation too: it is for the filter
                resume = partial(steps.throw, error)
            else:
                resume = partial(next, steps)


def _peer(web_socket_instance: Any) -> str:
    request = getattr(web_socket_instance, "request", None)
    return getattr(request, "peer", "")


def _write_to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
