"""Async filters: the order on one connection is kept, and no other connection waits."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..process import told, wait_until
from .wire import (
    BINARY,
    TEXT,
    WAIT_FOR_GO,
    Frame,
    Peer,
    Start,
    close_frame,
    frame,
    memory,
    save_filters,
)

MEGABYTE = 1024 * 1024

SLOW = f"""
{WAIT_FOR_GO}
class Slow(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        if msg.startswith(b"slow"):
            print("stuck", flush=True)
            await wait_for_go()
        web_socket_instance.sendMessage(msg)

class Leave(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print("left", flush=True)
"""


def test_the_order_of_one_connection_is_kept(start_server: Start, tmp_path: Path) -> None:
    """A message that takes long is not overtaken by those behind it."""
    save_filters(
        tmp_path,
        "uneven",
        """
class Uneven(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        await asyncio.sleep(0.02 / (1 + int(msg)))
        web_socket_instance.sendMessage(msg)
""",
    )
    messages = [str(number).encode() for number in range(100)]
    with Peer(start_server("-f", "uneven").port) as peer:
        peer.open(*(frame(TEXT, message) for message in messages))
        assert [peer.read_frame().payload for _ in messages] == messages


def test_others_do_not_wait_for_a_slow_filter(start_server: Start, tmp_path: Path) -> None:
    """While one client's message hangs in a filter, the other's goes through."""
    save_filters(tmp_path, "slow", SLOW)
    server = start_server("-f", "slow")
    with Peer(server.port) as a, Peer(server.port) as b:
        a.open(frame(TEXT, b"slow"), frame(TEXT, b"behind it"))
        wait_until(lambda: "stuck" in server.stdout, "the slow filter")
        b.open(frame(TEXT, b"quick"))
        assert b.read_frame().payload == b"quick"
        (tmp_path / "go").touch()
        assert [a.read_frame().payload for _ in range(2)] == [b"slow", b"behind it"]


@pytest.mark.slow
def test_a_full_backlog_pauses_reading(start_server: Start, tmp_path: Path) -> None:
    """A sender whose messages hang in a filter is stopped by TCP, and costs bounded memory."""
    save_filters(tmp_path, "slow", SLOW.replace("web_socket_instance.sendMessage(msg)", "pass"))
    server = start_server("-f", "slow")
    with Peer(server.port) as peer:
        peer.open()
        before = memory(server)
        rest = memoryview(frame(TEXT, b"slow") + frame(BINARY, bytes(32768)) * 4096)
        peer.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            while rest:
                rest = rest[peer.socket.send(rest[:MEGABYTE]) :]
        assert memory(server) - before < 32 * MEGABYTE
        (tmp_path / "go").touch()
        peer.socket.settimeout(10)
        peer.send(bytes(rest))
        peer.send(close_frame(1000))
        assert peer.read_close() == 1000
    wait_until(lambda: server.stdout == "stuck\nleft\n", "the disconnect chain")


@pytest.mark.parametrize("leave", [Peer.__exit__, Peer.reset])
def test_the_disconnect_chain_runs_after_the_messages(
    start_server: Start, tmp_path: Path, leave: object
) -> None:
    """What a client sent before it left is handled first, each event once."""
    save_filters(
        tmp_path,
        "log",
        f"""
{WAIT_FOR_GO}
class Log(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        print(msg.decode(), flush=True)
        await wait_for_go()

class Join(WebSocketConnectFilter):
    @classmethod
    async def filter(cls, web_socket_instance, data):
        await asyncio.sleep(0)
        print("join", flush=True)

class Leave(WebSocketDisconnectFilter):
    @classmethod
    async def filter(cls, web_socket_instance, data):
        await asyncio.sleep(0)
        print("left", len(web_socket_instance.users), flush=True)
""",
    )
    server = start_server("-f", "log")
    with Peer(server.port) as peer:
        peer.open(frame(TEXT, b"1"), frame(TEXT, b"2"), frame(TEXT, b"3"))
        wait_until(lambda: "1" in server.stdout, "the first message")
        leave(peer)  # type: ignore[operator]
    (tmp_path / "go").touch()
    wait_until(lambda: "left" in server.stdout, "the disconnect chain")
    assert server.stdout == "join\n1\n2\n3\nleft 0\n"


def test_sync_and_async_filters_form_one_chain(start_server: Start, tmp_path: Path) -> None:
    """Results, dropped messages and failures mean the same in both; types are kept."""
    save_filters(
        tmp_path,
        "mixed",
        """
class First(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        msg += b"1"

class Second(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        await asyncio.sleep(0)
        if msg.startswith(b"drop"):
            raise DropMessage
        if msg.startswith(b"fail"):
            raise LookupError("second")
        return bytes(msg) + b"2"

class Third(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage(bytes(msg) + b"3")
""",
    )
    server = start_server("-f", "mixed")
    with Peer(server.port) as peer:
        peer.open(*(frame(TEXT, text) for text in (b"a", b"drop", b"fail", b"b")))
        peer.send(frame(BINARY, b"c"))
        assert [peer.read_frame() for _ in range(3)] == [
            Frame(TEXT, b"a123"),
            Frame(TEXT, b"b123"),
            Frame(BINARY, b"c123"),
        ]
    assert server.stop() == 0
    (error,) = [line for line in server.stderr.splitlines() if " ERROR " in line]
    assert "mixed.Second" in error
    assert "LookupError: second" in error


def test_plain_bytes_have_the_type_of_the_message_in_hand(
    start_server: Start, tmp_path: Path
) -> None:
    """Two clients whose messages are handled in turns do not mix up their types."""
    save_filters(
        tmp_path,
        "echo",
        f"""
{WAIT_FOR_GO}
class Echo(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        print("waits", flush=True)
        await wait_for_go()
        web_socket_instance.sendMessage(bytes(msg))
""",
    )
    server = start_server("-f", "echo")
    with Peer(server.port) as a, Peer(server.port) as b:
        a.open(frame(BINARY, b"a"), frame(TEXT, b"b"))
        b.open(frame(TEXT, b"a"), frame(BINARY, b"b"))
        wait_until(lambda: server.stdout.count("waits") == 2, "both filters")
        (tmp_path / "go").touch()
        assert [a.read_frame() for _ in range(2)] == [Frame(BINARY, b"a"), Frame(TEXT, b"b")]
        assert [b.read_frame() for _ in range(2)] == [Frame(TEXT, b"a"), Frame(BINARY, b"b")]


def test_the_consumer_chain_may_be_async(start_server: Start, tmp_path: Path) -> None:
    """Items are consumed one after the other, in order, and a failing one does not end that."""
    save_filters(
        tmp_path,
        "items",
        """
class Put(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.queue.put(0)

class Take(WebSocketConsumerFilter):
    @classmethod
    async def filter(cls, server, item):
        if item == 0:
            for number in (1, 2, 3, 4):
                server.queue.put(number)
            await asyncio.sleep(0.02)
        if item == 2:
            raise LookupError("two")
        server.users.broadcast(str(item))
""",
    )
    server = start_server("-f", "items")
    with Peer(server.port) as peer:
        peer.open()
        for _ in range(2):
            peer.send(frame(TEXT, b"go"))
            assert b"".join(peer.read_frame().payload for _ in range(4)) == b"0134"
    assert server.stop() == 0
    assert told(server.stderr, "filter items.Take failed: LookupError: two") == 2


def test_a_stop_waits_for_async_filters(start_server: Start, tmp_path: Path) -> None:
    """What clients sent before the stop, and their disconnect chain, are run to the end."""
    save_filters(
        tmp_path,
        "slow",
        f"""
{WAIT_FOR_GO}
class Handle(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        print(msg.decode(), flush=True)
        await wait_for_go()

class Leave(WebSocketDisconnectFilter):
    @classmethod
    async def filter(cls, web_socket_instance, data):
        await asyncio.sleep(0.1)
        print("left", flush=True)
""",
    )
    server = start_server("-f", "slow")
    with Peer(server.port) as peer:
        peer.open(frame(TEXT, b"1"), frame(TEXT, b"2"))
        wait_until(lambda: "1" in server.stdout, "the first message")
        server.process.terminate()
        assert peer.read_close() == 1001
    (tmp_path / "go").touch()
    assert server.wait() == 0
    assert server.stdout == "1\n2\nleft\n"
    assert "Traceback" not in server.stderr
