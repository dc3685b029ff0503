"""An event loop without real time: it stands still until a test lets time pass."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

__all__ = ["AtOnce", "FakeClockLoop"]

MAX_TURNS = 100_000  # of the loop without rest, after which it is taken for endless


class FakeClockLoop(asyncio.SelectorEventLoop):
    """Run until nothing is left to do; time passes only where `settle` is told to let it.

    What filters hand over to a thread runs at once.
    """

    def __init__(self) -> None:
        self._now = 0.0
        self._until = 0.0
        self._is_enough: Callable[[], bool] = bool
        self.max_turns = MAX_TURNS
        self._idle_selector = _IdleSelector(self._on_idle)
        super().__init__(self._idle_selector)
        self.set_default_executor(AtOnce())

    def time(self) -> float:
        return self._now

    def settle(self, seconds: float = 0.0, until: Callable[[], bool] = bool) -> None:
        """Do all that can be done now, and what comes due while `seconds` pass.

        Time stops where `until` is true. Raises RuntimeError when it does not come to rest, and as
        `demand_use` does.
        """
        self.demand_use()
        self._until, self._is_enough = self._now + seconds, until
        self._idle_selector.turns_left = self.max_turns
        self.run_forever()
        if self._idle_selector.turns_left < 0:
            raise RuntimeError("the filters do not come to rest")

    def demand_use(self) -> None:
        """Raise RuntimeError within a running event loop, or when this one is closed."""
        if self.is_closed():
            raise RuntimeError("the pipeline is closed")
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "a pipeline has an event loop of its own: use it in `def test…`, "
                "not in `async def test…`"
            )

    def _on_idle(self, timeout: float | None) -> None:
        """Go on to the next timer, if it is due within the time that may pass."""
        if self._is_enough():
            self.stop()
        elif timeout is not None and self._now + timeout <= self._until:
            self._now += timeout
        else:
            self._now = self._until
            self.stop()


class _IdleSelector(selectors.DefaultSelector):
    """Tell when the event loop would wait, instead of waiting."""

    def __init__(self, on_idle: Callable[[float | None], None]) -> None:
        super().__init__()
        self.turns_left = MAX_TURNS
        self._on_idle = on_idle

    def select(self, timeout: float | None = None) -> Any:
        events = super().select(0)
        self.turns_left -= 1
        if self.turns_left < 0:
            self._on_idle(None)
        elif not events and timeout != 0:
            self._on_idle(timeout)
        return events


class AtOnce(ThreadPoolExecutor):
    """Run what is submitted before `submit` returns."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as error:
            future.set_exception(error)
        return future
