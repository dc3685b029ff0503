"""The same server on uvloop and, where that does not exist, on plain asyncio."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from websockets.sync.client import connect

from ..process import ServerProcess, wait_until
from .wire import (
    BINARY,
    CLOSE,
    TEXT,
    Frame,
    Peer,
    Start,
    close_frame,
    frame,
    head,
    local_tls,
    save_filters,
)

WITHOUT_UVLOOP = """
import sys
sys.modules["uvloop"] = None  # its import fails, as where it is not installed
from filtered_websocket.cli import main
sys.exit(main())
"""

LOOPS = {"uvloop": ("-m", "filtered_websocket"), "asyncio": ("-c", WITHOUT_UVLOOP)}

FILTERS = """
class Where(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print(type(asyncio.get_running_loop()).__module__, flush=True)

class Close(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg == b"close me":
            web_socket_instance.sendMessage("first this")
            web_socket_instance.loseConnection(4000, "as you wish")
"""

pytestmark = pytest.mark.parametrize("loop", LOOPS)


@pytest.fixture
def start(start_server: Start, tmp_path: Path, loop: str) -> Callable[..., ServerProcess]:
    """Start the server on the event loop of the test; stdout names the loop per connection."""
    save_filters(tmp_path, "smoke", FILTERS)

    def start(*filters: str, options: tuple[str, ...] = ()) -> ServerProcess:
        return start_server("-f", "smoke", *filters, *options, command=LOOPS[loop])

    return start


def test_messages_are_broadcast(start: Callable[..., ServerProcess], loop: str) -> None:
    """Small and large messages, text and binary, reach the others."""
    server = start("broadcast_messages")
    with connect(server.url) as a, connect(server.url) as b:
        for message in ("hello", b"\xff", "x" * 1_000_000):
            a.send(message)
            assert b.recv(timeout=10) == message
    assert server.stop() == 0
    assert all(name.startswith(loop) for name in server.stdout.split())
    assert server.stdout


def test_closing_from_either_side(start: Callable[..., ServerProcess]) -> None:
    """Codes are echoed, messages before a filter's close arrive, and a stop is a 1001."""
    server = start()
    with Peer(server.port) as peer:
        peer.open(close_frame(3000))
        assert peer.read_close() == 3000
    with Peer(server.port) as peer:
        peer.open(frame(TEXT, b"close me"))
        assert peer.read_frame() == Frame(TEXT, b"first this")
        assert peer.read_close() == 4000
    with Peer(server.port) as peer:
        peer.open()
        server.process.terminate()
        assert peer.read_close() == 1001
    assert server.wait() == 0
    assert "Traceback" not in server.stderr


def test_refusals_arrive_whole(start: Callable[..., ServerProcess]) -> None:
    """A client that sends more than it should still gets the answer that says so."""
    with Peer(start().port) as peer:
        peer.send(head(X="x" * 2_000_000))
        assert peer.read_answer().status == 431
        assert peer.input.read() == b""  # An RST would be an error here, and might lose the answer.


def test_tls(start: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """A large message crosses TLS, and both sides can close."""
    options, trust = local_tls(tmp_path)
    server = start("broadcast_messages", options=options)
    with Peer(server.port, tls=trust) as a, Peer(server.port, tls=trust) as b:
        a.open(), b.open()
        a.send(frame(BINARY, b"x" * 1_000_000))
        assert b.read_frame() == Frame(BINARY, b"x" * 1_000_000)
        a.send(close_frame(1000))
        assert a.read_frame().opcode == CLOSE
    assert server.stop() == 0
    assert " ERROR " not in server.stderr


@pytest.mark.slow
def test_a_slow_client_is_closed(start: Callable[..., ServerProcess]) -> None:
    """Who does not read is closed with 1013 after whole frames; who reads gets everything."""
    server = start("broadcast_messages", options=("--max_queue_bytes", "65536"))
    with Peer(server.port) as sender, Peer(server.port) as reader:
        with Peer(server.port, read_buffer=4096) as sleeper:
            for peer in (sender, reader, sleeper):
                peer.open()
            for number in range(200):
                payload = b"%03d" % number + b"x" * 65536
                sender.send(frame(BINARY, payload))
                assert reader.read_frame().payload == payload
            numbers = []
            while (received := sleeper.read_frame()).opcode == BINARY:
                numbers.append(int(received.payload[:3]))
            assert numbers == list(range(len(numbers)))
            assert received.payload[:2] == (1013).to_bytes(2)


def test_raw_data(start: Callable[..., ServerProcess]) -> None:
    """Bytes without a handshake are printed, and so are those of a handshake and its frames."""
    server = start("stdout_rawdata")
    with Peer(server.port) as peer:
        peer.send(b"Morgan\n")
        wait_until(lambda: "--RAWDATA--\nMorgan\n" in server.stdout, "the name")
    with Peer(server.port) as peer:
        peer.open(close_frame(1000))
        assert peer.read_close() == 1000
    assert server.stop() == 0
    assert "GET / HTTP/1.1" in server.stdout
