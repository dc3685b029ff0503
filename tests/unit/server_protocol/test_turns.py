"""Who may go on reading, and when."""

from __future__ import annotations

import asyncio

import pytest

from filtered_websocket.server_protocol.turns import SLICE, Turns


@pytest.mark.parametrize(
    ("cost", "in_one_turn"), [(SLICE * 2, 1), (SLICE, 1), (SLICE / 2, 2), (0.0, 6)]
)
def test_those_that_wait_share_a_slice(cost: float, in_one_turn: int) -> None:
    """They go on in their order, in each turn as many as fit in a slice, and at least one."""

    async def go_on() -> list[list[int]]:
        turns, gone = Turns(), list[list[int]]()
        for number in range(6):
            turns.queue_up(lambda number=number: gone[-1].append(number), cost)  # type: ignore[misc]
        while sum(map(len, gone)) < 6:
            gone.append([])
            await asyncio.sleep(0)
        return gone

    expected = [list(range(i, i + in_one_turn)) for i in range(0, 6, in_one_turn)]
    assert asyncio.run(go_on()) == expected


def test_who_queues_up_again_waits_for_a_later_turn() -> None:
    """One that goes on and at once has to wait again does not keep the others from their turn."""

    async def go_on() -> list[str]:
        turns, gone = Turns(), list[str]()

        def again() -> None:
            gone.append("greedy")
            turns.queue_up(again, SLICE)

        turns.queue_up(again, SLICE)
        turns.queue_up(lambda: gone.append("other"), SLICE)
        for _ in range(3):
            await asyncio.sleep(0)
        return gone[:3]

    assert asyncio.run(go_on()) == ["greedy", "other", "greedy"]


def test_one_that_fails_keeps_nobody_from_his_turn() -> None:
    """Its error is reported by the event loop, and the next one goes on."""

    async def go_on() -> tuple[list[str], list[str]]:
        turns, gone, errors = Turns(), list[str](), list[str]()
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: errors.append(str(context["exception"])))

        def fail() -> None:
            raise OSError("broken")

        turns.queue_up(fail, SLICE)
        for name in ("one", "two"):
            turns.queue_up(lambda name=name: gone.append(name), SLICE)  # type: ignore[misc]
        for _ in range(5):
            await asyncio.sleep(0)
        return gone, errors

    assert asyncio.run(go_on()) == (["one", "two"], ["broken"])
