"""The options that limit what clients may do: what happens at the limit, and who is spared."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ..process import ServerProcess, wait_until
from .wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    TIMEOUT,
    Answer,
    Frame,
    Peer,
    Start,
    ask,
    close_frame,
    frame,
    head,
    local_tls,
    memory,
    save_filters,
)

pytestmark = pytest.mark.slow

MEGABYTE = 1024 * 1024
HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"

ECHO = """
class Echo(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage(msg)
"""


class PeerFrom(Peer):
    """The same peer, with an address of this machine as its own."""

    def __init__(self, port: int, source: str) -> None:
        target = "::1" if ":" in source else "127.0.0.1"
        self.socket = socket.create_connection((target, port), TIMEOUT, (source, 0))
        self.input = self.socket.makefile("rb")


@contextmanager
def shaking_hands(port: int, source: str = "127.0.0.1", **headers: str) -> Iterator[Answer]:
    """Yield the answer to an opening handshake, and keep the connection that long."""
    with PeerFrom(port, source) as peer:
        peer.send(head(**headers))
        yield peer.read_answer()


def is_let_in(port: int, source: str = "127.0.0.1", **headers: str) -> bool:
    with shaking_hands(port, source, **headers) as answer:
        return answer.status == 101


# The request


@pytest.mark.parametrize("is_cut", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(("size", "status"), [(400, 101), (401, 431)])
def test_the_longest_request(start_server: Start, size: int, status: int, is_cut: bool) -> None:
    """--max_header_size counts all bytes up to the first frame, however they come."""
    server = start_server("-f", "--max_header_size", "400")
    request = head(X="x" * (size - len(head(X=""))))
    assert len(request) == size
    with Peer(server.port) as peer:
        if not is_cut:
            peer.send(request)
        for byte in request if is_cut else b"":
            peer.send(bytes((byte,)))
        assert peer.read_answer().status == status


@pytest.mark.parametrize(
    ("sent", "with_tls"), [(b"", False), (head()[:-1], False), (b"GET /health HTTP/1.1\r\n", True)]
)
def test_a_request_that_is_not_finished_in_time(
    start_server: Start, tmp_path: Path, sent: bytes, with_tls: bool
) -> None:
    """--handshake_timeout is answered with 408, whatever has been sent until then."""
    options, tls = local_tls(tmp_path) if with_tls else ((), None)
    port = start_server("-f", "--handshake_timeout", "0.2", *options).port
    with Peer(port, tls=tls) as peer:
        if sent:
            peer.send(sent)
        assert peer.read_answer().status == 408
        assert peer.read_to_end() == b""


def test_a_tls_handshake_counts_too(start_server: Start, tmp_path: Path) -> None:
    """--handshake_timeout ends a connection that stops within the handshake of TLS."""
    options, _ = local_tls(tmp_path)
    port = start_server("-f", "--handshake_timeout", "0.2", *options).port
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), hello).do_handshake()
    for data in (b"", hello.read(20), hello.read()):
        with Peer(port) as peer:
            peer.send(data)
            peer.read_to_end()


# Silence


SILENCE = ("--ping_interval", "0.1", "--ping_timeout", "1")
PINGS = 15  # more than come within the timeout


@pytest.mark.parametrize("with_tls", [False, True], ids=["plain", "TLS"])
def test_a_silent_client_is_closed_with_1011(
    start_server: Start, tmp_path: Path, with_tls: bool
) -> None:
    """It has been pinged before, and it has left: others do not see it any more."""
    options, tls = local_tls(tmp_path) if with_tls else ((), None)
    server = start_server("-f", "--ping_interval", "0.1", "--ping_timeout", "0.3", *options)
    with Peer(server.port, tls=tls) as peer:
        peer.open()
        assert peer.read_frame() == Frame(PING, b"")
        assert peer.read_close() == 1011


def test_a_client_that_only_answers_pings_stays(start_server: Start) -> None:
    """A pong is all that is asked of it."""
    with Peer(start_server("-f", *SILENCE).port) as peer:
        peer.open()
        for _ in range(PINGS):
            assert peer.read_frame() == Frame(PING, b"")
            peer.send(frame(PONG))


def test_a_client_that_only_uploads_slowly_stays(start_server: Start, tmp_path: Path) -> None:
    """Each byte of a long message is a sign of life; there is no room for pongs in it."""
    save_filters(tmp_path, "echo", ECHO)
    message = bytes(range(PINGS))
    with Peer(start_server("-f", "echo", *SILENCE).port) as peer:
        peer.open()
        peer.send(frame(BINARY, message)[: -len(message)])
        for byte in message:
            assert peer.read_frame() == Frame(PING, b"")
            peer.send(bytes((byte,)))
        while (received := peer.read_frame()) == Frame(PING, b""):
            pass
        assert received == Frame(BINARY, message)


def test_silence_counts_from_when_the_server_reads_again(start_server: Start) -> None:
    """While the server itself does not listen to a client it is spared, and not for good."""
    server = start_server(
        *("-f", "--rate", "1", "--rate_burst", "1"),
        *("--ping_interval", "0.1", "--ping_timeout", "0.3"),
    )
    with Peer(server.port) as peer:
        peer.open(frame(TEXT) * 2)
        assert peer.read_close() == 1011


def test_who_breaks_off_in_silence_runs_its_disconnect_chain(
    start_server: Start, tmp_path: Path
) -> None:
    """A client that reads nothing either is gone for the filters, and then cut off."""
    save_filters(
        tmp_path,
        "leave",
        """
class Leave(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print("left", len(web_socket_instance.users), flush=True)
""",
    )
    server = start_server("-f", "leave", "--ping_interval", "0.1", "--ping_timeout", "0.3")
    with Peer(server.port) as peer:
        peer.open()
        wait_until(lambda: server.stdout == "left 0\n", "the disconnect chain")


# Connections


def test_the_last_place_and_one_more(start_server: Start) -> None:
    """--max_connections: 503 with Retry-After, while pages are served and others not disturbed."""
    port = start_server("-f", "--max_connections", "2").port
    with Peer(port) as first, shaking_hands(port) as second:
        first.open()
        assert second.status == 101
        refused = ask(port, head())
        assert refused.status == 503
        assert int(refused.headers["retry-after"]) > 0
        assert ask(port, HEALTH).status == 200
        first.send(frame(PING, b"?"))
        assert first.read_frame() == Frame(PONG, b"?")
    wait_until(lambda: is_let_in(port), "a free place")


DOOR = """
class Door(WebSocketHandshakeFilter):
    @classmethod
    async def filter(cls, web_socket_instance, request):
        if request.path == "/no":
            raise RejectHandshake(403, "no")
        if request.path == "/crash":
            raise ValueError
        if request.path == "/wait":
            print("waits", flush=True)
            await asyncio.Event().wait()
"""


@pytest.mark.parametrize(
    ("limit", "full"), [("--max_connections", 503), ("--max_connections_per_ip", 429)]
)
@pytest.mark.parametrize("leave", [Peer.__exit__, Peer.reset])
def test_a_handshake_that_comes_to_nothing_gives_its_place_back(
    start_server: Start, tmp_path: Path, limit: str, full: int, leave: Callable[[Peer], None]
) -> None:
    """It counts while it is checked, and no longer when it was refused, or has left."""
    save_filters(tmp_path, "door", DOOR)
    server = start_server("-f", "door", limit, "1", "--handshake_timeout", "0.5")
    assert ask(server.port, head("/no")).status == 403
    assert ask(server.port, head("/crash")).status == 500
    assert ask(server.port, head(Sec_WebSocket_Version="8")).status == 426
    assert ask(server.port, head(Origin="https://evil.example")).status == 403
    waiting = Peer(server.port)
    waiting.send(head("/wait"))
    wait_until(lambda: "waits" in server.stdout, "the check")
    assert ask(server.port, head()).status == full
    leave(waiting)
    wait_until(lambda: is_let_in(server.port), "a free place")


def test_an_address_has_its_own_limit(start_server: Start) -> None:
    """--max_connections_per_ip: 429 for one more, while other addresses are let in."""
    port = start_server("-f", "--max_connections_per_ip", "2").port
    with ExitStack() as crowd:
        for source in ("127.0.0.1", "127.0.0.1", "127.0.0.2", "::1", "::1"):
            assert crowd.enter_context(shaking_hands(port, source)).status == 101
        assert ask(port, head()).status == 429
        assert not is_let_in(port, "::1")
        assert is_let_in(port, "127.0.0.2")
        # What anybody may write into a header changes nothing.
        assert not is_let_in(port, X_Forwarded_For="192.0.2.1", Forwarded="for=192.0.2.1")
        assert ask(port, HEALTH).status == 200
    wait_until(lambda: is_let_in(port), "a free place")
    wait_until(lambda: is_let_in(port, "::1"), "a free place")


def test_behind_a_proxy_the_clients_count(start_server: Start) -> None:
    """With --trusted_proxies it is the address in the header, by /64 where it is IPv6."""
    port = start_server(
        "-f", "--max_connections_per_ip", "1", "--trusted_proxies", "127.0.0.1"
    ).port
    clients = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8:0:1::1"]
    with ExitStack() as crowd:
        for client in clients:
            answer = crowd.enter_context(shaking_hands(port, X_Forwarded_For=client))
            assert answer.status == 101
        for client in [
            "192.0.2.1",
            "198.51.100.1, 192.0.2.1",
            "2001:db8::ffff",
            "::ffff:192.0.2.2",
        ]:
            assert not is_let_in(port, X_Forwarded_For=client)
        assert not is_let_in(port, Forwarded='for="[2001:db8::2]:4711"')
        # Another address is no proxy, and so a client with a place of its own.
        with shaking_hands(port, "127.0.0.2", X_Forwarded_For="192.0.2.1") as answer:
            assert answer.status == 101
            assert not is_let_in(port, "127.0.0.2", X_Forwarded_For="192.0.2.9")
    for client in clients:
        wait_until(lambda c=client: is_let_in(port, X_Forwarded_For=c), "a free place")


# Pace


RATE, BURST = 50, 5
PACE = ("--rate", str(RATE), "--rate_burst", str(BURST))

PACED = """
class Journal(WebSocketMessageFilter):
    @classmethod
    {definition} filter(cls, web_socket_instance, msg):
        print(bytes(msg[:3]).decode(), flush=True)
        web_socket_instance.users.broadcast(msg)

class Leave(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        print("left", flush=True)
"""


@pytest.fixture(params=["def", "async def"])
def paced(start_server: Start, tmp_path: Path, request: pytest.FixtureRequest) -> ServerProcess:
    """A server with a slow pace, which broadcasts; stdout has the first bytes of each message."""
    save_filters(tmp_path, "paced", PACED.format(definition=request.param))
    return start_server("-f", "paced", *PACE)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_flood_is_handled_at_the_rate(paced: ServerProcess, opcode: int) -> None:
    """Messages beyond the burst wait for their time; each arrives once, in order and whole."""
    messages = [b"%03d" % number + b"x" * size for number, size in enumerate([0, 200, 70_000] * 9)]
    with Peer(paced.port) as peer:
        peer.open()
        began = time.monotonic()
        peer.send(b"".join(frame(opcode, message) for message in messages))
        assert [peer.read_frame() for _ in messages] == [Frame(opcode, m) for m in messages]
        assert time.monotonic() - began > (len(messages) - BURST - 1) / RATE


def test_a_flood_delays_nobody_else(paced: ServerProcess) -> None:
    """While one client waits for its pace, another is served, and within its own."""
    with Peer(paced.port) as other, Peer(paced.port) as flooder:
        other.open(), flooder.open()
        flooder.send(frame(TEXT, b"flood") * 500)
        assert other.read_frame().payload == b"flood"
        other.send(frame(TEXT, b"mine"))
        position = 0
        while other.read_frame().payload != b"mine":
            position += 1
        assert position < 250


@pytest.mark.parametrize("fragments", [1, 3])
def test_a_paced_flood_costs_no_memory(paced: ServerProcess, fragments: int) -> None:
    """What is not handled yet is not read either: it stays with its sender."""
    part = b"x" * (60_000 // fragments)
    message = [frame(CONTINUATION, part, fin=False)] * fragments
    message[0] = frame(BINARY, part, fin=fragments == 1)
    if fragments > 1:
        message[-1] = frame(CONTINUATION, part)
    with Peer(paced.port) as other, Peer(paced.port) as flooder:
        other.open(), flooder.open()
        before = memory(paced)
        flooder.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            flooder.send(b"".join(message) * 1000)
        other.send(frame(PING, b"?"))
        while other.read_frame() != Frame(PONG, b"?"):
            pass
        assert memory(paced) - before < 8 * MEGABYTE
        flooder.reset()


@pytest.mark.parametrize("size", [3, 9000], ids=["one packet", "many packets"])
def test_a_goodbye_behind_a_flood_comes_last(paced: ServerProcess, size: int) -> None:
    """All messages before the close frame reach the filters, then the disconnect chain runs."""
    numbers = [b"%03d" % number for number in range(30)]
    with Peer(paced.port) as other, Peer(paced.port) as flooder:
        other.open(), flooder.open()
        messages = [number.ljust(size, b"x") for number in numbers]
        flooder.send(b"".join(frame(TEXT, m) for m in messages) + close_frame(1000))
        assert [other.read_frame().payload for _ in messages] == messages
        while (received := flooder.read_frame()).opcode != CLOSE:
            assert received.opcode == TEXT
        assert received.payload == b"\x03\xe8"
        assert flooder.read_to_end() == b""
        wait_until(lambda: "left" in paced.stdout, "the disconnect chain")
        assert paced.stdout.split() == [number.decode() for number in numbers] + ["left"]


def test_a_flooder_that_is_reset_is_heard_as_far_as_it_was_read(paced: ServerProcess) -> None:
    """What came before the reset is handled in order, and the disconnect chain after it."""
    with Peer(paced.port) as flooder:
        flooder.open()
        flooder.send(b"".join(frame(TEXT, b"%03d" % number) for number in range(30)))
        wait_until(lambda: "005" in paced.stdout, "the pace")
        flooder.reset()
    wait_until(lambda: "left" in paced.stdout, "the disconnect chain")
    *handled, left = paced.stdout.split()
    assert handled == [f"{number:03}" for number in range(len(handled))]
    assert left == "left"
    assert paced.stop() == 0
    assert "Traceback" not in paced.stderr
