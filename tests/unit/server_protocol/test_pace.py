"""How fast one client may send."""

from __future__ import annotations

import asyncio
from time import monotonic

import pytest

from filtered_websocket.server_protocol.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still until the test moves it."""
    return Clock()


@pytest.mark.parametrize(("rate", "burst", "at_once"), [(10, 5, 5), (10, 0, 1), (0.5, 1, 1)])
def test_a_burst_passes_and_then_the_rate(
    clock: Clock, rate: float, burst: float, at_once: int
) -> None:
    """As many messages as the burst pass at once, and one more each time its share has gone by."""
    pace = Pace(rate, burst, clock)
    assert [pace.take() for _ in range(at_once + 1)] == [True] * at_once + [False]
    clock.now += 1 / rate + 1e-9
    assert [pace.take(), pace.take()] == [True, False]


def test_a_silent_client_saves_no_more_than_the_burst(clock: Clock) -> None:
    """After a long silence the burst is what passes at once."""
    pace = Pace(10, 3, clock)
    pace.take()
    clock.now += 3600
    assert [pace.take() for _ in range(4)] == [True, True, True, False]


async def test_a_message_waits_for_its_turn() -> None:
    """Messages beyond the burst pass later, in their order."""
    pace = Pace(1000, 1, monotonic)
    for _ in range(5):
        await asyncio.wait_for(pace.turn(), 5)


async def test_nobody_waits_for_a_client_that_has_gone() -> None:
    """At the end what waits passes at once, and so does all that comes then."""
    pace = Pace(0.0001, 1, monotonic)
    pace.take()
    waiting = asyncio.get_running_loop().create_task(pace.turn())
    await asyncio.sleep(0)
    pace.end()
    await asyncio.wait_for(waiting, 5)
    assert pace.take()
