"""How what is sent to one peer reaches its socket, and what it costs when the peer reads slowly."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filtered_websocket.frames import encode_close
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.server_protocol.outbox import OVERHEAD

from ..conftest import idle
from .recorder import SMALL, Recorder, slow, text


@pytest.mark.parametrize("policy", ["close", "drop_oldest", "drop_newest"])
async def test_what_fits_waits_for_a_slow_reader(policy: str) -> None:
    """Nothing is lost as long as it fits: it leaves in order when the socket has room."""
    connection = slow(policy, "01", "23", "45")
    assert connection.socket.written == b""
    connection.resume_writing()
    connection.send("67")
    assert connection.socket.written == text("01", "23", "45", "67")


@pytest.mark.parametrize(
    ("policy", "left"),
    [("drop_oldest", ["45", "67", "89"]), ("drop_newest", ["01", "23", "45"])],
)
async def test_what_does_not_fit_is_dropped(policy: str, left: list[str]) -> None:
    """Whole frames go, the oldest or the newest; the connection stays."""
    connection = slow(policy, "01", "23", "45", "67", "89")
    connection.resume_writing()
    assert connection.send("ab").socket.written == text(*left, "ab")
    assert connection.socket.close_codes == []


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
async def test_that_something_is_dropped_is_told_once(
    policy: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Once until the reader has caught up; with the connection, and no message of it."""
    caplog.set_level(logging.INFO)
    connection = slow(policy, "01", "23", "45")
    assert not caplog.records
    connection.send("67", "89")
    (record,) = caplog.records
    assert record.__dict__["connection"] is connection
    assert "--max_queue_bytes" in record.getMessage()
    connection.resume_writing()
    connection.pause_writing()
    connection.send("01", "23", "45", "67")
    assert len(caplog.records) == 2


async def test_a_reader_that_is_too_slow_is_closed() -> None:
    """By default it gets 1013 instead of what waits; not before the turn has ended."""
    connection = slow("close", "01", "23", "45", "67", "89")
    assert connection.events == ["connect"]
    await idle()
    assert connection.socket.close_codes == [1013]
    assert connection.events == ["connect", "disconnect"]
    assert connection.socket.written == encode_close(1013, "too slow")


@given(st.sampled_from(["drop_oldest", "drop_newest"]), st.lists(st.text(max_size=8)))
def test_what_waits_is_bounded(policy: str, messages: list[str]) -> None:
    """Whatever is sent, no more than the limit waits, or one frame."""
    connection = slow(policy, *messages)
    for msg in messages:
        connection.send(msg)
        waiting = [len(data) for data in connection._waiting or ()]
        assert sum(waiting) + OVERHEAD * len(waiting) <= SMALL["queue_bytes"] or len(waiting) == 1
    connection.resume_writing()
    assert len(connection.socket.written) == sum(waiting) if messages else True


async def test_a_socket_that_fills_again_while_it_empties() -> None:
    """What was not taken waits on, in order, and still counts."""
    connection = slow("drop_newest", "01", "23", "45")
    take = connection.socket.write

    def take_one(data: bytes | memoryview) -> None:
        take(data)
        connection.pause_writing()

    connection.socket.write = take_one  # type: ignore[method-assign]
    connection.resume_writing()
    assert connection.socket.written == text("01")
    connection.send("67", "89")  # the second is too much
    for _ in range(5):
        connection.resume_writing()
    assert connection.socket.written == text("01", "23", "45", "67")


async def test_many_tiny_messages_count_as_what_they_take() -> None:
    """What waits is bounded in memory, not in payload."""
    connection = Recorder(Limits(slow_client="drop_oldest", queue_bytes=1000)).open()
    connection.pause_writing()
    connection.send(*["a"] * 100)
    assert len(connection._waiting or ()) == 1000 // (3 + OVERHEAD)
