"""The server under a service manager: notifications, watchdog, sockets that are passed on."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..process import DEADLINE, ServerProcess, wait_until
from .wire import PING, PONG, TEXT, Frame, Peer, Start, frame, head, save_filters

# Does what a service manager does between fork and exec: the sockets are files 3, 4, ...
ACTIVATE = """
import os, sys

descriptors = [int(text) for text in sys.argv[1].split(",")]
for wanted, descriptor in enumerate(descriptors, 3):
    os.dup2(descriptor, wanted)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(descriptors))}
os.execv(sys.executable, [sys.executable, "-m", "filtered_websocket", *sys.argv[2:]])
"""


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """The socket on which a service manager hears."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n") if request.param == "path" else "")
        sock.settimeout(DEADLINE)
        yield sock


def environ(manager: socket.socket) -> dict[str, str]:
    address = manager.getsockname()
    if isinstance(address, bytes):
        address = "@" + address[1:].decode()
    return {"NOTIFY_SOCKET": address}


def read_until(manager: socket.socket, word: str) -> list[str]:
    """Return what is heard, up to the first message with `word`."""
    heard = [manager.recv(1000).decode()]
    while word not in heard[-1]:
        heard.append(manager.recv(1000).decode())
    return heard


def test_start_and_stop_are_told(start_server: Start, manager: socket.socket) -> None:
    """READY when clients are served, STOPPING at the signal, the number of clients in between."""
    server = start_server("-f", "--drain_delay", "600", environ=environ(manager))
    *_, ready = read_until(manager, "READY=1")
    assert ready == "READY=1\nSTATUS=serving, 0 clients"
    with Peer(server.port) as peer:
        peer.open(frame(PING, b"?"))
        assert peer.read_frame() == Frame(PONG, b"?")
        server.process.send_signal(signal.SIGTERM)
        *_, stopping = read_until(manager, "STOPPING=1")
        assert stopping == "STOPPING=1\nSTATUS=draining, 1 clients"


@pytest.mark.slow
def test_a_stuck_event_loop_is_not_watched_any_more(
    start_server: Start, manager: socket.socket, tmp_path: Path
) -> None:
    """The watchdog hears of it no longer, and ends it with SIGABRT: the log says where it was."""
    save_filters(
        tmp_path,
        "blocking",
        """
class Blocking(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        while True:
            pass
""",
    )
    variables = environ(manager) | {"WATCHDOG_USEC": "2000000"}
    server = start_server("-f", "blocking", environ=variables)
    for _ in range(3):
        read_until(manager, "WATCHDOG=1")
    with Peer(server.port) as peer:
        peer.open(frame(TEXT, b"block"))
        manager.settimeout(2.0)  # the interval of this watchdog
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                manager.recv(1000)
    server.process.send_signal(signal.SIGABRT)
    assert server.wait() == -signal.SIGABRT
    assert re.search(r'File "\S+blocking\.py", line \d+ in filter', server.stderr)


# Sockets that are passed on


def activate(
    start_server: Start, *sockets: socket.socket, options: tuple[str, ...] = ()
) -> ServerProcess:
    """Start a server as a service manager does that has opened these sockets."""
    descriptors = ",".join(str(sock.fileno()) for sock in sockets)
    server = start_server(
        *(descriptors, "-f", *options),
        port=None,
        command=("-c", ACTIVATE),
        pass_fds=tuple(sock.fileno() for sock in sockets),
    )
    wait_until(lambda: "storage:" in server.stderr or server.process.poll() is not None, "start")
    return server


def listen(stack: ExitStack, address: object, family: socket.AddressFamily) -> socket.socket:
    sock = stack.enter_context(socket.socket(family))
    sock.bind(address)  # type: ignore[arg-type]
    sock.listen()
    return sock


def test_sockets_of_the_service_manager_are_used(start_server: Start, tmp_path: Path) -> None:
    """All of them, of any family, instead of what the options say, and the log says so."""
    with ExitStack() as stack:
        port = listen(stack, ("127.0.0.1", 0), socket.AF_INET)
        unix = listen(stack, str(tmp_path / "s"), socket.AF_UNIX)
        server = activate(start_server, unix, port, options=("--port", "1", "--host", "nowhere"))
        number = port.getsockname()[1]
        assert server.port == number
        assert "listens on: what the service manager has passed on, not on --port" in server.stderr
        with Peer(number) as peer, stack.enter_context(socket.socket(socket.AF_UNIX)) as other:
            peer.open()
            other.connect(str(tmp_path / "s"))
            other.sendall(head())
            assert other.recv(12) == b"HTTP/1.1 101"
        assert server.stop() == 0
        assert (tmp_path / "s").exists(), "it is the service manager's"


def test_a_restart_refuses_nobody(start_server: Start) -> None:
    """Who comes between two servers waits in the kernel, and is served by the second."""
    with ExitStack() as stack:
        listening = listen(stack, ("127.0.0.1", 0), socket.AF_INET)
        port = listening.getsockname()[1]
        first = activate(start_server, listening)
        with Peer(port) as peer:
            peer.open()
            first.process.send_signal(signal.SIGTERM)
            assert peer.read_close() == 1001
        assert first.wait() == 0
        between = stack.enter_context(Peer(port))
        between.send(head())
        activate(start_server, listening)
        assert between.read_answer().status == 101


def test_what_is_no_listening_socket_is_an_error(start_server: Start) -> None:
    """One line names it."""
    with socket.socket() as sock:
        server = activate(start_server, sock)
        assert server.wait() == 1
        assert server.stderr == (
            "fws_server: file 3, which the service manager has passed on (LISTEN_FDS), "
            "is not a socket that streams can be accepted from\n"
        )
