"""The metrics port of the real server, and its ledgers in bad weather."""

from __future__ import annotations

import random
import re
import signal
import threading
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ..process import ServerProcess, wait_until
from .redis_server import RedisProcess
from .redis_topologies import Cluster
from .test_event_loops import LOOPS
from .wire import PING, TEXT, Peer, Start, ask, close_frame, frame, head, save_filters

WEATHER = """
import random

dice = random.Random(7)


class Door(WebSocketHandshakeFilter):
    @classmethod
    async def filter(cls, ws, request):
        await asyncio.sleep(0)
        if dice.random() < 0.1:
            raise RejectHandshake(403, "not today")


class Mood(WebSocketMessageFilter):
    @classmethod
    def filter(cls, ws, msg):
        chance = dice.random()
        if chance < 0.1:
            raise DropMessage
        if chance < 0.12:
            raise ValueError("a bad mood")
        if chance < 0.13:
            ws.loseConnection(4000)
        if chance < 0.14:
            ws.abortConnection()
        if chance < 0.3:
            ws.sendMessage("noted")
        ws.storage_object.add("seen", chance)
        ws.queue.put({"type": "own", "data": bytes(msg[:10])})


class Item(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, server, item):
        if dice.random() < 0.1:
            raise DropMessage
        server.users.broadcast(repr(item)[:50])
"""
PATIENCE = """
class Patience(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, ws, msg):
        await asyncio.sleep(dice.choice([0, 0, 0.001, 0.02]))
"""


HAPPENS = {
    'fws_chain_ended_total{chain="message",outcome="dropped"}',
    'fws_chain_ended_total{chain="message",outcome="failed"}',
    'fws_chain_ended_total{chain="consumer",outcome="dropped"}',
    'fws_chain_ended_total{chain="handshake",outcome="rejected"}',
    'fws_closes_total{by="server",code="4000"}',
    'fws_closes_total{by="server",code="1006"}',
    'fws_deliveries_dropped_total{reason="closed"}',
    'fws_deliveries_dropped_total{reason="slow_client"}',
}


def metrics_port(server: ServerProcess) -> int:
    """Return the port of the metrics; waits for the start lines."""
    assert server.port
    wait_until(lambda: "metrics: " in server.stderr, "the line")
    match = re.search(r"metrics: http://\S+?:(\d+)/", server.stderr)
    assert match is not None
    return int(match[1])


def get(port: int, path: str, host: str = "localhost") -> tuple[int, str]:
    answer = ask(port, f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
    return answer.status, answer.body.decode()


def scrape(port: int) -> dict[str, float]:
    """Return all samples, by their name and labels as Prometheus writes them."""
    status, text = get(port, "/metrics")
    assert status == 200
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def imbalances(figures: dict[str, float]) -> dict[str, float]:
    ledgers = {name: amount for name, amount in figures.items() if "fws_ledger" in name}
    assert len(ledgers) >= 16
    return {name: amount for name, amount in ledgers.items() if amount}


def test_the_port_is_closed_unless_it_is_asked_for(start_server: Start) -> None:
    """Nobody is told anything who did not ask; not even the start lines speak of it."""
    server = start_server("-f")
    assert server.port
    assert "metrics" not in server.stderr


def test_what_an_operator_sees(start_server: Start) -> None:
    """Each page answers beside the port of the clients, and figures are of what clients did."""
    server = start_server("-f", "broadcast_messages", "--metrics_port", "0")
    port = metrics_port(server)
    assert get(port, "/health") == (200, "ok\n")
    assert get(port, "/ready") == (200, "ready\n")
    assert get(port, "/")[1].startswith("<!doctype html>")
    assert get(port, "/metrics", host="chat.example")[0] == 421
    assert ask(port, head()).status == 200  # and not 101: there are no connections here
    assert ask(server.port, head(Sec_WebSocket_Version="8")).status == 426
    with Peer(server.port).open() as alice, Peer(server.port).open() as bob:
        alice.send(frame(TEXT, b"hello") + frame(PING, b"?") + frame(TEXT, b"you"))
        assert [bob.read_frame().payload for _ in range(2)] == [b"hello", b"you"]
        alice.send(close_frame(1001))
        assert alice.read_close() == 1001
        wait_until(lambda: scrape(port)["fws_sockets"] == 1, "the end of the socket")
        figures = scrape(port)
    assert imbalances(figures) == {}
    expected = {
        "fws_ready": 1,
        "fws_connections": 1,
        "fws_connections_total": 2,
        'fws_closes_total{by="client",code="1001"}': 1,
        'fws_handshakes_refused_total{reason="version",status="426"}': 1,
        "fws_messages_received_total": 2,
        "fws_received_bytes_total": 8,
        "fws_deliveries_offered_total": 2,
        "fws_deliveries_total": 2,
        "fws_delivered_bytes_total": 12,
        'fws_chain_ended_total{chain="message",outcome="passed"}': 2,
    }
    assert {name: figures[name] for name in expected} == expected
    assert figures["process_open_fds"] > 5


def test_a_taken_port_is_told(start_server: Start) -> None:
    """One line, which names the option; and the server does not start without its metrics."""
    first = start_server("-f", "--metrics_port", "0")
    second = start_server("-f", "--metrics_port", str(metrics_port(first)))
    assert second.wait() == 1
    (line,) = second.stderr.splitlines()
    assert "in use" in line and "--metrics_port" in line


@pytest.mark.parametrize("loop", LOOPS)
def test_a_crowd_at_the_port_of_operators(start_server: Start, loop: str) -> None:
    """Neither it nor sockets that say nothing make lines about clients, and clients get in."""
    server = start_server("-f", "broadcast_messages", "--metrics_port", "0", command=LOOPS[loop])
    port = metrics_port(server)
    with ExitStack() as crowd:
        for _ in range(20):
            crowd.enter_context(Peer(port))
        wait_until(lambda: "who keeps them open" in server.stderr, "the warning")
        server.process.send_signal(signal.SIGSTOP)
        for _ in range(50):
            Peer(port).reset()
        server.process.send_signal(signal.SIGCONT)
        with Peer(server.port).open() as alice, Peer(server.port).open() as bob:
            alice.send(frame(TEXT, b"hello"))
            assert bob.read_frame().payload == b"hello"
    wait_until(lambda: "there is room for more" in server.stderr, "the news")
    for _ in range(5):
        with ExitStack() as crowd:
            for _ in range(20):
                crowd.enter_context(Peer(port))
    wait_until(lambda: answers(port), "room")
    assert imbalances(scrape(port)) == {}
    assert server.stop() == 0
    assert server.stderr.count("there is room for more") <= 3  # what repeats is counted
    for wrong in ("ulimit", "refused: ", " ERROR "):
        assert wrong not in server.stderr


def answers(port: int) -> bool:
    try:
        return get(port, "/health")[0] == 200
    except (OSError, ValueError):
        return False


def sleeper(port: int) -> Peer:
    """Return a client that never reads; the door may refuse it some times."""
    while True:
        peer = Peer(port, read_buffer=4096)
        with suppress(AssertionError):
            return peer.open()
        peer.__exit__()


class Crowd:
    """Clients that come, talk, read some of what they get, and go, in a thread each."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._live, args=(seed,)) for seed in range(6)]

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _live(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self._stop.is_set():
            with (
                suppress(OSError, EOFError, AssertionError),
                Peer(self._port, read_buffer=4096) as peer,
            ):
                peer.open()
                peer.socket.settimeout(0.05)
                self._talk(peer, dice)

    def _talk(self, peer: Peer, dice: random.Random) -> None:
        for _ in range(dice.randrange(1, 40)):
            size = dice.choice([5, 5, 500, 20_000])
            burst = [frame(TEXT, b"x" * size) for _ in range(dice.randrange(1, 10))]
            peer.send(b"".join([*burst, frame(PING, b"?")]))
            if dice.random() < 0.3:
                peer.socket.recv(65536)
            if self._stop.is_set():
                return
        if dice.random() < 0.5:
            peer.send(close_frame(1000))
        elif dice.random() < 0.5:
            peer.reset()


@pytest.mark.redis
@pytest.mark.slow
@pytest.mark.parametrize("policy", ["close", "drop_oldest", "drop_newest"])
@pytest.mark.parametrize("patience", ["", PATIENCE], ids=["sync", "async"])
def test_the_ledgers_balance_in_bad_weather(
    start_cluster: Cluster,
    redis_process: RedisProcess,
    tmp_path: Path,
    policy: str,
    patience: str,
) -> None:
    """Filters drop, fail and disconnect by chance, clients do not read, Redis freezes and dies:
    in each scrape, under full traffic, every ledger is 0.
    """
    save_filters(tmp_path, "weather", WEATHER + patience)
    (server,) = start_cluster(
        *("weather", "broadcast_messages"),
        servers=1,
        metrics_port=0,
        slow_client=policy,
        max_queue_bytes=65536,
        redis_backlog=50,
        drain_seconds=1,
    )
    port = metrics_port(server)

    def figures() -> dict[str, float]:
        found = scrape(port)
        assert imbalances(found) == {}
        return found

    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(sleeper(server.port))
        stack.enter_context(Crowd(server.port))
        with redis_process.connect() as publisher:
            for number in range(50):
                publisher.publish("global", f"item {number}")
            wait_until(lambda: figures()["fws_redis_items_total"] >= 50, "the items")
        redis_process.stop()
        wait_until(lambda: figures()["fws_redis_dropped_total"], "drops of the backlog")
        redis_process.cont()
        redis_process.kill()
        wait_until(lambda: not figures()["fws_redis_connected"], "that Redis is away")
        redis_process.start()
        wait_until(lambda: figures()["fws_redis_connected"], "that Redis is back")
        wait_until(lambda: {n for n, v in figures().items() if v} >= HAPPENS, "all that happens")
    wait_until(lambda: figures()["fws_connections"] == 0, "the end of all clients")
    last = figures()
    assert last["fws_redis_reconnects_total"] >= 1 and last["fws_redis_gap_seconds_total"] > 0
    assert last["fws_deliveries_waiting"] == last["fws_unsent_bytes"] == 0
    assert server.stop() == 0
