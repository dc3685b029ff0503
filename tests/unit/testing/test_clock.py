"""The event loop whose time passes when a test says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from filtered_websocket.testing.clock import FakeClockLoop


@pytest.fixture
def loop() -> Iterator[FakeClockLoop]:
    loop = FakeClockLoop()
    yield loop
    loop.close()


def test_all_that_needs_no_time_is_done(loop: FakeClockLoop) -> None:
    """`settle` returns when tasks, and what they have started, are done or wait for time."""
    done: list[str] = []

    async def work() -> None:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(done.append, "callback")
        await asyncio.sleep(0.001)
        done.append("too early")

    task = loop.create_task(work())
    loop.settle()
    assert done == ["callback"] and not task.done()
    task.cancel()
    loop.settle()


def test_time_passes_from_timer_to_timer(loop: FakeClockLoop) -> None:
    """What is due within the time happens at its time, what is due later does not."""
    times: list[float] = []
    for delay in (3.0, 1.0, 2.0, 60.0):
        loop.call_later(delay, lambda: times.append(loop.time()))
    loop.settle(2.5)
    assert times == pytest.approx([1, 2]) and loop.time() == pytest.approx(2.5)
    loop.settle(1)
    assert times == pytest.approx([1, 2, 3])


def test_time_stops_when_it_is_enough(loop: FakeClockLoop) -> None:
    """With `until`, no more time passes than it takes."""
    answers: list[str] = []
    loop.call_later(2, answers.append, "yes")
    loop.call_later(5, answers.append, "no")
    loop.settle(10, lambda: bool(answers))
    assert answers == ["yes"] and loop.time() == pytest.approx(2)


def test_threads_are_done_at_once(loop: FakeClockLoop) -> None:
    """What goes to a thread has its result, or its error, when `settle` returns."""
    results: list[Any] = []

    async def work() -> None:
        results.append(await asyncio.to_thread(sum, [1, 2]))
        try:
            await asyncio.to_thread(int, "x")
        except ValueError as error:
            results.append(str(error))

    loop.create_task(work())
    loop.settle()
    assert results[0] == 3 and "'x'" in results[1]


def test_what_never_rests_is_an_error(loop: FakeClockLoop) -> None:
    """What spins is reported, and does not hang the test."""

    def spin() -> None:
        loop.call_soon(spin)

    spin()
    with pytest.raises(RuntimeError, match="do not come to rest"):
        loop.settle()


async def test_inside_of_another_loop_it_says_what_to_do(empty_chains: None) -> None:
    """In an async test the error names the way out."""
    loop = FakeClockLoop()
    with pytest.raises(RuntimeError, match="in `def test"):
        loop.settle()
    loop.close()
