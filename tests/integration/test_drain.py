"""How the server stops: not ready first, then its clients are closed one after the other."""

from __future__ import annotations

import signal
from contextlib import ExitStack
from pathlib import Path

import pytest

from ..process import wait_until
from .redis_server import RedisProcess
from .wire import CLOSE, TEXT, Answer, Frame, Peer, Start, ask, frame, head, save_filters

LONG = "600"


def get(port: int, path: str) -> Answer:
    return ask(port, f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())


def test_a_server_that_runs_is_ready(start_server: Start) -> None:
    """A load balancer sends clients to it, and no cache answers for it."""
    answer = get(start_server("-f").port, "/ready")
    assert (answer.status, answer.body) == (200, b"ready\n")
    assert answer.headers["cache-control"] == "no-store"


def test_load_balancers_have_the_delay_to_notice(start_server: Start) -> None:
    """From the signal on it is not ready, and it still takes and serves clients."""
    server = start_server("-f", "broadcast_messages", "--drain_delay", LONG)
    port = server.port
    with Peer(port) as early:
        early.open()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: get(port, "/ready").status == 503, "the drain")
        assert get(port, "/ready").body == b"draining\n"
        assert get(port, "/health").status == 200
        with Peer(port) as late:
            late.open(frame(TEXT, b"hello"))
            assert early.read_frame() == Frame(TEXT, b"hello")
        assert server.process.poll() is None


@pytest.mark.parametrize("code", [1001, 1012])
def test_who_comes_in_the_delay_is_closed_too(start_server: Start, code: int) -> None:
    """All get the same code, whenever they came."""
    server = start_server("-f", "--drain_delay", "0.5", "--drain_code", str(code))
    with Peer(server.port) as early, Peer(server.port) as late:
        early.open()
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: "stopping" in server.stderr, "the drain")
        late.open()
        assert {early.read_close(), late.read_close()} == {code}
    assert server.wait() == 0
    assert "closing 2 clients within 0.0 s, with" in server.stderr
    assert "closed 2 clients\n" in server.stderr


def test_a_second_signal_ends_the_delay(start_server: Start) -> None:
    """Nobody has to wait for a load balancer that is not there."""
    server = start_server("-f", "--drain_delay", LONG)
    port = server.port
    server.process.send_signal(signal.SIGTERM)
    wait_until(lambda: get(port, "/ready").status == 503, "the drain")

    def has_ended() -> bool:
        # Again and again: one that comes within milliseconds counts as the first.
        server.process.send_signal(signal.SIGTERM)
        return server.process.poll() is not None

    wait_until(has_ended, "the end")
    assert server.wait() == -signal.SIGTERM


def test_those_who_stay_longer_get_what_is_sent_meanwhile(
    start_server: Start, tmp_path: Path
) -> None:
    """The first that is closed gets nothing of those after it, the last one all, in order."""
    save_filters(
        tmp_path,
        "farewell",
        """
class Farewell(WebSocketDisconnectFilter):
    count = 0

    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.users.broadcast(f"{cls.count} have left")
        cls.count += 1
""",
    )
    server = start_server("-f", "farewell")
    number = 30
    with ExitStack() as stack:
        peers = [stack.enter_context(Peer(server.port)).open() for _ in range(number)]
        server.process.send_signal(signal.SIGTERM)
        counts = []
        for peer in peers:
            heard = []
            while (received := peer.read_frame()).opcode == TEXT:
                heard.append(received.payload.decode())
            assert received.opcode == CLOSE
            peer.send(frame(CLOSE, received.payload[:2]))
            assert heard == [f"{n} have left" for n in range(len(heard))]
            counts.append(len(heard))
    assert server.wait() == 0
    assert sorted(counts) == list(range(number))
    assert counts != sorted(counts), "the order is not random"


def test_who_waits_in_the_kernel_is_served(start_server: Start, tmp_path: Path) -> None:
    """A connection that the kernel has made before the stop is not reset by it."""
    save_filters(
        tmp_path,
        "blocking",
        """
class Blocking(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        print("blocked", flush=True)
        while not os.path.exists("go"):
            pass
""",
    )
    server = start_server("-f", "blocking")
    with ExitStack() as stack:
        stack.enter_context(Peer(server.port)).open(frame(TEXT, b"block"))
        wait_until(lambda: "blocked" in server.stdout, "the filter")
        late = [stack.enter_context(Peer(server.port)) for _ in range(20)]
        for peer in late:
            peer.send(head())
        server.process.send_signal(signal.SIGTERM)
        (tmp_path / "go").touch()
        for peer in late:
            assert peer.read_answer().status == 101
            assert peer.read_close() == 1001
    assert server.wait() == 0


@pytest.mark.redis
def test_a_server_that_needs_redis_is_ready_while_it_is_there(
    start_cluster: Start, redis_process: RedisProcess
) -> None:
    """With --redis_required /ready says that it is away, and when it is back; /health does not."""
    (server,) = start_cluster("broadcast_messages", servers=1, redis_required=True)  # type: ignore[misc]
    (other,) = start_cluster("broadcast_messages", servers=1)  # type: ignore[misc]
    assert get(server.port, "/ready").status == 200
    redis_process.kill()
    wait_until(lambda: get(server.port, "/ready").status == 503, "the outage")
    assert get(server.port, "/ready").body == b"Redis is away\n"
    assert get(server.port, "/health").status == 200
    assert get(other.port, "/ready").status == 200
    redis_process.start()
    wait_until(lambda: get(server.port, "/ready").status == 200, "the recovery")
