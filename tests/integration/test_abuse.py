"""What a peer may do to hurt: others are served meanwhile, and it leaves nothing behind."""

from __future__ import annotations

import os
import socket
import ssl
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ..process import ServerProcess, told, wait_until
from .wire import (
    BINARY,
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
    local_tls,
    memory,
)

pytestmark = pytest.mark.slow

MEGABYTE = 1024 * 1024
MARGIN = 8 * MEGABYTE  # what the allocator may keep, and the buffers of a moment
CROWD = 2000
COMPRESSED = 0b100  # RSV1
OFFER = head(Sec_WebSocket_Extensions="permessage-deflate")


class Witnesses:
    """Two clients that do nothing wrong, and see whether they are served."""

    def __init__(self, server: ServerProcess) -> None:
        self.server = server
        self.one, self.other = Peer(server.port).open(), Peer(server.port).open()
        self.check()
        self.before = memory(server)
        self.files = files(server)

    def check(self) -> None:
        """Both get a pong, and each what the other broadcasts; what a culprit said is skipped."""
        for sender, receiver in ((self.one, self.other), (self.other, self.one)):
            sender.send(frame(PING, b"?") + frame(TEXT, b"hello"))
            wanted = {sender: Frame(PONG, b"?"), receiver: Frame(TEXT, b"hello")}
            for peer, expected in wanted.items():
                while peer.read_frame() != expected:
                    pass
        assert " ERROR " not in self.server.stderr

    def assert_bounded(self, megabytes: int = 0) -> None:
        """The server has no more memory in use than before and this, but for a margin."""
        assert memory(self.server) - self.before < MARGIN + megabytes * MEGABYTE

    def assert_nothing_left(self) -> None:
        """Memory and descriptors came back, and the log says nothing of it."""
        wait_until(lambda: files(self.server) == self.files, "the end of all sockets")
        self.check()
        self.assert_bounded()
        self.one.__exit__()
        self.other.__exit__()
        assert self.server.stop() == 0
        assert "Traceback" not in self.server.stderr
        assert " ERROR " not in self.server.stderr


def files(server: ServerProcess) -> int:
    return len(os.listdir(f"/proc/{server.process.pid}/fd"))


@pytest.fixture
def witnesses(start_server: Start) -> Iterator[Witnesses]:
    """Clients of a server that has a short patience; what is left is checked at the end."""
    witnesses = Witnesses(start_server("-f", "broadcast_messages", *OPTIONS))
    yield witnesses
    witnesses.assert_nothing_left()


OPTIONS = ("--compression", "deflate", "--handshake_timeout", "1", "--ping_interval", "0")


# On an open connection


def test_a_message_byte_by_byte(witnesses: Witnesses) -> None:
    """Each byte is a read, in the handshake and in frames; others are served in between."""
    message = frame(BINARY, b"x" * 500, fin=False) + frame(CONTINUATION, b"y" * 200)
    with Peer(witnesses.server.port) as peer:
        for data in (head(), message):
            for number, byte in enumerate(data):
                peer.send(bytes((byte,)))
                if number % 50 == 0:
                    witnesses.check()
        assert witnesses.one.read_frame() == Frame(BINARY, b"x" * 500 + b"y" * 200)


@pytest.mark.parametrize("size", [0, 1])
def test_10_mb_of_tiny_fragments(witnesses: Witnesses, size: int) -> None:
    """They are handled in slices, and end in 1009 where they make a message that is too long."""
    fragments = frame(CONTINUATION, b"x" * size, fin=False) * 10_000
    with Peer(witnesses.server.port) as peer:
        peer.open(frame(BINARY, fin=False))
        with suppress(ConnectionError):
            for _ in range(10 * MEGABYTE // len(fragments)):
                peer.send(fragments)
                witnesses.check()
        witnesses.assert_bounded()
        if size:
            assert peer.read_close() == 1009


@pytest.mark.parametrize(
    ("begun", "held"),
    [
        pytest.param(frame(BINARY, b"x" * 900_000, fin=False), 1, id="a fragment"),
        pytest.param(frame(BINARY, b"x" * 1_000_000)[:-1], 2, id="a frame but for a byte"),
        pytest.param(b"\x82\xff" + (1_000_000).to_bytes(8) + bytes(4), 0, id="a header"),
        pytest.param(b"\x82", 0, id="half a header"),
        pytest.param(
            frame(BINARY, zlib.compress(bytes(1_000_000), wbits=-15)[:-9], fin=False, rsv=4),
            1,
            id="a compressed fragment",
        ),
    ],
)
def test_a_message_and_never_the_rest(witnesses: Witnesses, begun: bytes, held: int) -> None:
    """What waits for its rest costs what was sent of it, and is given back in the end."""
    with ExitStack() as crowd:
        for _ in range(10):
            peer = crowd.enter_context(Peer(witnesses.server.port))
            peer.send(OFFER + begun)
            assert peer.read_answer().status == 101
        witnesses.check()
        witnesses.assert_bounded(10 * held)


def test_long_messages_at_the_same_time(start_server: Start) -> None:
    """Buffers that grew for them are given back, though those who sent them stay."""
    server = start_server("-f")
    message = frame(BINARY, bytes(1_000_000))
    with ExitStack() as crowd:
        peers = [crowd.enter_context(Peer(server.port)).open() for _ in range(20)]
        before = memory(server)
        for part in (message[:-1], message[-1:] + frame(PING)):
            for peer in peers:
                peer.send(part)
        for peer in peers:
            assert peer.read_frame() == Frame(PONG, b"")
        assert memory(server) - before < MARGIN


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "never reads"])
def test_100_000_pings(witnesses: Witnesses, reads: bool) -> None:
    """Each gets its pong where the peer reads them; where not, they do not pile up."""
    with Peer(witnesses.server.port) as peer:
        peer.open()
        for batch in range(100):
            payloads = [b"%03d %03d" % (batch, number) for number in range(1000)]
            peer.send(b"".join(frame(PING, payload) for payload in payloads))
            if reads:
                pongs = b"".join(frame(PONG, payload, masked=False) for payload in payloads)
                assert peer.read(len(pongs)) == pongs
            elif batch % 10 == 0:
                witnesses.check()
        witnesses.check()
        witnesses.assert_bounded()


def test_compressed_rubbish(witnesses: Witnesses) -> None:
    """A hundred peers send what cannot be inflated; each is told so, and that was all."""
    good = zlib.compress(b"x" * 100_000, wbits=-15)
    for number in range(100):
        with Peer(witnesses.server.port) as peer:
            rubbish = good[: number % len(good)] + b"\xff" * 1000
            peer.send(OFFER + frame(TEXT, rubbish, rsv=COMPRESSED))
            assert peer.read_answer().status == 101
            assert peer.read_close() in (1002, 1007)
    witnesses.check()


def test_a_peer_that_never_reads(witnesses: Witnesses) -> None:
    """Twenty megabytes pass by it: it is closed, its queue is given back, nobody else waits."""
    with Peer(witnesses.server.port, read_buffer=4096) as peer:
        peer.open()
        message = b"x" * 100_000
        for _ in range(200):
            witnesses.one.send(frame(BINARY, message))
            assert witnesses.other.read_frame() == Frame(BINARY, message)
        witnesses.check()
        witnesses.assert_bounded()
        wait_until(lambda: files(witnesses.server) == witnesses.files, "the end of the connection")


@pytest.mark.parametrize("size", [1, 5, 100_000])
def test_a_reset_within_a_frame(witnesses: Witnesses, size: int) -> None:
    """A connection that breaks off there is an ordinary end, a hundred times too."""
    for _ in range(100):
        peer = Peer(witnesses.server.port)
        peer.open()
        peer.send(frame(BINARY, b"x" * 200_000)[:size])
        peer.reset()
    witnesses.check()


def test_a_peer_that_comes_and_goes(witnesses: Witnesses) -> None:
    """A thousand connections, one after the other, that leave in all kinds of ways."""
    endings: list[Callable[[Peer], object]] = [
        Peer.__exit__,
        Peer.reset,
        lambda peer: peer.send(close_frame(1000)),
        lambda peer: peer.send(b"\xff" * 100),
        lambda peer: peer.socket.shutdown(socket.SHUT_WR),
    ]
    for number in range(1000):
        with Peer(witnesses.server.port) as peer:
            peer.open()
            endings[number % len(endings)](peer)
    witnesses.check()


# Before it is open


@pytest.mark.parametrize("sent", [b"", head()[:-1], head(Host=None)])
def test_thousands_of_handshakes_that_are_never_finished(witnesses: Witnesses, sent: bytes) -> None:
    """Whoever is answered and does not leave is cut off; clients get in all the time."""
    with ExitStack() as crowd:
        for _ in range(CROWD):
            peer = crowd.enter_context(Peer(witnesses.server.port))
            peer.send(sent)
        witnesses.check()
        with Peer(witnesses.server.port) as newcomer:
            newcomer.open(close_frame(1000))
            assert newcomer.read_close() == 1000
        wait_until(lambda: files(witnesses.server) == witnesses.files, "the end of all sockets")
        witnesses.check()
    # One line for each reason and second.
    assert witnesses.server.stderr.count("refused") < 50


@pytest.mark.parametrize("part", ["half a hello", "a hello"])
def test_half_a_tls_handshake(start_server: Start, tmp_path: Path, part: str) -> None:
    """Hundreds of them do not keep others from theirs, and are cut off in time."""
    options, trust = local_tls(tmp_path)
    server = start_server("-f", "--handshake_timeout", "1", "--ping_interval", "0", *options)
    hello = ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        trust.wrap_bio(ssl.MemoryBIO(), hello, server_hostname="localhost").do_handshake()
    sent = hello.read(50 if part == "half a hello" else -1)
    with Peer(server.port, tls=trust) as other:
        other.open()
        before, files_before = memory(server), files(server)
        with ExitStack() as crowd:
            for _ in range(300):
                crowd.enter_context(Peer(server.port)).send(sent)
            other.send(frame(PING, b"?"))
            assert other.read_frame() == Frame(PONG, b"?")
            with Peer(server.port, tls=trust) as newcomer:
                newcomer.open()
            wait_until(lambda: files(server) == files_before, "the end of all sockets")
        other.send(frame(PING, b"?"))
        assert other.read_frame() == Frame(PONG, b"?")
        assert memory(server) - before < 300 * 100 * 1024
    assert server.stop() == 0
    assert "Traceback" not in server.stderr
    assert " ERROR " not in server.stderr


# At the limit of open files


LIMIT = 120
FEW_FILES = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT}))
from filtered_websocket.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize("at_once", [False, True], ids=["one by one", "at once"])
def test_a_server_with_few_files(start_server: Start, at_once: bool) -> None:
    """Beyond its places some get a 503, the rest are cut off; it says so once, and recovers."""
    server = start_server("-f", "broadcast_messages", *OPTIONS, command=("-c", FEW_FILES))
    for episode in range(1, 3):
        witnesses = Witnesses(server)
        with ExitStack() as crowd:
            peers: Iterable[Peer] = (
                crowd.enter_context(Peer(server.port)) for _ in range(2 * LIMIT)
            )
            statuses = [status(peer) for peer in (list(peers) if at_once else peers)]
            assert 0 < statuses.count(101) < LIMIT
            assert statuses.count(503) > 0
            assert set(statuses) <= {101, 503, None}
            witnesses.check()
            assert files(server) < LIMIT
        wait_until(lambda w=witnesses: files(server) == w.files, "room")
        witnesses.check()
        witnesses.one.__exit__(), witnesses.other.__exit__()
        wait_until(lambda e=episode: server.stderr.count("there is room") == e, "the news")
        full = "all that the limit on open files leaves"
        wait_until(lambda e=episode, f=full: told(server.stderr, f) == e, "the warning")
    assert server.stop() == 0
    assert "Traceback" not in server.stderr
    assert " ERROR " not in server.stderr


def status(peer: Peer) -> int | None:
    """Return what an opening handshake is answered with; None where the connection ends."""
    try:
        peer.send(head())
        return peer.read_answer().status
    except (ConnectionError, ValueError):
        return None
