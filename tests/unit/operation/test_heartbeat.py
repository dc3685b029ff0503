"""The heartbeat of the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from filtered_websocket.operation.heartbeat import INTERVAL, Heartbeat


class FakeLoop:
    """An event loop whose time passes when the test says so."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> FakeLoop:
        self.timers.append((when, callback))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def run(self, *, late: float = 0.0) -> None:
        when, callback = self.timers.pop()
        self.now = when + late
        callback()


def test_each_beat_tells_its_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Listeners get by how much a beat was late, and the next one is due an interval after it."""
    loop = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    lags: list[float] = []
    heartbeat = Heartbeat()
    heartbeat.listeners += [lags.append, lags.append]
    heartbeat.start()
    loop.run()
    loop.run(late=0.25)
    assert lags == [0, 0, 0.25, 0.25]
    assert [when - loop.now for when, _ in loop.timers] == [INTERVAL]


def test_a_stopped_one_is_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """After `stop` nothing is due, whether it was started or not."""
    loop = FakeLoop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    heartbeat = Heartbeat()
    heartbeat.stop()
    heartbeat.start()
    heartbeat.stop()
    assert loop.timers == []
