"""Clients that do not read: what they miss, and that they cost nobody else anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from filtered_websocket.filters.base import WebSocketMessageFilter
from filtered_websocket.server import FilteredWebSocket, FilteredWebSocketFactory
from filtered_websocket.server_protocol.limits import Limits

from ..process import wait_until
from .wire import (
    BINARY,
    CLOSE,
    PING,
    TEXT,
    Peer,
    Start,
    close_frame,
    frame,
    in_process,
    local_tls,
    memory,
)

MEGABYTE = 1024 * 1024
QUEUE = 65536
SIZE, COUNT = 16384, 1200  # together more than the kernel's buffers take
pytestmark = pytest.mark.slow


def numbered(number: int) -> bytes:
    return b"%06d" % number + b"x" * (SIZE - 6)


def flood(sender: Peer, reader: Peer) -> None:
    """Broadcast all messages, in step with one client that reads them."""
    for start in range(0, COUNT, 20):
        sender.send(b"".join(frame(BINARY, numbered(n)) for n in range(start, start + 20)))
        for number in range(start, start + 20):
            assert reader.read_frame().payload == numbered(number)


def read_numbers(peer: Peer, close_code: int) -> list[int]:
    """Return the numbers of the whole messages that a peer finds until its close frame."""
    found = []
    while True:
        opcode, payload, _ = peer.read_frame()
        if opcode == CLOSE:
            assert int.from_bytes(payload[:2]) == close_code
            return found
        assert payload == numbered(int(payload[:6]))
        found.append(int(payload[:6]))


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.parametrize("policy", ["close", "drop_oldest", "drop_newest"])
def test_a_slow_client_misses_messages_and_nobody_else_does(
    start_server: Start, tmp_path: Path, policy: str, with_tls: bool
) -> None:
    """The reader gets all in order, the sleeper what its queue held; memory stays as it was."""
    options, tls = local_tls(tmp_path) if with_tls else ((), None)
    options += ("--slow_client", policy, "--max_queue_bytes", str(QUEUE))
    server = start_server("-f", "broadcast_messages", *options)
    port = server.port
    with (
        Peer(port, tls=tls) as sender,
        Peer(port, tls=tls) as reader,
        Peer(port, tls=tls, read_buffer=4096) as sleeper,
    ):
        for peer in (sender, reader, sleeper):
            peer.open()
        before = memory(server)
        flood(sender, reader)
        assert memory(server) - before < 8 * MEGABYTE
        sleeper.send(close_frame(1000))
        found = read_numbers(sleeper, close_code=1013 if policy == "close" else 1000)
        assert sleeper.read_to_end() == b""
        assert 0 < len(found) < COUNT
        if policy == "drop_oldest":
            assert found == sorted(set(found))
            assert found[-1] == COUNT - 1
        else:
            assert found == list(range(len(found)))
        sender.send(frame(TEXT, b"bye"))
        assert reader.read_frame().payload == b"bye"


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_slow_client_that_wakes_up_gets_new_messages(start_server: Start, policy: str) -> None:
    """Once it has read what waited for it, it is a client like the others."""
    port = start_server(
        *("-f", "broadcast_messages", "--slow_client", policy, "--max_queue_bytes", str(QUEUE))
    ).port
    with Peer(port) as sender, Peer(port) as reader, Peer(port) as sleeper:
        for peer in (sender, reader, sleeper):
            peer.open()
        flood(sender, reader)

        def wakes_up() -> bool:
            sender.send(frame(TEXT, b"awake?"))
            assert reader.read_frame().payload == b"awake?"
            received = sleeper.socket.recv(MEGABYTE)
            return received.endswith(b"\x81\x06awake?")

        wait_until(wakes_up, "a new message")


@pytest.mark.parametrize("with_tls", [False, True])
def test_pings_of_a_peer_that_never_reads_are_bounded(
    start_server: Start, tmp_path: Path, with_tls: bool
) -> None:
    """100,000 pings leave no more than a transport's buffer of pongs behind."""
    options, tls = local_tls(tmp_path) if with_tls else ((), None)
    server = start_server("-f", "broadcast_messages", *options)
    port = server.port
    pings = frame(PING, b"x" * 125) * 1000
    with Peer(port, tls=tls) as other, Peer(port, tls=tls, read_buffer=4096) as peer:
        other.open(), peer.open()
        before = memory(server)
        for _ in range(100):
            peer.send(pings)
        peer.send(frame(TEXT, b"done"))
        assert other.read_frame().payload == b"done"
        assert memory(server) - before < 6 * MEGABYTE


def test_a_peer_that_does_not_answer_a_close_frame_is_cut_off(empty_chains: None) -> None:
    """The server waits for the answer no longer than the time limit."""

    def scenario(port: int, _: object) -> bytes:
        with Peer(port) as peer:
            peer.open(frame(TEXT, b"\xff"))
            assert peer.read_frame().opcode == CLOSE
            return peer.read_to_end()

    assert in_process(scenario, limits=Limits(close_timeout=0.1)) == b""


def test_a_peer_that_says_goodbye_but_never_reads_is_cut_off(empty_chains: None) -> None:
    """Its CLOSE frees its place at once, and after the time limit its socket, too."""

    class Echo(WebSocketMessageFilter):
        @classmethod
        def filter(cls, web_socket_instance: object, msg: object) -> None:
            web_socket_instance.sendMessage(msg)  # type: ignore[attr-defined]

    def scenario(port: int, factory: FilteredWebSocketFactory) -> None:
        with Peer(port, read_buffer=4096) as peer:
            peer.open()
            wait_until(lambda: factory.users, "the connection")
            (connection,) = factory.users.values()
            wait_until(lambda: is_stuck(peer, connection), "a full queue")
            peer.send(close_frame(1000))
            wait_until(lambda: not factory.users, "the disconnect")
            wait_until(lambda: connection.transport is None, "the end of the socket")

    in_process(scenario, limits=Limits(close_timeout=0.1, slow_client="drop_newest"))


def is_stuck(peer: Peer, connection: FilteredWebSocket) -> bool:
    """Send more to a server that echoes; tell whether the answers pile up there."""
    peer.send(frame(BINARY, bytes(SIZE)) * 16)
    return connection.unsent_bytes > 2 * QUEUE
