"""A new server takes over from an old one under traffic: nobody is refused, nothing is lost."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ..process import ServerProcess, wait_until
from .test_unix_socket import UnixPeer
from .wire import PING, TEXT, Frame, Peer, Start, frame, head, save_filters

DEPLOYS = 4
CONNECTORS = 3

WHO = """
class Who(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        web_socket_instance.response_headers["X-Server"] = str(os.getpid())
"""


@contextmanager
def traffic(call: Callable[[], Peer]) -> Iterator[Counter[str]]:
    """Let clients connect all the time, each to be served; yield what happens to them."""
    outcomes: Counter[str] = Counter()
    is_over = threading.Event()

    def connect() -> None:
        while not is_over.is_set():
            try:
                with call() as peer:
                    peer.open(frame(PING, b"?"))
                    opcode = peer.read_frame().opcode  # a pong, or the close of a server that stops
                outcomes["served"] += opcode in (0x8, 0xA)
            except Exception as error:
                outcomes[repr(error)] += 1

    threads = [threading.Thread(target=connect) for _ in range(CONNECTORS)]
    for thread in threads:
        thread.start()
    try:
        yield outcomes
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


def deploy(old: ServerProcess, start: Callable[[], ServerProcess]) -> ServerProcess:
    """Start a server beside the old one, then stop that; return the new one."""
    new = start()
    wait_until(lambda: "storage:" in new.stderr, "the start of the new server")
    assert old.stop() == 0
    assert "Traceback" not in old.stderr
    return new


@pytest.mark.slow
@pytest.mark.redis
def test_a_deploy_under_traffic(start_cluster: Callable[..., list[ServerProcess]]) -> None:
    """Nobody is refused or reset, and those who stay get every message, in order."""
    filters = ("who", "filtered_websocket.filters.broadcast_messages")
    options = {"servers": 1, "reuse_port": True, "drain_code": 1012, "ping_interval": 0}
    (staying,) = start_cluster(*filters, **options)
    port = staying.port

    def start() -> ServerProcess:
        # What is given last wins over the free port.
        return start_cluster(*filters, **options, port=port)[0]

    old = start()

    def connect_to(server: ServerProcess, stack: ExitStack) -> Peer:
        """Return a client of this server: the kernel chooses one of those that share the port."""
        while True:
            peer = stack.enter_context(Peer(port))
            peer.send(head())
            answer = peer.read_answer()
            assert answer.status == 101
            if int(answer.headers["x-server"]) == server.process.pid:
                return peer

    with ExitStack() as stack:
        sender, receiver = (connect_to(staying, stack) for _ in range(2))
        is_over = threading.Event()
        sent = 0

        def send() -> None:
            nonlocal sent
            while not is_over.wait(0.001):
                sender.send(frame(TEXT, b"%d" % sent))
                sent += 1

        thread = threading.Thread(target=send)
        thread.start()
        with traffic(lambda: Peer(port)) as outcomes:
            for _ in range(DEPLOYS):
                old = deploy(old, start)
        is_over.set()
        thread.join()
        sender.send(frame(TEXT, b"the end"))
        received = []
        while (message := receiver.read_frame()) != Frame(TEXT, b"the end"):
            received.append(int(message.payload))
        other = connect_to(old, stack)
        other.send(frame(TEXT, b"from the new server"))
        assert receiver.read_frame() == Frame(TEXT, b"from the new server")
    assert received == list(range(sent))
    assert set(outcomes) == {"served"}


@pytest.fixture(autouse=True)
def filters(tmp_path: Path) -> None:
    save_filters(tmp_path, "who", WHO)


@pytest.mark.slow
def test_a_unix_socket_changes_hands_under_traffic(start_server: Start, tmp_path: Path) -> None:
    """With --reuse_port the new server takes the path over, and nobody is refused."""

    def start() -> ServerProcess:
        return start_server("-f", "--unix_socket", "fws.sock", "--reuse_port", port=None)

    old = start()
    wait_until(lambda: "storage:" in old.stderr, "the start")
    with traffic(lambda: UnixPeer(tmp_path / "fws.sock")) as outcomes:
        for _ in range(DEPLOYS):
            old = deploy(old, start)
    assert set(outcomes) == {"served"}


def test_both_servers_have_to_share(start_server: Start) -> None:
    """Nobody shares a port by accident."""
    first = start_server("-f", "--reuse_port")
    second = start_server("-f", port=first.port)
    assert second.wait() == 1
    assert "the port is in use; stop the other server" in second.stderr
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == 0
