"""An open connection: messages, fragments, closing, and who gets what in which order."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from ..process import ServerProcess, wait_until
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
    close_frame,
    frame,
    head,
    save_filters,
)

LIMIT = 100_000

FILTERS = """
class Join(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print(web_socket_instance.id, "connect", len(web_socket_instance.users), flush=True)

class Do(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        me, command = web_socket_instance, bytes(msg)
        if command == b"id":
            me.sendMessage(str(me.id))
        elif command == b"users":
            me.sendMessage(f"{len(me.users)} {me.users.get(me.id) is me}")
        elif command == b"lose":
            for number in range(3):
                me.sendMessage(str(number))
            me.loseConnection(4001, "bye")
            me.loseConnection(4002)
            me.sendMessage("too late")
        elif command == b"abort":
            me.abortConnection()
            me.abortConnection()
        elif command == b"order":
            me.sendMessage("1")
            me.users.broadcast("2")
            me.sendMessage("3")
            me.users.broadcast("4", skip=me.id)
            for user in me.users.values():
                user.sendMessage("5")
            me.users.broadcast("6", to=[me.id])
        elif command == b"plain bytes":
            me.sendMessage(bytes(msg))
        elif command == b"not utf-8":
            me.sendMessage(b"\\xff")
        elif command == b"text":
            return "caf\\xe9"
        elif command == b"break":
            msg[0] = 0xFF

class Echo(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg not in (b"id", b"users", b"lose", b"abort", b"order", b"plain bytes", b"not utf-8"):
            web_socket_instance.sendMessage(msg)

class Leave(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print(web_socket_instance.id, "disconnect", web_socket_instance.id in
              web_socket_instance.users, flush=True)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("connection")
    save_filters(folder, "do", FILTERS)
    server = ServerProcess(folder, "-f", "do", "--max_message_size", str(LIMIT))
    yield server
    server.kill()


@pytest.fixture
def peer(server: ServerProcess) -> Iterator[Peer]:
    with Peer(server.port) as peer:
        yield peer.open()


# Text and binary


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize(
    "message", [b"", b"hello", "grüße 👋".encode(), b"x" * 125, b"x" * 126, b"x" * 65536]
)
def test_an_echo_keeps_the_type(peer: Peer, opcode: int, message: bytes) -> None:
    """A message goes back as it came, text as text and binary as binary, whatever its size."""
    peer.send(frame(opcode, message))
    assert peer.read_frame() == Frame(opcode, message)


@pytest.mark.parametrize(
    ("opcode", "command", "answer"),
    [
        (TEXT, b"plain bytes", Frame(TEXT, b"plain bytes")),
        (BINARY, b"plain bytes", Frame(BINARY, b"plain bytes")),
        (TEXT, b"not utf-8", Frame(BINARY, b"\xff")),
        (BINARY, b"not utf-8", Frame(BINARY, b"\xff")),
        (TEXT, b"break", Frame(BINARY, b"\xffreak")),
        (BINARY, b"break", Frame(BINARY, b"\xffreak")),
        (BINARY, b"text", Frame(TEXT, "café".encode())),
        (BINARY, b"\xff", Frame(BINARY, b"\xff")),
    ],
)
def test_what_filters_send_has_the_right_type(
    peer: Peer, opcode: int, command: bytes, answer: Frame
) -> None:
    """Plain bytes have the type of the message in hand, str is text, no text breaks UTF-8."""
    peer.send(frame(opcode, command))
    assert peer.read_frame() == answer


def test_a_broadcast_keeps_the_type_and_leaves_out_the_sender(start_server: Start) -> None:
    """Others get text as text and bytes as bytes; the sender gets only what others send."""
    server = start_server("-f", "broadcast_messages")
    messages = ["text", b"binary", b"\xff\x00", "grüße", ""]
    with connect(server.url) as a, connect(server.url) as b, connect(server.url) as c:
        for message in messages:
            a.send(message)
        for receiver in (b, c):
            assert [receiver.recv(timeout=5) for _ in messages] == messages
        b.send("done")
        assert a.recv(timeout=5) == "done"


# Frames


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_fragments_become_one_message_with_control_frames_between(peer: Peer, opcode: int) -> None:
    """Pings between fragments are answered at once, even when UTF-8 is cut in two."""
    peer.send(frame(opcode, b"caf\xc3", fin=False))
    peer.send(frame(PING, b"p"))
    assert peer.read_frame() == Frame(PONG, b"p")
    peer.send(frame(CONTINUATION, b"\xa9", fin=False) + frame(PONG, b"unasked"))
    peer.send(frame(CONTINUATION))
    assert peer.read_frame() == Frame(opcode, "café".encode())


def test_frames_may_arrive_byte_by_byte(peer: Peer) -> None:
    """A frame is complete when its last byte is there."""
    for message in (b"a", b"x" * 200):
        for byte in frame(TEXT, message):
            peer.send(bytes((byte,)))
        assert peer.read_frame() == Frame(TEXT, message)


@pytest.mark.parametrize("payload", [b"", b"x" * 125])
def test_pings_are_answered_with_their_payload(peer: Peer, payload: bytes) -> None:
    """A pong carries what its ping carried; a pong of the client is not answered."""
    peer.send(frame(PONG, b"unasked") + frame(PING, payload))
    assert peer.read_frame() == Frame(PONG, payload)


BEGUN = frame(TEXT, b"a", fin=False)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        *[pytest.param(frame(TEXT, rsv=rsv), 1002, id=f"RSV {rsv}") for rsv in (1, 2, 4)],
        pytest.param(frame(PING, rsv=4), 1002, id="RSV of a ping"),
        pytest.param(BEGUN + frame(CONTINUATION, rsv=4), 1002, id="RSV of a fragment"),
        *[pytest.param(frame(op), 1002, id=f"opcode {op}") for op in (3, 4, 5, 6, 7, 11, 15)],
        pytest.param(frame(TEXT, b"a", masked=False), 1002, id="unmasked"),
        pytest.param(frame(PING, masked=False), 1002, id="unmasked ping"),
        pytest.param(frame(CLOSE, masked=False), 1002, id="unmasked close"),
        pytest.param(frame(CONTINUATION, b"a"), 1002, id="continuation of nothing"),
        pytest.param(BEGUN + frame(TEXT, b"b"), 1002, id="a message inside another"),
        pytest.param(BEGUN + frame(BINARY, b"b", fin=False), 1002, id="fragments inside others"),
        pytest.param(frame(PING, fin=False), 1002, id="a fragmented ping"),
        pytest.param(frame(CLOSE, fin=False), 1002, id="a fragmented close"),
        pytest.param(frame(PING, b"x" * 126), 1002, id="a long ping"),
        pytest.param(frame(CLOSE, b"\x03\xe8" + b"x" * 124), 1002, id="a long close"),
        pytest.param(frame(CLOSE, b"x"), 1002, id="half a close code"),
        pytest.param(frame(TEXT, b"\xff"), 1007, id="text that is not UTF-8"),
        pytest.param(frame(TEXT, b"a\xc3"), 1007, id="text that ends within a character"),
        pytest.param(frame(TEXT, b"\xed\xa0\x80"), 1007, id="a surrogate"),
        pytest.param(frame(TEXT, b"\xff", fin=False), 1007, id="wrong in the first fragment"),
        pytest.param(BEGUN + frame(CONTINUATION, b"\xc3"), 1007, id="cut off in the last fragment"),
        pytest.param(
            frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"a", fin=False),
            1007,
            id="wrong across fragments",
        ),
        pytest.param(frame(BINARY, b"x" * (LIMIT + 1)), 1009, id="too big"),
        pytest.param(b"\x82\xff" + (1 << 40).to_bytes(8) + bytes(4), 1009, id="announced too big"),
        pytest.param(
            frame(BINARY, b"x" * LIMIT, fin=False) + frame(CONTINUATION, b"x", fin=False),
            1009,
            id="too big in fragments",
        ),
    ],
)
def test_a_peer_that_breaks_the_protocol_is_told_the_code(
    peer: Peer, data: bytes, code: int
) -> None:
    """The connection ends with the close code that RFC 6455 has for the mistake."""
    peer.send(data)
    assert peer.read_close() == code


def test_the_largest_message_is_accepted(peer: Peer) -> None:
    """The limit itself is not over the limit, whole or in fragments."""
    peer.send(frame(BINARY, b"x" * LIMIT))
    assert len(peer.read_frame().payload) == LIMIT
    peer.send(frame(BINARY, b"x" * (LIMIT - 1), fin=False) + frame(CONTINUATION, b"x"))
    assert len(peer.read_frame().payload) == LIMIT


# Closing


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (frame(CLOSE), 1000),
        *[(close_frame(code, b"why"), code) for code in (1000, 1001, 1003, 1011, 3000, 4999)],
        *[(close_frame(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000)],
    ],
)
def test_a_close_is_answered_with_its_code(peer: Peer, sent: bytes, answered: int) -> None:
    """No code is answered as 1000; a code that must not travel is a protocol error."""
    peer.send(sent)
    assert peer.read_close() == answered


def test_a_close_reason_that_is_not_utf8_is_refused(peer: Peer) -> None:
    """A reason is text like all text."""
    peer.send(close_frame(1000, b"\xff"))
    assert peer.read_close() in (1002, 1007)


def test_what_was_sent_before_a_filter_closes_still_arrives(peer: Peer) -> None:
    """loseConnection comes after the messages before it, closes once, and sends none after it."""
    peer.send(frame(TEXT, b"lose"))
    assert [peer.read_frame().payload for _ in range(3)] == [b"0", b"1", b"2"]
    assert peer.read_frame() == Frame(CLOSE, (4001).to_bytes(2) + b"bye")
    peer.send(frame(TEXT, b"ignored") + close_frame(4001))
    assert peer.read_to_end() == b""


def test_abort_ends_without_a_close_frame(peer: Peer) -> None:
    """abortConnection cuts the connection off at once."""
    peer.send(frame(TEXT, b"abort"))
    assert peer.read_to_end() == b""


def half_close(peer: Peer) -> None:
    peer.socket.shutdown(socket.SHUT_WR)


def reset_within_a_frame(peer: Peer) -> None:
    peer.send(frame(TEXT, b"x" * 1000)[:500])
    peer.reset()


def sends(*frames: bytes) -> Callable[[Peer], None]:
    return lambda peer: peer.send(b"".join(frames))


@pytest.mark.parametrize(
    "leave",
    [
        pytest.param(sends(close_frame(1000)), id="close"),
        pytest.param(sends(close_frame(1000), close_frame(1000)), id="close twice"),
        pytest.param(sends(frame(TEXT, b"\xff")), id="protocol error"),
        pytest.param(sends(frame(TEXT, b"lose")), id="loseConnection"),
        pytest.param(sends(frame(TEXT, b"lose"), close_frame(1000)), id="both close"),
        pytest.param(sends(frame(TEXT, b"abort")), id="abortConnection"),
        pytest.param(half_close, id="end of the stream"),
        pytest.param(Peer.reset, id="reset"),
        pytest.param(reset_within_a_frame, id="reset within a frame"),
    ],
)
def test_the_disconnect_chain_runs_exactly_once(
    server: ServerProcess, leave: Callable[[Peer], None]
) -> None:
    """However a connection ends; it has left `users` by then."""
    with Peer(server.port) as peer:
        peer.open(frame(TEXT, b"id"))
        id = peer.read_frame().payload.decode()
        leave(peer)
        wait_until(lambda: f"{id} disconnect" in server.stdout, "the disconnect chain")
    with Peer(server.port) as other:  # Its own events come after all of the first one's.
        other.open(close_frame(1000)).read_close()
    wait_until(lambda: server.stdout.endswith("disconnect False\n"), "its disconnect")
    lines = [line.split()[1:] for line in server.stdout.splitlines() if line.startswith(id)]
    assert [line[0] for line in lines] == ["connect", "disconnect"]
    assert lines[1] == ["disconnect", "False"]
    assert "Traceback" not in server.stderr


def test_a_connection_that_never_opened_is_not_disconnected(
    start_server: Start, tmp_path: Path
) -> None:
    """Neither a refused handshake, nor a broken one, nor a plain request runs a chain."""
    save_filters(tmp_path, "do", FILTERS)
    server = start_server("-f", "do")
    for request in (head(Sec_WebSocket_Key="x"), b"GET /health HTTP/1.0\r\n\r\n", b"rubbish"):
        with Peer(server.port) as peer:
            peer.send(request)
            peer.reset()
    with Peer(server.port) as peer:
        peer.open(close_frame(1000)).read_close()
    assert server.stop() == 0
    assert [line.split()[1] for line in server.stdout.splitlines()] == ["connect", "disconnect"]


def test_users_are_the_open_connections_and_oneself(start_server: Start, tmp_path: Path) -> None:
    """`users` counts who is open: not who shakes hands, nor who has left."""
    save_filters(tmp_path, "do", FILTERS)
    server = start_server("-f", "do")
    with Peer(server.port) as a, Peer(server.port) as b, Peer(server.port) as c:
        a.open(), b.open(), c.send(head()[:-2])
        a.send(frame(TEXT, b"users"))
        assert a.read_frame().payload == b"2 True"
        b.send(close_frame(1000))
        b.read_close()
        a.send(frame(TEXT, b"users"))
        assert a.read_frame().payload == b"1 True"


# Order


def test_broadcasts_and_single_messages_keep_their_order(
    start_server: Start, tmp_path: Path
) -> None:
    """Each client gets its messages in the order in which filters sent them."""
    save_filters(tmp_path, "do", FILTERS)
    server = start_server("-f", "do")
    with Peer(server.port) as a, Peer(server.port) as b:
        a.open(), b.open()
        a.send(frame(TEXT, b"order") * 2)
        assert b"".join(a.read_frame().payload for _ in range(10)) == b"12356" * 2
        assert b"".join(b.read_frame().payload for _ in range(6)) == b"245" * 2


def test_the_connect_chain_runs_before_the_first_message(
    start_server: Start, tmp_path: Path
) -> None:
    """A greeting is first, even when a message came in the same packet as the handshake."""
    save_filters(
        tmp_path,
        "greet",
        """
class Greet(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.sendMessage("welcome")

class Echo(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage(msg)
""",
    )
    with Peer(start_server("-f", "greet").port) as peer:
        peer.open(frame(TEXT, b"hello"))
        assert [peer.read_frame().payload for _ in range(2)] == [b"welcome", b"hello"]


def test_a_newcomer_gets_nothing_from_before_it_came(start_server: Start, tmp_path: Path) -> None:
    """A message broadcast in the same turn, but before the connection opened, is not for it."""
    save_filters(
        tmp_path,
        "announce",
        """
class Before(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        web_socket_instance.users.broadcast("somebody knocks")

class After(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.users.broadcast("somebody is here")
""",
    )
    port = start_server("-f", "announce").port
    with Peer(port) as a, Peer(port) as b:
        a.open()
        assert a.read_frame().payload == b"somebody is here"
        b.open()
        assert b.read_frame().payload == b"somebody is here"
        received = [a.read_frame().payload for _ in range(2)]
        assert received == [b"somebody knocks", b"somebody is here"]


def test_everybody_gets_broadcasts_in_the_same_order(start_server: Start) -> None:
    """Clients that only listen get the messages of five others in one and the same order."""
    senders, listeners, messages = 5, 3, 40
    port = start_server("-f", "broadcast_messages").port
    sending = [Peer(port).open() for _ in range(senders)]
    listening = [Peer(port).open() for _ in range(listeners)]
    for number in range(messages):
        for sender, peer in enumerate(sending):
            peer.send(frame(TEXT, b"%d %02d" % (sender, number)))
    size = len(b"..0 00")
    first, *others = (peer.read(senders * messages * size) for peer in listening)
    assert len({first[start : start + size] for start in range(0, len(first), size)}) == (
        senders * messages
    )
    assert all(other == first for other in others)
    for peer in sending + listening:
        peer.__exit__()


@pytest.mark.slow
def test_everybody_gets_every_message_once_in_order(start_server: Start) -> None:
    """200 clients send 50 messages each; nothing is lost, repeated, or overtakes."""
    clients, messages = 200, 50
    port = start_server("-f", "broadcast_messages").port
    peers = [Peer(port).open() for _ in range(clients)]
    for number in range(messages):
        for sender, peer in enumerate(peers):
            peer.send(frame(TEXT, b"%03d %02d" % (sender, number)))
    size = len(b"..000 00")
    expected = [b"%02d" % number for number in range(messages)]
    for receiver, peer in enumerate(peers):
        data = peer.read((clients - 1) * messages * size)
        received: dict[int, list[bytes]] = {}
        for start in range(0, len(data), size):
            assert data[start : start + 2] == b"\x81\x06"
            received.setdefault(int(data[start + 2 : start + 5]), []).append(
                data[start + 6 : start + size]
            )
        assert received.keys() == set(range(clients)) - {receiver}
        assert all(numbers == expected for numbers in received.values())
    for peer in peers:
        peer.send(close_frame(1000))
        assert peer.read_close() == 1000  # Nothing came after the last message.
        peer.__exit__()
