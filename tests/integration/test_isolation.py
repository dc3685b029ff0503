"""One peer, filter or thread that misbehaves harms nobody else, and never the end of the server."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from filtered_websocket.filters.base import (
    WebSocketConnectFilter,
    WebSocketDataFilter,
    WebSocketDisconnectFilter,
    WebSocketMessageFilter,
)
from filtered_websocket.server import FilteredWebSocketFactory
from filtered_websocket.server_protocol.limits import Limits

from ..process import ServerProcess, told, wait_until, with_close_timeout
from .wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Peer,
    Start,
    ask,
    frame,
    head,
    in_process,
    local_tls,
    save_filters,
)

UNMASKED = frame(TEXT, b"!", masked=False)

JOURNAL = """
class Opened(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print("opened", web_socket_instance.id, flush=True)

class Left(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print("left", web_socket_instance.id, flush=True)
"""


def assert_served(peer: Peer) -> None:
    peer.send(frame(PING, b"?"))
    assert peer.read_frame() == Frame(PONG, b"?")


def assert_stops_quietly(server: ServerProcess) -> None:
    assert server.stop() == 0
    assert "Traceback" not in server.stderr
    assert " ERROR " not in server.stderr


# Peers


def test_a_header_of_blanks_is_refused_while_others_are_served(start_server: Start) -> None:
    """A control byte behind thousands of blanks is a 400 at once, not minutes of searching."""
    server = start_server("-f")
    with Peer(server.port) as other, Peer(server.port) as attacker:
        other.open()
        attacker.send(head(X=" " * 7990 + "\x01"))
        assert_served(other)
        assert attacker.read_answer().status == 400


@pytest.mark.usefixtures("empty_chains")
@pytest.mark.parametrize("with_data_filter", [False, True])
@pytest.mark.parametrize("flood", [frame(CONTINUATION, fin=False), frame(PING)])
def test_a_flood_is_read_in_slices(flood: bytes, with_data_filter: bool) -> None:
    """However large the buffer has grown for a message, one read takes 64 KiB of it at most."""
    chunks: list[int] = []
    if with_data_filter:
        body = staticmethod(lambda _, data: chunks.append(len(data)))
        type("Sizes", (WebSocketDataFilter,), {"filter": body})

    def scenario(port: int, factory: FilteredWebSocketFactory) -> None:
        with Peer(port) as peer:
            peer.open(frame(BINARY, b"x" * 1_000_000), frame(TEXT, b"a", fin=False))
            peer.send(flood * 50_000 + frame(PING, b"end"))
            while peer.read_frame() != Frame(PONG, b"end"):
                pass
            (connection,) = factory.users.values()
            assert 0 < len(connection.get_buffer(1_000_000)) <= 64 * 1024

    in_process(scenario)
    assert max(chunks, default=0) <= 64 * 1024


@pytest.mark.usefixtures("empty_chains")
@pytest.mark.parametrize("when", ["with the handshake", "later"])
def test_a_peer_that_breaks_the_protocol_and_does_not_read_is_gone(when: str) -> None:
    """It leaves `users` at once, its disconnect chain runs, and it is cut off in time."""
    left: list[Any] = []
    full = staticmethod(lambda connection, _: connection.sendMessage(b"x" * 30_000_000))
    type("Full", (WebSocketConnectFilter,), {"filter": full})
    gone = staticmethod(lambda connection, _: left.append(connection))
    type("Gone", (WebSocketDisconnectFilter,), {"filter": gone})

    def scenario(port: int, factory: FilteredWebSocketFactory) -> None:
        with Peer(port, read_buffer=4096) as peer:
            if when == "later":
                peer.open()
                wait_until(lambda: factory.users, "the connection")
                peer.send(UNMASKED)
            else:
                peer.send(head() + UNMASKED)
            wait_until(lambda: left, "the disconnect chain")
            assert not factory.users
            wait_until(lambda: left[0].transport is None, "the end of the connection")

    in_process(scenario, limits=Limits(queue_bytes=2**30, close_timeout=0.1))
    assert len(left) == 1


@pytest.mark.usefixtures("empty_chains")
@pytest.mark.parametrize("when", ["with the handshake", "later"])
def test_nothing_follows_the_close_frame_of_a_broken_protocol(when: str) -> None:
    """An answer to a message before the bad frame may be lost, but never comes behind 1002."""
    echo = staticmethod(lambda connection, msg: connection.sendMessage(msg))
    type("Echo", (WebSocketMessageFilter,), {"filter": echo})

    def scenario(port: int, factory: FilteredWebSocketFactory) -> None:
        with Peer(port) as peer:
            last_words = frame(TEXT, b"before") * 3 + UNMASKED
            if when == "later":
                peer.open().send(last_words)
            else:
                peer.open(last_words)
            assert peer.read_close() == 1002
            wait_until(lambda: not factory.users, "the end of the connection")

    in_process(scenario)


def test_who_finishes_the_tls_handshake_during_the_drain_leaves_again(
    start_server: Start, tmp_path: Path
) -> None:
    """Nobody opens a connection whose disconnect chain would not run any more."""
    save_filters(tmp_path, "journal", JOURNAL)
    options, trust = local_tls(tmp_path)
    server = start_server("-f", "journal", "--drain_seconds", "60", *options)
    with Peer(server.port, tls=trust) as slow, Peer(server.port) as late:
        slow.open()
        wait_until(lambda: "opened" in server.stdout, "the connect chain")
        server.process.send_signal(signal.SIGTERM)
        assert slow.read_frame().opcode == CLOSE
        with suppress(OSError, EOFError, ValueError):  # it may come too late
            late.socket = trust.wrap_socket(late.socket, server_hostname="localhost")
            late.input = late.socket.makefile("rb")
            late.open()
            assert late.read_close() == 1001
        slow.send(frame(CLOSE, b"\x03\xe9"))
        slow.read_to_end()
    assert server.wait() == 0
    opened, left = (
        set(re.findall(rf"^{name} (\S+)$", server.stdout, re.MULTILINE))
        for name in ("opened", "left")
    )
    assert opened == left
    assert "Traceback" not in server.stderr


def test_a_client_whose_time_is_up_is_answered_once(
    empty_chains: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A handshake filter that rejects after the 408 adds nothing, to the answer or to the log."""
    from filtered_websocket.filters.base import RejectHandshake, WebSocketHandshakeFilter

    class Slow(WebSocketHandshakeFilter):
        @classmethod
        async def filter(cls, web_socket_instance: Any, request: Any) -> None:
            try:
                await asyncio.Future()
            except asyncio.CancelledError:
                raise RejectHandshake(403, "too late") from None

    answer = in_process(lambda port, _: ask(port, head()), limits=Limits(handshake_timeout=0.1))
    assert answer.status == 408
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# Filters


@pytest.mark.parametrize("reason", ["\\ud800", "x" * 100_000])
def test_any_reason_of_a_rejection_is_an_answer(
    start_server: Start, tmp_path: Path, reason: str
) -> None:
    """A reason that no text can carry, or a long one, costs no traceback; others are served."""
    save_filters(
        tmp_path,
        "reject",
        f"""
class Reject(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        if request.path == "/no":
            raise RejectHandshake(403, "{reason}")
""",
    )
    server = start_server("-f", "reject")
    assert ask(server.port, head("/no")).status in (403, 500)
    with Peer(server.port) as other:
        assert_served(other.open())
    assert server.stop() == 0
    assert "Traceback" not in server.stderr


CANCELLED = """
class Cancelled({chain}):
    @classmethod
    {definition} filter(cls, web_socket_instance, data):
        raise asyncio.CancelledError("of something else")
"""


@pytest.mark.parametrize("definition", ["def", "async def"])
@pytest.mark.parametrize("count", [1, 200])
def test_a_disconnect_filter_that_is_cancelled_at_the_stop(
    start_server: Start, tmp_path: Path, definition: str, count: int
) -> None:
    """It is named in the log; the filters behind it run for everybody, and the exit code is 0."""
    cancelled = CANCELLED.format(chain="WebSocketDisconnectFilter", definition=definition)
    save_filters(tmp_path, "cancelled", cancelled + JOURNAL)
    server = start_server("-f", "cancelled")
    peers = [Peer(server.port).open() for _ in range(count)]
    server.process.send_signal(signal.SIGTERM)
    for peer in peers:
        with peer:
            assert peer.read_close() == 1001
    assert server.wait() == 0
    assert server.stdout.count("left ") == count
    assert told(server.stderr, "Cancelled failed: asyncio.exceptions.CancelledError: of s") == count


@pytest.mark.parametrize("definition", ["def", "async def"])
def test_a_cancellation_out_of_a_message_filter_costs_one_message(
    start_server: Start, tmp_path: Path, definition: str
) -> None:
    """What the peer sent behind it, more than the backlog, is handled, and so is what follows."""
    save_filters(
        tmp_path,
        "echo",
        f"""
class Echo(WebSocketMessageFilter):
    @classmethod
    {definition} filter(cls, web_socket_instance, msg):
        if msg == b"cancel":
            raise asyncio.CancelledError
        web_socket_instance.sendMessage(msg)
""",
    )
    server = start_server("-f", "echo")
    messages = [b"%d" % number for number in range(300)]
    with Peer(server.port) as peer:
        peer.open(frame(TEXT, b"cancel"), *(frame(TEXT, message) for message in messages))
        peer.send(frame(TEXT, b"more"))
        for message in [*messages, b"more"]:
            assert peer.read_frame() == Frame(TEXT, message)
    assert server.stop() == 0
    assert told(server.stderr, "filter echo.Echo failed: ") == 1


@pytest.mark.parametrize("chain", ["Message", "Disconnect", "Handshake"])
def test_a_filter_that_swallows_its_cancellation_does_not_keep_the_server(
    start_server: Start, tmp_path: Path, chain: str
) -> None:
    """SIGTERM ends the server with exit code 0, and one line says what was left."""
    save_filters(
        tmp_path,
        "stubborn",
        f"""
class Stubborn(WebSocket{chain}Filter):
    @classmethod
    async def filter(cls, web_socket_instance, data):
        print("started", flush=True)
        while True:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                pass
""",
    )
    server = start_server("-f", "stubborn", command=with_close_timeout(0.1))
    with Peer(server.port) as peer:
        peer.send(head() + frame(TEXT, b"hi") + frame(CLOSE, b"\x03\xe8"))
        wait_until(lambda: "started" in server.stdout, "the filter")
        assert server.stop() == 0
    assert server.stderr.count(" ERROR ") == 1
    assert "1 tasks of filters do not end; the server ends without" in server.stderr
    assert "Traceback" not in server.stderr


def test_a_disconnect_filter_may_close_everybody(start_server: Start, tmp_path: Path) -> None:
    """Hundreds of clients are all closed by the first that leaves, and nobody stays in `users`."""
    save_filters(
        tmp_path,
        "everybody",
        """
class Everybody(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        for user in web_socket_instance.users.values():
            user.loseConnection(4000)
        print("left", len(web_socket_instance.users), flush=True)
""",
    )
    server = start_server("-f", "everybody")
    peers = [Peer(server.port).open() for _ in range(500)]
    for peer in peers[1:]:
        assert_served(peer)  # so that it is in `users` when the first one leaves
    peers[0].reset()
    for peer in peers[1:]:
        with peer:
            assert peer.read_close() == 4000
    wait_until(lambda: server.stdout.count("left 0\n") == 500, "the disconnect chains")
    assert_stops_quietly(server)


def test_a_disconnect_filter_cannot_change_the_close_code(
    start_server: Start, tmp_path: Path
) -> None:
    """One that closes its own connection again leaves clients their 1001 at the stop."""
    save_filters(
        tmp_path,
        "again",
        """
class Again(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.loseConnection(4000, "mine")
""",
    )
    server = start_server("-f", "again")
    with Peer(server.port) as peer:
        peer.open()
        assert_served(peer)
        server.process.send_signal(signal.SIGTERM)
        assert peer.read_close() == 1001
    assert server.wait() == 0


ANSWERING = """
class Answering(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.sendMessage(b"x" * {size})
        print("answered", flush=True)
"""


def test_answers_before_the_handshake_are_bounded(start_server: Start, tmp_path: Path) -> None:
    """A data filter that answers each chunk fails once the bound is reached; the rest is sent."""
    save_filters(tmp_path, "answering", ANSWERING.format(size=600_000))
    server = start_server("-f", "answering")
    with Peer(server.port) as peer:
        request = head()
        for size, expected in ((1, "answered\n"), (2, "answered\n"), (3, "answered\n")):
            peer.send(request[size - 1 : size])
            failures = size - 1
            wait_until(
                lambda n=failures: told(server.stderr, "answering.Answering failed") == n, "errors"
            )
            wait_until(lambda e=expected: server.stdout == e, "the answer")
        peer.send(request[3:])
        assert peer.read_answer().status == 101
        assert peer.read_frame() == Frame(TEXT, b"x" * 600_000)
        assert_served_after_data(peer)
    assert server.stop() == 0


def assert_served_after_data(peer: Peer) -> None:
    """Skip what a data filter sends; the answer to a ping must be there."""
    peer.send(frame(PING, b"?"))
    while (received := peer.read_frame()).opcode != PONG:
        assert received.opcode == TEXT


def test_answers_after_a_refusal_are_dropped_with_one_warning(
    start_server: Start, tmp_path: Path
) -> None:
    """A peer that goes on after its 400 makes a data filter fill neither memory nor the log."""
    save_filters(tmp_path, "answering", ANSWERING.format(size=600_000))
    server = start_server("-f", "answering")
    with Peer(server.port) as peer:
        peer.send(b"Morgan\r\n\r\n")
        assert peer.read_answer().status == 400
        for count in range(2, 6):
            peer.send(b"more")
            wait_until(lambda n=count: server.stdout.count("answered") == n, "the data filter")
    assert server.stderr.count("is closed: a message to it was dropped") == 1
    assert_stops_quietly(server)


# The process


@pytest.fixture
def free_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    yield port


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams_are_no_obstacle(
    start_server: Start, free_port: int, closed: str
) -> None:
    """What would be printed vanishes, instead of into the socket that got the free descriptor."""
    shell = (
        "import os, sys\n"
        f"script = 'exec \"$@\" {closed}'\n"
        "command = [sys.executable, '-m', 'filtered_websocket', *sys.argv[1:]]\n"
        "os.execvp('sh', ['sh', '-c', script, 'sh', *command])\n"
    )
    server = start_server("-f", "stdout_messages", port=free_port, command=("-c", shell))

    def is_listening() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", free_port)) == 0

    wait_until(is_listening, "the start")
    with Peer(free_port) as peer:
        peer.open(frame(TEXT, b"hello"))
        assert_served(peer)
    assert server.stop() == 0
    assert ("hello" in server.stdout) == (">&-" not in closed.replace("2>&-", ""))
    assert ("stopped" in server.stderr) == ("2>&-" not in closed)


def test_a_deleted_current_directory_is_no_obstacle(start_server: Start) -> None:
    """A server that is started where nothing is any more runs with the bundled filters."""
    gone = (
        "import os, sys\n"
        "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'filtered_websocket', *sys.argv[1:]])\n"
    )
    server = start_server(command=("-c", gone))
    with Peer(server.port) as peer:
        assert_served(peer.open())
    assert_stops_quietly(server)
