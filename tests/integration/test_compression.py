"""permessage-deflate (RFC 7692) over the wire, with a real client and with a peer that cheats."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.sync.client import ClientConnection, connect

from ..process import ServerProcess
from .wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Answer,
    Frame,
    Peer,
    Start,
    close_frame,
    frame,
    head,
    local_tls,
    save_filters,
)

pytestmark = pytest.mark.slow

MEGABYTE = 1024 * 1024
DEFLATE = ("--compression", "deflate")
COMPRESSED = 0b100  # RSV1
TEXTS = ["short", "x" * 1000, "grüße " * 20_000, "", "x" * 1000]

FILTERS = """
class Greet(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        if request.path == "/greet":
            web_socket_instance.sendMessage("early " * 100)

class Echo(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg.startswith(b"all: "):
            web_socket_instance.users.broadcast(msg)
        else:
            web_socket_instance.sendMessage(msg)
"""


def deflated(message: bytes, window_bits: int = 15) -> bytes:
    """Return the payload of a compressed message (RFC 7692 section 7.2.1)."""
    deflate = zlib.compressobj(wbits=-window_bits)
    return (deflate.compress(message) + deflate.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(payload: bytes, window_bits: int) -> bytes:
    """Return a message; little at a time, so that nothing but the window is remembered."""
    inflate = zlib.decompressobj(wbits=-window_bits)
    message, rest = b"", payload + b"\x00\x00\xff\xff\x01\x00\x00\xff\xff"
    while not inflate.eof:
        message += inflate.decompress(rest, 256)
        rest = inflate.unconsumed_tail
    return message


class DeflatePeer(Peer):
    """The same peer, which offers compression."""

    window_bits = 15

    def open(self, *frames: bytes, target: str = "/", offer: str = "permessage-deflate") -> Answer:  # type: ignore[override]
        self.send(head(target, Sec_WebSocket_Extensions=offer) + b"".join(frames))
        answer = self.read_answer()
        assert answer.status == 101
        return answer

    def read_message(self) -> tuple[bool, Frame]:
        """Return whether the next message came compressed, and the message."""
        is_compressed = bool(self.input.peek(1)[0] & COMPRESSED << 4)  # type: ignore[attr-defined]
        if not is_compressed:
            return False, self.read_frame()
        first, size = self.read(2)
        if size >= 126:
            size = int.from_bytes(self.read(2 if size == 126 else 8))
        return True, Frame(first & 0x0F, inflated(self.read(size), self.window_bits))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("compression")
    save_filters(folder, "echo", FILTERS)
    server = ServerProcess(folder, "-f", "echo", *DEFLATE)
    yield server
    assert server.stop() == 0
    assert "Traceback" not in server.stderr
    server.kill()


@pytest.fixture
def peer(server: ServerProcess) -> Iterator[DeflatePeer]:
    with DeflatePeer(server.port) as peer:
        peer.open()
        yield peer


def client(
    url: str, factory: ClientPerMessageDeflateFactory, **options: object
) -> ClientConnection:
    return connect(url, compression=None, extensions=[factory], **options)  # type: ignore[arg-type]


# A client that is right


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"server_no_context_takeover": True, "client_no_context_takeover": True},
        {"server_max_window_bits": 9},
        {"client_max_window_bits": 9},
        {"server_max_window_bits": 12, "client_max_window_bits": True},
        {
            "server_no_context_takeover": True,
            "client_no_context_takeover": True,
            "server_max_window_bits": 10,
            "client_max_window_bits": 10,
        },
    ],
)
def test_an_echo_comes_back(server: ServerProcess, parameters: dict[str, object]) -> None:
    """Whatever a client asks for, messages of all sizes come back whole, one after the other."""
    factory = ClientPerMessageDeflateFactory(**parameters)  # type: ignore[arg-type]
    with client(server.url, factory) as ws:
        assert [extension.name for extension in ws.protocol.extensions] == ["permessage-deflate"]
        for text in TEXTS:
            for message in (text, text.encode()):
                ws.send(message)
                assert ws.recv() == message


def test_fragments_with_pings_in_between(server: ServerProcess) -> None:
    """A compressed message may come in fragments, and control frames between them."""
    with client(server.url, ClientPerMessageDeflateFactory()) as ws:
        pongs = []

        def parts() -> Iterator[str]:
            for text in TEXTS:
                yield text
                pongs.append(ws.ping())

        ws.send(parts())
        assert ws.recv() == "".join(TEXTS)
        assert all(pong.wait(10) for pong in pongs)


def test_a_large_message_over_tls(start_server: Start, tmp_path: Path) -> None:
    """Compression and encryption do not get in each other's way."""
    options, tls = local_tls(tmp_path)
    save_filters(tmp_path, "echo", FILTERS)
    server = start_server("-f", "echo", *DEFLATE, *options)
    url = f"wss://localhost:{server.port}/"
    with client(url, ClientPerMessageDeflateFactory(), ssl=tls) as ws:
        for text in TEXTS:
            ws.send(text)
            assert ws.recv() == text


@pytest.mark.parametrize(
    "offer",
    [
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; unknown",
        "permessage-deflate; client_no_context_takeover=1",
        "x-webkit-deflate-frame",
    ],
)
def test_an_offer_that_cannot_be_met_is_declined(server: ServerProcess, offer: str) -> None:
    """The connection opens without compression."""
    with DeflatePeer(server.port) as peer:
        assert "sec-websocket-extensions" not in peer.open(offer=offer).headers
        peer.send(frame(TEXT, b"x" * 1000))
        assert peer.read_message() == (False, Frame(TEXT, b"x" * 1000))


def test_without_the_option_nothing_is_negotiated(start_server: Start) -> None:
    """--compression is off by default, and an offer is no reason to refuse a client."""
    with DeflatePeer(start_server("-f").port) as peer:
        assert "sec-websocket-extensions" not in peer.open().headers
        peer.send(frame(TEXT, deflated(b"hello"), rsv=COMPRESSED))
        assert peer.read_close() == 1002


# What is compressed


@pytest.mark.parametrize("least", [0, 1, 100])
def test_short_messages_stay_as_they_are(start_server: Start, tmp_path: Path, least: int) -> None:
    """--compression_min_size is the shortest message that is compressed, where that helps."""
    save_filters(tmp_path, "echo", FILTERS)
    server = start_server("-f", "echo", *DEFLATE, "--compression_min_size", str(least))
    noise = random.Random(1).randbytes(1000)
    with DeflatePeer(server.port) as peer:
        peer.open()
        for size in (40, 99, 100, 101):
            peer.send(frame(TEXT, b"x" * size))
            assert peer.read_message() == (size >= least, Frame(TEXT, b"x" * size))
        peer.send(frame(BINARY, noise) + frame(TEXT))
        assert peer.read_message() == (False, Frame(BINARY, noise))
        assert peer.read_message() == (False, Frame(TEXT, b""))


def test_a_broadcast_to_clients_that_differ(server: ServerProcess) -> None:
    """Each gets all messages in order as it has agreed to, its own answers in between too."""
    offers = [None, "permessage-deflate", "permessage-deflate; server_max_window_bits=9"]
    message = b"all: " + random.Random(1).randbytes(4000).hex().encode() * 5
    with ExitStack() as crowd:
        peers = [crowd.enter_context(DeflatePeer(server.port)) for _ in offers]
        for peer, offer in zip(peers, offers, strict=True):
            peer.send(head(Sec_WebSocket_Extensions=offer) + frame(PING))
            assert ("sec-websocket-extensions" in peer.read_answer().headers) == bool(offer)
            assert peer.read_frame().opcode == PONG
        peers[-1].window_bits = 9
        own = frame(BINARY, b"mine" * 100) + frame(PING, b"p")
        for sender in peers:
            sender.send(frame(BINARY, message) + own + frame(TEXT, b"all: text" * 100))
            for peer, offer in zip(peers, offers, strict=True):
                expected = [Frame(BINARY, message), Frame(TEXT, b"all: text" * 100)]
                if peer is sender:
                    expected[1:1] = [Frame(BINARY, b"mine" * 100), Frame(PONG, b"p")]
                assert [peer.read_message() for _ in expected] == [
                    (offer is not None and one.opcode != PONG, one) for one in expected
                ]


def test_a_group_of_clients_that_differ(start_server: Start) -> None:
    """A message to a group reaches its members, compressed for those that have agreed to it."""
    server = start_server("-f", "broadcast_messages_by_token", *DEFLATE)
    with (
        DeflatePeer(server.port) as sender,
        DeflatePeer(server.port) as compressed,
        DeflatePeer(server.port) as plain,
        DeflatePeer(server.port) as outsider,
    ):
        sender.open(), compressed.open(), Peer.open(plain), outsider.open()
        for peer, group in ((sender, b"a"), (compressed, b"a"), (plain, b"a"), (outsider, b"b")):
            peer.send(frame(TEXT, b"token:" + group))
            assert peer.read_message()[1].payload.startswith(b"Success")
        sender.send(frame(TEXT, deflated(b"for a" * 100), rsv=COMPRESSED) + frame(PING))
        assert compressed.read_message() == (True, Frame(TEXT, b"for a" * 100))
        assert plain.read_message() == (False, Frame(TEXT, b"for a" * 100))
        outsider.send(frame(PING))
        assert outsider.read_message() == (False, Frame(PONG, b""))


def test_a_message_of_a_handshake_filter(server: ServerProcess) -> None:
    """What was sent before the connection was open is compressed like the rest."""
    with DeflatePeer(server.port) as peer:
        peer.open(frame(TEXT, deflated(b"first" * 100), rsv=COMPRESSED), target="/greet")
        assert peer.read_message() == (True, Frame(TEXT, b"early " * 100))
        assert peer.read_message() == (True, Frame(TEXT, b"first" * 100))


SIZE, COUNT = 20_000, 900  # compressed and together more than the kernel's buffers take


@pytest.mark.parametrize("policy", ["close", "drop_oldest", "drop_newest"])
def test_a_slow_client_misses_whole_messages(start_server: Start, policy: str) -> None:
    """What it does get can be inflated, in order; a client that reads misses nothing."""
    server = start_server(
        *("-f", "broadcast_messages", *DEFLATE, "--slow_client", policy),
        *("--max_queue_bytes", "65536"),
    )
    noise = random.Random(1).randbytes(SIZE // 2).hex().encode()
    with (
        Peer(server.port) as sender,
        DeflatePeer(server.port) as reader,
        DeflatePeer(server.port, read_buffer=4096) as sleeper,
    ):
        sender.open(), reader.open(), sleeper.open()
        for number in range(COUNT):
            sender.send(frame(TEXT, b"%06d" % number + noise))
            assert reader.read_message() == (True, Frame(TEXT, b"%06d" % number + noise))
        sleeper.send(close_frame(1000))
        found = []
        while (received := sleeper.read_message())[1].opcode != CLOSE:
            assert received[0] and received[1].payload[6:] == noise
            found.append(int(received[1].payload[:6]))
        assert received[1].payload[:2] == (1013 if policy == "close" else 1000).to_bytes(2)
        assert 0 < len(found) < COUNT
        if policy == "drop_oldest":
            assert found == sorted(set(found))
            assert found[-1] == COUNT - 1
        else:
            assert found == list(range(len(found)))


# A peer that cheats


BEGUN = frame(TEXT, deflated(b"x" * 1000)[:5], fin=False, rsv=COMPRESSED)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(frame(TEXT, b"\xff" * 100, rsv=COMPRESSED), 1002, id="rubbish"),
        pytest.param(frame(TEXT, b"hello", rsv=COMPRESSED), 1002, id="not compressed"),
        pytest.param(BEGUN + frame(CONTINUATION, b""), 1002, id="cut short"),
        pytest.param(BEGUN + frame(CONTINUATION, b"\xff" * 9), 1002, id="rubbish behind"),
        pytest.param(BEGUN + frame(CONTINUATION, rsv=COMPRESSED), 1002, id="RSV1 of a fragment"),
        pytest.param(BEGUN + frame(TEXT, b"a"), 1002, id="a message inside"),
        pytest.param(frame(PING, b"p", rsv=COMPRESSED), 1002, id="RSV1 of a ping"),
        pytest.param(frame(CLOSE, b"\x03\xe8", rsv=COMPRESSED), 1002, id="RSV1 of a close"),
        pytest.param(frame(TEXT, b"\x00", rsv=COMPRESSED | 2), 1002, id="RSV1 and RSV2"),
        pytest.param(frame(TEXT, deflated(b"\xff" * 500), rsv=COMPRESSED), 1007, id="not UTF-8"),
        pytest.param(
            frame(BINARY, deflated(bytes(MEGABYTE + 1)), rsv=COMPRESSED), 1009, id="too long"
        ),
        pytest.param(frame(BINARY, b"\x03\x00" * 9999, rsv=COMPRESSED), 1008, id="final blocks"),
    ],
)
def test_a_peer_that_cheats_is_told_the_code(peer: DeflatePeer, data: bytes, code: int) -> None:
    """The connection ends with the close code for the mistake, and says nothing else before it."""
    peer.send(data)
    received = peer.read_frame()
    assert (received.opcode, int.from_bytes(received.payload[:2])) == (CLOSE, code)


def test_rsv1_without_negotiation(server: ServerProcess) -> None:
    """Who has not agreed to compression may not use it, though the server speaks it."""
    with Peer(server.port) as peer:
        peer.open(frame(TEXT, deflated(b"hello"), rsv=COMPRESSED))
        assert peer.read_close() == 1002


def test_the_longest_message_counts_inflated(start_server: Start, tmp_path: Path) -> None:
    """--max_message_size itself is accepted, in fragments too."""
    save_filters(tmp_path, "echo", FILTERS)
    server = start_server("-f", "echo", *DEFLATE, "--max_message_size", "5000")
    payload = deflated(b"x" * 5000)
    with DeflatePeer(server.port) as peer:
        peer.open(frame(TEXT, payload, rsv=COMPRESSED))
        assert peer.read_message() == (True, Frame(TEXT, b"x" * 5000))
        peer.send(frame(TEXT, payload[:5], fin=False, rsv=COMPRESSED))
        peer.send(frame(CONTINUATION, payload[5:]))
        assert peer.read_message() == (True, Frame(TEXT, b"x" * 5000))
        peer.send(frame(TEXT, deflated(b"x" * 5001), rsv=COMPRESSED))
        assert peer.read_close() == 1009


@pytest.mark.parametrize("fragments", [1, 1000], ids=["one frame", "fragments"])
@pytest.mark.parametrize("limit", [MEGABYTE, 16 * MEGABYTE])
def test_a_bomb_costs_no_more_than_a_message(
    start_server: Start, limit: int, fragments: int
) -> None:
    """Of 1 GB in 1 MB no more is inflated than the longest message may have, and others live."""
    deflate = zlib.compressobj(level=9, wbits=-15)
    block = deflate.compress(bytes(1_000_000)) + deflate.flush(zlib.Z_FULL_FLUSH)
    size = 1000 // fragments
    bomb = [frame(CONTINUATION, block * size, fin=False)] * fragments
    bomb[0] = frame(BINARY, block * size, fin=fragments == 1, rsv=COMPRESSED)
    server = start_server("-f", *DEFLATE, "--max_message_size", str(limit))
    with Peer(server.port) as other, DeflatePeer(server.port) as peer:
        other.open()
        peer.open()
        before = peak(server)
        peer.send(b"".join(bomb))
        assert peer.read_frame().payload[:2] == (1009).to_bytes(2)
        assert peak(server) - before < limit + 8 * MEGABYTE
        other.send(frame(PING, b"?"))
        assert other.read_frame() == Frame(PONG, b"?")


def peak(server: ServerProcess) -> int:
    """Return the most memory that a server has had in use so far, in bytes."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
