"""Notice what a filter does with the time of the event loop while a story is played.

CPU time and waiting are measured around each filter. Timers interrupt one that does not come to an
end. What is known to block is noticed before it does: by an audit hook, and for `time.sleep`, which
has no audit event before Python 3.13, by a function in its place.
"""

from __future__ import annotations

import inspect
import os
import signal
import socket
import stat
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator, Iterator, Set
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager
from types import FrameType
from typing import Any, Self

from ...filters.base import Chain
from .. import clock
from .law import Breach, is_authors, place

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

__all__ = ["Interrupted", "Watch"]

CPU_LIMIT = 0.5  # seconds of CPU time for one call of a filter: far more than a good one takes
STEP_LIMIT = 1.0  # seconds of CPU time for all that follows from one step of a story
WAIT_LIMIT = 0.5  # seconds after which one that waits is interrupted
SHORT_WAIT = 0.05  # seconds of waiting that count; a machine under load may take as long, once
TICK = 0.1  # seconds

BLOCKING = {
    "builtins.input": "input",
    "fcntl.flock": "fcntl.flock",
    "fcntl.lockf": "fcntl.lockf",
    "open": "open, of a named pipe",
    "os.posix_spawn": "os.posix_spawn",
    "os.spawn": "os.spawn",
    "os.system": "os.system",
    "socket.connect": "socket.connect",
    "socket.getaddrinfo": "socket.getaddrinfo",
    "socket.gethostbyaddr": "socket.gethostbyaddr",
    "socket.gethostbyname": "socket.gethostbyname",
    "socket.getnameinfo": "socket.getnameinfo",
    "subprocess.Popen": "subprocess.Popen",
}
"""Audit events of calls that block, with what is told of them."""


class Interrupted(BaseException):
    """End a filter that blocks or takes too long; no `except Exception` may keep it from that."""


class Watch:
    """Watch one thread, the one that makes it; entered around all that is played."""

    def __init__(self, checked: Set[str]) -> None:
        """Notice breaches of the laws in `checked`."""
        self.breaches: list[Breach] = []
        self.ran: set[str] = set()
        self.longest: dict[str, float] = {}  # CPU time of the longest call of each filter
        self.modules: set[str] = set()
        self._checks_time = "time" in checked
        self._checks_blocking = "blocking" in checked
        self._filter = ""
        self._is_playing = False
        self._thread = threading.get_ident()
        self._has_timers = threading.current_thread() is threading.main_thread() and hasattr(
            signal, "setitimer"
        )
        self._waits_at = ""
        self._step_cpu = 0.0
        self._stop: Callable[[], None] = lambda: None
        self.is_stopped = False
        self.definitions: dict[str, str] = {}  # of the filters: where they are
        self._begin()

    def begin(self, modules: set[str], stop: Callable[[], None]) -> None:
        """Watch another pipeline from now on, with these modules; `stop` stops its event loop."""
        self._stop, self.is_stopped = stop, False
        self.breaches, self.ran, self.longest = [], set(), {}
        self.modules, self.definitions = modules, {}

    def __enter__(self) -> Self:
        global _watch
        if _watch is not None:
            raise RuntimeError("only one filter can be checked at a time")
        _watch = self
        _add_audit_hook()
        self._sleep = time.sleep  # noqa: TID251 - to call it in the thread of an executor
        time.sleep = self._noticed_sleep  # type: ignore[assignment]  # noqa: TID251 - to notice who blocks the event loop
        if self._has_timers:
            self._handlers = {
                number: signal.signal(number, self._on_tick)
                for number in (signal.SIGVTALRM, signal.SIGALRM)
            }
            self._entered = time.monotonic()
            self._timers = {
                timer: signal.setitimer(timer, TICK, TICK)
                for timer in (signal.ITIMER_VIRTUAL, signal.ITIMER_REAL)
            }
        return self

    def __exit__(self, *error: object) -> None:
        global _watch
        _watch = None
        time.sleep = self._sleep  # noqa: TID251 - as above
        if self._has_timers:
            passed = time.monotonic() - self._entered
            for timer in self._timers:
                signal.setitimer(timer, 0)
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            for timer, (left, interval) in self._timers.items():
                if left:  # somebody else's, such as that of a plugin that ends tests that hang
                    signal.setitimer(timer, max(left - passed, 0.001), interval)

    @contextmanager
    def playing(self) -> Iterator[None]:
        """Notice what is done in the block."""
        self._begin()
        self._step_cpu = self._cpu
        self._is_playing, self._filter = True, ""
        try:
            yield
        finally:
            self._is_playing = False

    # Around each filter

    def watch_chain(self, chain: Chain) -> None:
        """Measure each filter of a chain from now on."""
        chain.steps = tuple((name, self._measured(name, step)) for name, step in chain.steps)

    def _measured(self, name: str, function: Callable[[Any, Any], Any]) -> Callable[..., Any]:
        where = self.definitions[name] = _definition(function)

        def measured(web_socket_instance: Any, data: Any) -> Any:
            __tracebackhide__ = True
            with self._measure(name, where):
                result = function(web_socket_instance, data)
            if isinstance(result, Awaitable):
                return _Measured(result, lambda: self._measure(name, where))
            return result

        return measured

    @contextmanager
    def _measure(self, name: str, where: str) -> Iterator[None]:
        outer = self._filter
        self.ran.add(name)
        self._filter = name
        self._begin()
        try:
            yield
        finally:
            cpu, wait = self._spent()
            self.longest[name] = max(self.longest.get(name, 0.0), cpu)
            # The process was not only out of turn, on a busy machine: it has asked to wait.
            if wait > SHORT_WAIT and _switches() > self._switches:
                self._on_wait(self._waits_at or where, f"waited for {wait:.2f} s")
            self._filter = outer
            self._begin()

    def _begin(self) -> None:
        self._waits_at = ""
        self._switches = _switches()
        self._cpu, self._wall = time.thread_time(), time.perf_counter()

    def _spent(self) -> tuple[float, float]:
        """Return seconds of CPU time, and of waiting, since `_begin`."""
        cpu = time.thread_time() - self._cpu
        return cpu, time.perf_counter() - self._wall - cpu

    # What goes on in a thread of the executor: in memory it runs in this one

    def executor(self) -> clock.AtOnce:
        """Return an executor in whose jobs it is right to wait."""
        return _Aside(self)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Notice nothing in the block, and do not count its time."""
        is_playing, self._is_playing = self._is_playing, False
        cpu, wall = time.thread_time(), time.perf_counter()
        try:
            yield
        finally:
            self._is_playing = is_playing
            self._cpu += time.thread_time() - cpu
            self._wall += time.perf_counter() - wall

    # What breaks a law

    def _on_tick(self, number: int, frame: FrameType | None) -> None:
        if not self._is_playing:
            return
        if not self.is_stopped and time.thread_time() - self._step_cpu > STEP_LIMIT:
            self.on_no_rest()
            self._stop()
        culprit = self._culprit(frame)
        if culprit is None:
            return
        cpu, wait = self._spent()
        if wait > SHORT_WAIT and not self._waits_at:
            self._waits_at = culprit[1]
        if cpu > CPU_LIMIT:
            if self._checks_time:
                what = f"{culprit[0]} was still busy after {cpu:.1f} s of CPU time"
                self.breaches.append(Breach("time", (what, culprit[1]), is_slow=True))
            self._begin()
            raise Interrupted
        if wait > WAIT_LIMIT and _switches() > self._switches:
            self._on_wait(culprit[1], f"waited for more than {WAIT_LIMIT} s")
            self._begin()
            raise Interrupted

    def on_no_rest(self) -> None:
        """Note that the event loop had something to do without end."""
        self.is_stopped = True
        if self._checks_time:
            what = f"the event loop never came to rest; {', '.join(sorted(self.ran))} ran"
            self.breaches.append(Breach("time", (what,), is_slow=True))

    def _on_wait(self, where: str, what: str) -> None:
        if self._checks_blocking:
            sentence = f"the filter {self._filter} {what}, and all clients with it"
            self.breaches.append(Breach("blocking", (sentence, where), is_slow=True))

    def on_blocking_call(self, call: str, frame: FrameType) -> None:
        """Interrupt who calls what blocks, unless it is not in the event loop."""
        is_here = self._is_playing and threading.get_ident() == self._thread
        if is_here and self._checks_blocking and (culprit := self._culprit(frame)):
            what = f"{culprit[0]} called {call}, which blocks the event loop"
            self.breaches.append(Breach("blocking", (what, culprit[1])))
            raise Interrupted

    def _noticed_sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.on_blocking_call(f"time.sleep({seconds})", sys._getframe(1))
        self._sleep(seconds)

    def _culprit(self, frame: FrameType | None) -> tuple[str, str] | None:
        """Return who is at work in the event loop, and where; None when no author's code is."""
        while frame is not None:
            module = frame.f_globals.get("__name__", "")
            if module == clock.__name__ or module.startswith("asyncio"):
                return None  # asyncio knows how not to block
            if is_authors(frame, self.modules):
                name = self._filter
                who = f"the filter {name}" if name else f"something that {module} has started"
                return who, place(frame.f_code.co_filename, frame.f_lineno)
            frame = frame.f_back
        return None


class _Measured:
    """Measure each step of an awaitable."""

    def __init__(
        self, awaitable: Awaitable[Any], measure: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._awaitable = awaitable
        self._measure = measure

    def __await__(self) -> Generator[Any, Any, Any]:
        __tracebackhide__ = True
        steps: Any = self._awaitable.__await__()
        step, value = next, steps
        while True:
            with self._measure():
                try:
                    waits_for = step(value)
                except StopIteration as stop:
                    return stop.value
            try:
                value, step = (yield waits_for), steps.send
            except BaseException as error:
                value, step = error, steps.throw


class _Aside(clock.AtOnce):
    """Run what is submitted at once, and let the watch look away meanwhile."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        with self._watch.aside():
            return super().submit(fn, *args, **kwargs)


_watch: Watch | None = None
_has_audit_hook = False


def _add_audit_hook() -> None:
    global _has_audit_hook
    if not _has_audit_hook:  # there is no way to remove one: outside of a watch it does nothing
        _has_audit_hook = True
        sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _watch is not None and event in BLOCKING and _blocks(event, arguments):
        _watch.on_blocking_call(BLOCKING[event], sys._getframe(1))


def _blocks(event: str, arguments: tuple[Any, ...]) -> bool:
    if event == "open":
        return _is_named_pipe(arguments[0])
    if event == "socket.connect":
        connecting: socket.socket = arguments[0]
        return connecting.gettimeout() != 0
    if event.startswith("fcntl"):
        from fcntl import LOCK_NB, LOCK_UN

        return not arguments[1] & (LOCK_NB | LOCK_UN)
    return True


def _is_named_pipe(path: object) -> bool:
    if isinstance(path, int):  # it is open already
        return False
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # type: ignore[arg-type]
    except (OSError, TypeError, ValueError):
        return False


def _switches() -> int:
    """Return how often this thread has stopped to wait for something."""
    if resource is None or not hasattr(resource, "RUSAGE_THREAD"):
        return 0  # only Linux counts them for a thread: elsewhere the audit hook has to do
    return resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw


def _definition(function: Callable[..., Any]) -> str:
    code = getattr(inspect.unwrap(getattr(function, "__func__", function)), "__code__", None)
    return place(code.co_filename, code.co_firstlineno) if code else ""
