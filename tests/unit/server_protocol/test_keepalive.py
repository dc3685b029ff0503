"""Pings, and the end of silent connections."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from filtered_websocket.frames import PING, encode_control
from filtered_websocket.server_protocol import keepalive
from filtered_websocket.server_protocol.keepalive import Keepalive


class Clock:
    """An event loop whose time the test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], None]) -> Any:
        self.timers.append((self.now + delay, callback))
        return self

    def cancel(self) -> None:
        self.timers.clear()

    def forward(self, seconds: float) -> None:
        end = self.now + seconds
        while self.timers and self.timers[0][0] <= end:
            self.now, callback = self.timers.pop(0)
            callback()
        self.now = end


class Peer:
    def __init__(self, clock: Clock) -> None:
        self.id = uuid4()
        self.clock = clock
        self.is_open = self.was_heard = True
        self.is_held = False
        self.pinged_at: list[float] = []
        self.closed_with: int | None = None

    def ping(self, frame: bytes) -> None:
        assert frame == encode_control(PING)
        self.pinged_at.append(self.clock.now)

    def end(self, code: int, reason: str) -> None:
        self.is_open = False
        self.closed_with = code


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(keepalive.asyncio, "get_running_loop", lambda: clock)
    return clock


@pytest.mark.parametrize("number", [1, 7, 1000])
def test_each_peer_is_pinged_once_in_an_interval(clock: Clock, number: int) -> None:
    """Whoever answers gets a ping each interval and stays; many are spread over the interval."""
    peers = [Peer(clock) for _ in range(number)]
    Keepalive({peer.id: peer for peer in peers}, 20, 5).start()
    for _ in range(100):
        clock.forward(1)
        for peer in peers:
            peer.was_heard = True
    assert {len(peer.pinged_at) for peer in peers} == {5}
    times = {round(peer.pinged_at[-1], 3) for peer in peers}
    assert len(times) == min(number, 20)
    for peer in peers:
        gaps = [b - a for a, b in zip(peer.pinged_at, peer.pinged_at[1:], strict=False)]
        assert gaps == pytest.approx([20] * 4)
        assert peer.closed_with is None


def test_who_says_nothing_is_closed(clock: Clock) -> None:
    """Silence after a ping ends in 1011, no sooner than the timeout, and not for who has left."""
    silent, left, held = (Peer(clock) for _ in range(3))
    held.is_held = True
    peers = {peer.id: peer for peer in (silent, left, held)}
    Keepalive(peers, 20, 5).start()
    clock.forward(4)
    assert silent.pinged_at
    del peers[left.id]
    clock.forward(silent.pinged_at[0] + 4.9 - clock.now)
    assert silent.is_open
    clock.forward(2)
    assert (silent.closed_with, left.closed_with, held.closed_with) == (1011, None, None)


def test_a_slow_answer_is_an_answer(clock: Clock) -> None:
    """With a timeout of many intervals, what comes within it counts, also between two pings."""
    peer = Peer(clock)
    Keepalive({peer.id: peer}, 1, 10).start()
    for _ in range(10):
        clock.forward(8)
        peer.was_heard = True
        clock.forward(0.3)
    assert peer.closed_with is None
    clock.forward(12)
    assert peer.closed_with == 1011


def test_how_long_an_answer_takes_is_measured(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for each ping; a pong that nobody asked for measures nothing."""
    monkeypatch.setattr(keepalive, "perf_counter", lambda: clock.now)
    peer = Peer(clock)
    sweep = Keepalive({peer.id: peer}, 20, 5)
    sweep.start()
    sweep.answered(peer.id)
    while not peer.pinged_at:
        clock.forward(0.5)
    clock.forward(peer.pinged_at[0] + 2 - clock.now)
    sweep.answered(peer.id)
    sweep.answered(peer.id)
    assert sweep.round_trips.count == 1
    assert sweep.round_trips.sum == pytest.approx(2)


def test_after_the_stop_nobody_is_pinged(clock: Clock) -> None:
    """A server that stops sends no pings."""
    peer = Peer(clock)
    sweep = Keepalive({peer.id: peer}, 20, 5)
    sweep.start()
    sweep.stop()
    clock.forward(100)
    assert peer.pinged_at == []


def test_tiny_intervals_are_as_good_as_they_can_be(clock: Clock) -> None:
    """An interval below what a timer can do does not keep the server busy."""
    peer = Peer(clock)
    Keepalive({peer.id: peer}, 1e-6, 5).start()
    clock.forward(1)
    assert 10 < len(peer.pinged_at) <= 100
