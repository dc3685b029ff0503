"""A server on a Unix socket, as behind a proxy on the same machine."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from ..process import ServerProcess, wait_until
from .test_event_loops import LOOPS
from .wire import (
    PING,
    PONG,
    TEXT,
    TIMEOUT,
    Frame,
    Peer,
    Start,
    frame,
    head,
    local_tls,
    save_filters,
)

PATH = "fws.sock"


class UnixPeer(Peer):
    """The same peer on a Unix socket."""

    def __init__(self, path: Path, *, tls: ssl.SSLContext | None = None) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(TIMEOUT)
        # A name in a folder that is open: the path may be too long for an address.
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            self.socket.connect(f"/proc/self/fd/{folder}/{path.name}")
        finally:
            os.close(folder)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")
        self.input = self.socket.makefile("rb")


@pytest.fixture(params=LOOPS)
def start(start_server: Start, request: pytest.FixtureRequest) -> Callable[..., ServerProcess]:
    """Start a server on the Unix socket, on each event loop; return when it listens."""

    def start(*arguments: str) -> ServerProcess:
        server = start_server(
            "--unix_socket", PATH, *arguments, port=None, command=LOOPS[request.param]
        )
        wait_until(lambda: "storage:" in server.stderr, "the start")
        return server

    return start


@pytest.mark.parametrize("with_tls", [False, True])
def test_messages_are_broadcast(
    start: Callable[..., ServerProcess], tmp_path: Path, with_tls: bool
) -> None:
    """It is the same server, with TLS and without, and its file is gone after the stop."""
    options, trust = local_tls(tmp_path) if with_tls else ((), None)
    server = start("-f", "broadcast_messages", *options)
    assert f"fws_server: unix:{PATH}\n" in server.stderr
    assert "open to: whom its directory lets in\n" in server.stderr
    with UnixPeer(tmp_path / PATH, tls=trust) as a, UnixPeer(tmp_path / PATH, tls=trust) as b:
        a.open(), b.open()
        a.send(frame(TEXT, b"x" * 1_000_000))
        assert b.read_frame() == Frame(TEXT, b"x" * 1_000_000)
        server.process.terminate()
        assert b.read_close() == 1001
        assert a.read_close() == 1001
    assert server.wait() == 0
    assert not (tmp_path / PATH).exists()
    assert " ERROR " not in server.stderr


def test_a_client_has_no_address(start: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """Its peer is empty, for handshake filters too, and refusals arrive."""
    save_filters(
        tmp_path,
        "peer",
        """
class Peer(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        print(repr(request.peer), flush=True)
        if request.path == "/no":
            raise RejectHandshake(403, "not here")
""",
    )
    server = start("-f", "peer", "stdout_rawdata")
    with UnixPeer(tmp_path / PATH) as peer:
        peer.open(frame(PING, b"?"))
        assert peer.read_frame() == Frame(PONG, b"?")
    with UnixPeer(tmp_path / PATH) as peer:
        peer.send(head("/no"))
        assert peer.read_answer().status == 403
    assert server.stop() == 0
    assert server.stdout.splitlines().count("''") == 2
    assert " ERROR " not in server.stderr


def test_pages_come_through_the_proxy(start: Callable[..., ServerProcess], tmp_path: Path) -> None:
    """A page may connect to its own host, which is not this machine's name; others may not."""
    start("-f")
    for origin, status in (("https://chat.example", 101), ("https://evil.example", 403)):
        with UnixPeer(tmp_path / PATH) as peer:
            peer.send(head(Host="chat.example", Origin=origin))
            assert peer.read_answer().status == status


def test_a_second_server_leaves_the_first_alone(
    start: Callable[..., ServerProcess], start_server: Start, tmp_path: Path
) -> None:
    """It is told that the socket is in use; after a crash of the first it takes the socket over."""
    first = start("-f")
    second = start_server("--unix_socket", PATH, port=None)
    assert second.wait() == 1
    assert second.stderr == (
        f"fws_server: cannot listen on --unix_socket {PATH}: "
        "it is in use; stop the other server or choose another path\n"
    )
    with UnixPeer(tmp_path / PATH) as peer:
        peer.open()
    first.process.kill()
    first.wait()
    assert (tmp_path / PATH).exists()
    start("-f")
    with UnixPeer(tmp_path / PATH) as peer:
        peer.open()


def test_the_socket_is_removed_where_the_start_fails(start_server: Start, tmp_path: Path) -> None:
    """Nothing is left of a server that did not get to serve."""
    server = start_server("--unix_socket", PATH, "--origins", "chat", port=None)
    assert server.wait() == 1
    assert not (tmp_path / PATH).exists()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("taken", "there is a file, and it is not a socket"),
        ("x" * 120, "AF_UNIX path too long"),
        ("nowhere/fws.sock", "No such file or directory"),
    ],
)
def test_a_path_that_cannot_be_used(
    start_server: Start, tmp_path: Path, path: str, expected: str
) -> None:
    """One line says so, and what was there stays."""
    (tmp_path / "taken").write_text("precious")
    server = start_server("--unix_socket", path, port=None)
    assert server.wait() == 1
    assert server.stderr == f"fws_server: cannot listen on --unix_socket {path}: {expected}\n"
    assert (tmp_path / "taken").read_text() == "precious"


def test_servers_that_start_at_once_on_a_stale_socket(start_server: Start, tmp_path: Path) -> None:
    """One of them gets it, and serves; the others are told that it is in use."""
    first = start_server("--unix_socket", PATH, port=None)
    wait_until(lambda: "storage:" in first.stderr, "the start")
    first.kill()
    servers = [start_server("-f", "--unix_socket", PATH, port=None) for _ in range(4)]
    wait_until(lambda: sum(s.process.poll() == 1 for s in servers) == 3, "the end of three")
    with UnixPeer(tmp_path / PATH) as peer:
        peer.open()
