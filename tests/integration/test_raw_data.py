"""The data chain: every byte that a client sends, with or without a handshake."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..process import ServerProcess, wait_until
from .wire import CLOSE, TEXT, Frame, Peer, Start, close_frame, frame, head, local_tls, save_filters

SHOW = """
class Show(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print(data.hex(), flush=True)

class Echo(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage(msg)
"""


def shown(server: ServerProcess) -> bytes:
    return bytes.fromhex(server.stdout.rpartition("\n")[0])


@pytest.mark.parametrize("data", [b"Morgan\n", b"\x00\xff" * 5000, b"\r\n\r\n"])
def test_bytes_without_a_handshake_are_seen(
    start_server: Start, tmp_path: Path, data: bytes
) -> None:
    """`echo Morgan | nc localhost 9000` reaches the data filters, and so does any garbage."""
    save_filters(tmp_path, "show", SHOW)
    server = start_server("-f", "show")
    with Peer(server.port) as peer:
        peer.send(data)
        wait_until(lambda: shown(server) == data, "the bytes")
    assert server.stop() == 0
    assert "Traceback" not in server.stderr


@pytest.mark.parametrize("with_tls", [False, True])
@pytest.mark.parametrize("piece", [1, 100, 1_000_000])
def test_handshake_and_frames_are_seen_once_and_in_order(
    start_server: Start, tmp_path: Path, with_tls: bool, piece: int
) -> None:
    """However the bytes are cut, and through TLS, the chain gets them as they were sent."""
    save_filters(tmp_path, "show", SHOW)
    options, tls = local_tls(tmp_path) if with_tls else ((), None)
    server = start_server("-f", "show", *options)
    messages = [b"a", b"x" * (300 if piece == 1 else 200_000), b"b"]
    data = head() + b"".join(frame(TEXT, message) for message in messages) + close_frame(1000)
    with Peer(server.port, tls=tls) as peer:
        for start in range(0, len(data), piece):
            peer.send(data[start : start + piece])
        assert peer.read_answer().status == 101
        assert [peer.read_frame().payload for _ in messages] == messages
        assert peer.read_frame().opcode == CLOSE
    wait_until(lambda: shown(server) == data, "all bytes")


@pytest.mark.parametrize("is_async", [False, True])
def test_frames_behind_the_handshake_are_seen_once(
    start_server: Start, tmp_path: Path, is_async: bool
) -> None:
    """Frames that came with the request are shown once, also when an async filter let them wait."""
    door = f"""
class Door(WebSocketHandshakeFilter):
    @classmethod
    {"async " * is_async}def filter(cls, web_socket_instance, request):
        {"await asyncio.sleep(0)" if is_async else "pass"}
"""
    save_filters(tmp_path, "show", SHOW + door)
    server = start_server("-f", "show")
    data = head() + frame(TEXT, b"a") + frame(TEXT, b"b")
    with Peer(server.port) as peer:
        peer.send(data)
        assert peer.read_answer().status == 101
        assert [peer.read_frame().payload for _ in range(2)] == [b"a", b"b"]
    assert server.stop() == 0
    assert shown(server) == data


@pytest.mark.parametrize(
    "body", ["return b'changed'", "data[:] = b'changed'", "raise DropMessage", "raise ValueError"]
)
def test_results_of_data_filters_stay_in_their_chain(
    start_server: Start, tmp_path: Path, body: str
) -> None:
    """What a data filter does to its copy never changes what the server reads."""
    changer = f"""
class Change(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        {body}
"""
    save_filters(tmp_path, "change", changer + SHOW)
    server = start_server("-f", "change")
    with Peer(server.port) as peer:
        peer.open()
        peer.send(frame(TEXT, b"hello"))
        assert peer.read_frame() == Frame(TEXT, b"hello")
    expected = b"" if "raise" in body else b"changed" * 2
    wait_until(lambda: shown(server) == expected, "what the next data filter got")


def test_a_message_sent_before_the_handshake_arrives_after_it(
    start_server: Start, tmp_path: Path
) -> None:
    """A data filter may greet at the first byte; nothing but HTTP is sent before the 101."""
    save_filters(
        tmp_path,
        "greet",
        """
class Greet(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.sendMessage(f"{len(data)} bytes")
        print("greeted", flush=True)
""",
    )
    server = start_server("-f", "greet")
    with Peer(server.port) as peer:
        peer.send(head()[:10])
        wait_until(lambda: server.stdout == "greeted\n", "the first chunk")
        peer.send(head()[10:])
        assert peer.read_answer().status == 101
        sizes = [10, len(head()) - 10]
        assert [peer.read_frame() for _ in sizes] == [Frame(TEXT, b"%d bytes" % n) for n in sizes]


@pytest.mark.parametrize("close", ["loseConnection()", "abortConnection()"])
@pytest.mark.parametrize("data", [b"Morgan\n", head()])
def test_a_data_filter_can_end_a_connection_before_it_opens(
    start_server: Start, tmp_path: Path, close: str, data: bytes
) -> None:
    """The socket is closed, and neither connect nor disconnect chain runs."""
    save_filters(
        tmp_path,
        "refuse",
        f"""
class Refuse(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.{close}

class Join(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print("joined", flush=True)

class Leave(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print("left", flush=True)
""",
    )
    server = start_server("-f", "refuse")
    with Peer(server.port) as peer:
        peer.send(data)
        assert peer.read_to_end() == b""
    assert server.stop() == 0
    assert server.stdout == ""
    assert " ERROR " not in server.stderr
