"""The client in memory, against the real server code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from filtered_websocket.testing import Client, Pipeline


@pytest.fixture
def pipeline(empty_chains: None) -> Iterator[Pipeline]:
    with Pipeline("broadcast_messages", max_queue_bytes=1000) as pipeline:
        yield pipeline


@pytest.fixture
def alice(pipeline: Pipeline) -> Client:
    return pipeline.connect()


@pytest.fixture
def bob(pipeline: Pipeline) -> Client:
    return pipeline.connect()


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 200_000])
def test_messages_of_each_size_and_type(alice: Client, bob: Client, size: int) -> None:
    """Text arrives as `str`, binary as `bytes`, however the length is encoded."""
    alice.send("x" * size)
    alice.send(b"\xff" * size)
    assert bob.received == ["x" * size, b"\xff" * size]
    assert alice.received == []


def test_fragments_are_one_message(alice: Client, bob: Client) -> None:
    """Fragments arrive as one message, of the type of the first."""
    alice.send_fragments(["h", "", "i"])
    alice.send_fragments([b"1", b"2"])
    assert bob.received == ["hi", b"12"]


@pytest.mark.parametrize("message", [3, None, ["hi"]])
def test_what_is_no_message(alice: Client, bob: Client, message: Any) -> None:
    """Anything but text and bytes is an error of the test; above all, 3 is not three zeros."""
    with pytest.raises(TypeError):
        alice.send(message)
    assert bob.received == []


def test_raw_bytes_may_be_half_a_frame(alice: Client, bob: Client) -> None:
    """Half a frame is nothing yet, and rubbish closes the connection."""
    alice.send_raw(b"\x81\x81")
    assert bob.received == []
    alice.send_raw(b"\0\0\0\0x")
    assert bob.received == ["x"]
    alice.send_raw(b"\xff" * 100)
    assert alice.close_code == 1002


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (4001, "bye")])
def test_closing(pipeline: Pipeline, alice: Client, code: int, reason: str) -> None:
    """A client that closes gets its code back, is gone, and cannot send any more."""
    alice.close(code, reason)
    assert (alice.close_code, alice.is_open) == (code, False)
    assert not pipeline.server.users
    alice.close()
    with pytest.raises(RuntimeError, match=f"closed, with {code}"):
        alice.send("x")


def test_being_closed(pipeline: Pipeline, alice: Client, bob: Client) -> None:
    """The code and the reason that the server sends are there to look at."""
    pipeline.call(lambda: alice.connection.loseConnection(4002, "not you"))
    assert (alice.close_code, alice.close_reason) == (4002, "not you")
    assert bob.is_open


def test_vanishing(pipeline: Pipeline, alice: Client, bob: Client) -> None:
    """A client whose network is gone sees 1006, and the server forgets it."""
    alice.vanish()
    assert alice.close_code == 1006
    assert list(pipeline.server.users) == [bob.connection.id]


def test_a_slow_reader(alice: Client, bob: Client) -> None:
    """What comes while a client does not read is there later, as far as the queue holds it."""
    bob.stop_reading()
    alice.send("early")
    assert bob.received == []
    bob.go_on_reading()
    assert bob.received == ["early"]
    bob.stop_reading()
    for _ in range(3):
        alice.send("x" * 500)
    bob.go_on_reading()
    assert bob.close_code == 1013


def test_pings_are_answered(pipeline: Pipeline, alice: Client) -> None:
    """A client stays for hours, since it answers the pings of the server."""
    pipeline.advance(7200)
    assert alice.is_open
    alice.stop_reading()
    pipeline.advance(120)
    assert not alice.is_open or not pipeline.server.users
