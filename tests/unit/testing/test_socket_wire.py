"""Clients over real sockets, which know when the server has done what they look for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import pytest

from filtered_websocket.testing import Server

from ..conftest import WriteModule

MEGABYTE = 1_000_000


@pytest.fixture(params=["uvloop", "asyncio"])
def start(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    fws_server: Callable[..., Server],
    empty_chains: None,
) -> Iterator[Callable[..., Server]]:
    """What starts servers, on the event loop of the test."""
    if request.param == "asyncio":
        monkeypatch.setitem(sys.modules, "uvloop", None)
    yield fws_server


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 900_000])
def test_messages_of_each_size(start: Callable[..., Server], size: int) -> None:
    """A message is handled when `send` returns, and there when `received` does."""
    server = start("broadcast_messages")
    alice, bob = server.connect(), server.connect()
    for count in range(1, 4):
        alice.send(b"\xff" * size)
        assert bob.received == [b"\xff" * size] * count


def test_thousands_of_messages_at_once(start: Callable[..., Server]) -> None:
    """What the server takes several turns for is handled as well when the call returns."""
    server = start("broadcast_messages")
    alice, bob = server.connect(), server.connect()
    alice.send_raw(b"\x81\x81\0\0\0\0x" * 20_000)
    assert bob.received == ["x"] * 20_000


def test_nothing_is_sent_that_the_test_does_not_send(
    start: Callable[..., Server], write_module: WriteModule
) -> None:
    """A data filter sees no pings or pongs, and half a frame stays half a frame."""
    source = """
    from filtered_websocket.filters.base import WebSocketDataFilter

    class Raw(WebSocketDataFilter):
        seen = b""

        @classmethod
        def filter(cls, web_socket_instance, data):
            cls.seen += data
    """
    write_module("raw.py", source)
    server = start("raw", "broadcast_messages")
    alice, bob = server.connect(), server.connect()
    raw = server.module("raw").Raw
    raw.seen = b""
    alice.send_raw(b"\x81\x81")
    assert bob.received == []
    alice.send_raw(b"\0\0\0\0x")
    assert bob.received == ["x"]
    assert raw.seen == b"\x81\x81\0\0\0\0x"


def test_a_server_that_reads_no_more(start: Callable[..., Server]) -> None:
    """Who has sent more than `--rate` allows need not wait, and can leave."""
    server = start("broadcast_messages", rate=0.001, rate_burst=1)
    alice, bob = server.connect(), server.connect()
    for _ in range(5):
        alice.send("hi")
    assert bob.received == ["hi"]
    assert alice.is_open
    alice.vanish()
    assert alice.close_code == 1006


@pytest.mark.parametrize("policy", ["close", "drop_newest", "drop_oldest"])
def test_a_slow_reader(start: Callable[..., Server], policy: str) -> None:
    """Who does not read is treated as the options say, and gets the rest when it reads again."""
    server = start("broadcast_messages", slow_client=policy, max_message_size=5 * MEGABYTE)
    alice, bob = server.connect(), server.connect()
    bob.stop_reading()
    for _ in range(6):
        alice.send(b"x" * 5 * MEGABYTE)
    bob.go_on_reading()
    assert len(bob.received) < 6
    assert bob.is_open == (policy != "close")
    if bob.is_open:
        alice.send("still there?")
        assert bob.received[-1] == "still there?"


def test_who_reads_gets_all_of_a_burst(start: Callable[..., Server]) -> None:
    """More than a socket takes at once arrives, since the client reads all the time."""
    server = start(
        "broadcast_messages", max_queue_bytes=50 * MEGABYTE, max_message_size=9 * MEGABYTE
    )
    alice, bob = server.connect(), server.connect()
    server.call(lambda: [server.server.users.broadcast("x" * MEGABYTE) for _ in range(20)])
    assert len(bob.received) == len(alice.received) == 20


def test_leaving_without_reading(start: Callable[..., Server]) -> None:
    """A client that has stopped reading can be gone as any other."""
    server = start("broadcast_messages")
    alice, bob = server.connect(), server.connect()
    bob.stop_reading()
    alice.send("hi")
    bob.vanish()
    assert bob.close_code == 1006
    assert list(server.server.users) == [alice.connection.id]


def test_pings_of_the_server_are_answered(start: Callable[..., Server]) -> None:
    """A client stays while the test looks elsewhere, and one that does not read is gone."""
    server = start(ping_interval=0.02, ping_timeout=0.1)
    alice, bob = server.connect(), server.connect()
    bob.stop_reading()
    server.wait_for(lambda: len(server.server.users) == 1)
    assert alice.is_open
    bob.go_on_reading()
    assert bob.close_code == 1011
