"""Redis goes, freezes, refuses or lies: clients stay, the log says it once, and all comes back."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import redis

from ..process import ServerProcess, told, wait_until
from .conftest import REDIS_STORAGE
from .redis_server import RedisProcess
from .redis_topologies import (
    OBSERVER,
    Client,
    Cluster,
    Proxy,
    free_port,
    gaps,
    hears,
    hears_items,
    lines_with,
    members_in,
    seconds_until,
)
from .wire import memory, save_filters

pytestmark = [pytest.mark.redis, pytest.mark.slow]

FILTERS = ("observer", "broadcast_messages_by_token", "broadcast_pubsub")
CHAT = ("observer", "broadcast_messages", "broadcast_pubsub")
MEGABYTE = 1024 * 1024
NOTICED = 10.0  # seconds, the bound for a connection that is up but dead
WORKS_AGAIN = 2.0  # seconds, the bound after a short outage
TROUBLE = (" WARNING ", " ERROR ", "Traceback")


@pytest.fixture(autouse=True)
def observer(tmp_path: Path) -> None:
    save_filters(tmp_path, "observer", OBSERVER)


def trouble(server: ServerProcess) -> list[str]:
    """Return the lines of the log that are more than news, without their time."""
    lines = server.stderr.splitlines()
    return [line.split(" ", 2)[-1] for line in lines if any(word in line for word in TROUBLE)]


def is_away(server: ServerProcess) -> bool:
    return bool(lines_with(server, "is away"))


def is_back(server: ServerProcess) -> bool:
    return bool(lines_with(server, "is back"))


# Away at the start


def test_a_start_without_redis_serves_and_joins_later(tmp_path: Path, start_server: Any) -> None:
    """The server chats while Redis is away, says that in one line without the password, and joins
    when Redis is there; the consumer chain learns of the gap.
    """
    store = RedisProcess(tmp_path / "redis", "requirepass hush-hush")
    url = f"redis://:hush-hush@127.0.0.1:{store.port}"
    server = start_server("-f", *CHAT, environ=REDIS_STORAGE | {"FWS_REDIS_URL": url})
    with Client(server) as sender, Client(server) as receiver:
        sender.send("without")
        wait_until(lambda: "without" in receiver.got, "the message")
        wait_until(lambda: is_away(server), "the line")
        with store:
            there = time.monotonic()
            hears_items(store.connect(), receiver, "item")
            assert time.monotonic() - there < WORKS_AGAIN
            wait_until(lambda: gaps(server), "the gap item")
            away, back = trouble(server)
    ((seconds, channels), *_) = gaps(server)
    assert seconds > 0 and channels == ["global"]
    assert "is away" in away and f"127.0.0.1:{store.port}" in away
    assert "is back" in back
    assert "hush-hush" not in server.stderr + server.stdout


def test_a_server_that_requires_redis_does_not_start_without(start_server: Any) -> None:
    """With --redis_required the server exits with 1, and one line that names the place."""
    port = str(free_port())
    options = ("--redis_required", "--redis_port", port)
    server = start_server("-f", *CHAT, *options, environ=REDIS_STORAGE)
    assert server.wait() == 1
    (line,) = server.stderr.splitlines()
    assert line.startswith(f"fws_server: Redis at localhost:{port} is away")
    assert "--redis_required" in line


def test_a_server_that_requires_redis_starts_with_it(start_cluster: Cluster) -> None:
    """With --redis_required and a Redis that is there, the start is as any other."""
    (server,) = start_cluster(*CHAT, servers=1, redis_required=True)
    assert not trouble(server)


# Killed and started again


def test_twenty_crashes_of_redis_under_traffic(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """Through twenty crashes of Redis all clients stay, items come within 2 s after each, and in
    the end both servers have what Redis has.
    """
    servers = start_cluster(*FILTERS)
    groups = [f"group{number}" for number in range(5)]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Client(servers[number % 2], groups[number % 5]))
            for number in range(50)
        ]
        ids = {group: {c.id for c in clients[n::5]} for n, group in enumerate(groups)}
        with traffic(clients[:10]):
            for crash in range(20):
                redis_process.restart()
                store = redis_process.connect()
                began = time.monotonic()
                for client in clients:
                    hears_items(store, client, f"item {crash}")
                assert time.monotonic() - began < WORKS_AGAIN, crash
                for server in servers:
                    wait_until(lambda: len(gaps(server)) > crash, "the gap item")  # noqa: B023
        store = redis_process.connect()
        for group in groups:
            wait_until(lambda: members_in(store, group) == ids[group], "the members")  # noqa: B023
            for client in clients[:2]:
                wait_until(lambda: client.members(group) == ids[group], "the copy")  # noqa: B023
        for client in clients[:2]:
            wait_until(
                lambda: client.members("seen") == members_in(store, "seen"),  # noqa: B023
                "the copy of plain values",
            )
    for server in servers:
        assert len(gaps(server)) == 20
        for event in ("is away", "is back"):
            wait_until(lambda s=server, e=event: told(s.stderr, e) == 20, event)
        assert [line for line in trouble(server) if not re.search("is away|is back", line)] == []


@contextmanager
def traffic(clients: list[Client]) -> Iterator[None]:
    """Let clients talk to their groups and write values, all the time."""
    ended = threading.Event()

    def talk() -> None:
        number = 0
        while not ended.wait(0.005):
            number += 1
            clients[number % len(clients)].send(f"message {number}")
            clients[number % len(clients)].send(f"?x add seen {number % 100}")
            clients[number % len(clients)].send(f"?x remove seen {(number + 50) % 100}")

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


# Up, but dead


@pytest.mark.parametrize("how", ["frozen", "unreachable"])
def test_a_dead_connection_is_noticed(
    start_cluster: Cluster, redis_process: RedisProcess, how: str
) -> None:
    """A Redis that does not answer on an open connection is noticed within 10 s; clients chat
    meanwhile, and what other servers hear afterwards is in order, nothing twice.
    """
    with Proxy(redis_process.port) as proxy:
        servers = start_cluster(*CHAT, redis_port=proxy.port)
        with (
            Client(servers[0]) as sender,
            Client(servers[0]) as receiver,
            Client(servers[1]) as other,
        ):
            hears(sender, other, "before")
            freeze, thaw = {
                "frozen": (redis_process.stop, redis_process.cont),
                "unreachable": (proxy.stall, proxy.mend),
            }[how]
            freeze()
            sent = chat_while(lambda: not all(map(is_away, servers)), sender, receiver)
            thaw()
            hears_items(redis_process.connect(), receiver, "item")
            hears_items(redis_process.connect(), other, "item")
            hears(sender, other, "after")
            numbers = [int(text) for text in other.got if text.isdigit()]
            assert numbers == sorted(set(numbers)) and len(numbers) <= sent
        for server in servers:
            wait_until(lambda: gaps(server), "the gap item")  # noqa: B023
            assert [line.split()[-1] != "" for line in trouble(server)] == [True, True]
            assert len(lines_with(server, "is away")) == len(lines_with(server, "is back")) == 1


def test_what_waited_in_the_backlog_arrives_once_and_in_order(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """When only one server has lost Redis, the others get all that its clients sent meanwhile: each
    message once, in order, also what had been sent to Redis and was not answered.
    """
    with Proxy(redis_process.port) as proxy:
        servers = start_cluster(*CHAT, servers=1, redis_port=proxy.port)
        servers += start_cluster(*CHAT, servers=1)
        with (
            Client(servers[0]) as sender,
            Client(servers[0]) as receiver,
            Client(servers[1]) as other,
        ):
            hears(sender, other, "before")
            proxy.stall()
            sent = chat_while(lambda: not is_away(servers[0]), sender, receiver)
            proxy.mend()
            wait_until(lambda: str(sent) in other.got, "the last message")
            sender.send("end")
            wait_until(lambda: "end" in other.got, "the end")
            numbers = [int(text) for text in other.got if text.isdigit()]
            assert numbers == list(range(1, sent + 1))
        assert not trouble(servers[1]) and not gaps(servers[1])


def chat_while(goes_on: Callable[[], bool], sender: Client, receiver: Client) -> int:
    """Send numbers, each after the one before came in; return how many. None may take long."""
    number, began = 0, time.monotonic()
    while goes_on():
        assert time.monotonic() - began < NOTICED, "nobody noticed"
        number += 1
        sender.send(str(number))
        assert seconds_until(lambda: str(number) in receiver.got[-3:], "the message") < 1  # noqa: B023
    return number


def test_a_redis_that_freezes_for_a_moment_is_not_away(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """A pause that is shorter than the health check costs nothing: no line, no gap, no message."""
    servers = start_cluster(*CHAT)
    with Client(servers[0]) as sender, Client(servers[1]) as other:
        hears(sender, other, "before")
        redis_process.stop()
        began = time.monotonic()
        sender.send("in between")
        wait_until(lambda: time.monotonic() - began > 1, "a second")
        redis_process.cont()
        wait_until(lambda: "in between" in other.got, "the message")
    assert not any(map(trouble, servers)) and not any(map(gaps, servers))


# A Redis that cannot be used


def test_wrong_password(start_server: Any, tmp_path: Path) -> None:
    """A wrong password is one line, without the password; the server serves and keeps trying."""
    with RedisProcess(tmp_path / "redis", "requirepass right-one") as store:
        wrong = {"FWS_REDIS_PASSWORD": "wrong-one"}
        options = ("--redis_port", str(store.port))
        server = start_server("-f", *CHAT, *options, environ=REDIS_STORAGE | wrong)
        line = is_told_once(server, lambda: attempts(store), store.port)
        assert "password" in line
        assert "wrong-one" not in server.stderr and "right-one" not in server.stderr
        store.connect().config_set("requirepass", "wrong-one")
        wait_until(lambda: is_back(server), "the line")


def test_missing_password(start_server: Any, tmp_path: Path) -> None:
    """A Redis that wants a password, and gets none, is one line that says so."""
    with RedisProcess(tmp_path / "redis", "requirepass right-one") as store:
        options = ("--redis_port", str(store.port))
        server = start_server("-f", *CHAT, *options, environ=REDIS_STORAGE)
        line = is_told_once(server, lambda: attempts(store), store.port)
        assert "authenticat" in line and "right-one" not in server.stderr


def test_wrong_database_number(start_server: Any, redis_process: RedisProcess) -> None:
    """A database number that Redis does not have is one line; the server serves."""
    options = ("--redis_url", f"{redis_process.url}/99")
    server = start_server("-f", *CHAT, *options, environ=REDIS_STORAGE)
    line = is_told_once(server, lambda: attempts(redis_process), redis_process.port)
    assert "DB index is out of range" in line


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", b"", b"\x00\xff\xfe\r\n" * 100],
    ids=["a web server", "closes at once", "garbage"],
)
def test_something_else_than_redis(start_server: Any, answer: bytes) -> None:
    """A port where something else answers is one line; the server serves and keeps trying."""
    with something_else(answer) as (port, connections):
        options = ("--redis_port", str(port))
        server = start_server("-f", *CHAT, *options, environ=REDIS_STORAGE)
        is_told_once(server, lambda: len(connections), port)


def attempts(store: RedisProcess) -> int:
    return int(store.connect().info("stats")["total_connections_received"])


def is_told_once(server: ServerProcess, attempts: Callable[[], int], port: int) -> str:
    """Return the only line about a Redis that is no use, after more attempts; clients chat."""
    wait_until(lambda: is_away(server), "the line")
    with Client(server) as sender, Client(server) as receiver:
        hears(sender, receiver, "hello")
    enough = attempts() + 6
    wait_until(lambda: attempts() >= enough, "more attempts")
    (line,) = trouble(server)
    assert str(port) in line
    assert server.process.poll() is None
    return line


@contextmanager
def something_else(answer: bytes) -> Iterator[tuple[int, list[socket.socket]]]:
    """Listen on a port, and give each client the same answer."""
    connections: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    sock = listener.accept()[0]
                    connections.append(sock)
                    with suppress(OSError), sock:
                        if answer:
                            sock.recv(4096)
                            sock.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1], connections
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


# A Redis that refuses to write


def test_a_full_redis(start_cluster: Cluster, redis_process: RedisProcess) -> None:
    """While Redis is full, messages and groups of one server work and the log has one kind of
    line; when it has room again, all is as if nothing had been.
    """
    servers = start_cluster(*FILTERS, redis_lease_seconds=3)
    store = redis_process.connect()
    with Client(servers[0], "room") as first, Client(servers[1], "room") as far:
        hears(first, far, "before")
        store.config_set("maxmemory", "1mb")
        with pytest.raises(redis.exceptions.OutOfMemoryError):
            store.set("more", "x" * MEGABYTE)
        with Client(servers[0], "room") as second, Client(servers[0], "other") as third:
            assert second.id in first.members("room")
            hears(first, second, "local")
            hears_items(store, third, "item")
            wait_until(lambda: trouble(servers[0]), "a line")
            again = f"after {time.monotonic():.1f}"
            hears(second, first, again)
            hears_items(store, second, "second item")
            kinds = {re.sub(r"[\d.]+|\w{32}", "#", line) for line in trouble(servers[0])}
            assert len(kinds) == 1 and "maxmemory" in kinds.pop()
            assert len(trouble(servers[0])) < 5
            store.config_set("maxmemory", "0")
            everybody = {first.id, second.id, far.id}
            wait_until(lambda: members_in(store, "room") == everybody, "the members in Redis")
            wait_until(lambda: far.members("room") == everybody, "the copy of the other server")
            hears(second, far, "afterwards")
            assert members_in(store, "other") == {third.id}
    for server in servers:
        assert server.process.poll() is None and "Traceback" not in server.stderr


def test_a_full_redis_still_carries_messages(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """Redis publishes also when it is full: servers that need to write nothing hear each other."""
    servers = start_cluster(*FILTERS)
    store = redis_process.connect()
    with Client(servers[0], "room") as first, Client(servers[1], "room") as far:
        hears(first, far, "before")
        store.config_set("maxmemory", "1mb")
        with Client(servers[0], "room") as second:
            hears(first, second, "here")
            hears(first, far, "there")


def test_a_value_of_another_type_under_our_key(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """A key of ours that holds a string is named in the log; its group works on each server, and
    other groups work as ever.
    """
    store = redis_process.connect()
    store.set('fws:set:"taken"', "a string")
    servers = start_cluster(*FILTERS, redis_lease_seconds=1)
    with (
        Client(servers[0], "taken") as first,
        Client(servers[0], "taken") as second,
        Client(servers[0], "free") as third,
        Client(servers[1], "free") as far,
    ):
        hears(first, second, "local")
        hears(third, far, "over there")
        wait_until(lambda: far.members("free") == {third.id, far.id}, "the copy")
        wait_until(lambda: lines_with(servers[0], "taken"), "the name of the key")
        beats = hears_beats(store, 5)
        assert beats and len(trouble(servers[0])) <= 4, trouble(servers[0])[:6]
        assert store.get('fws:set:"taken"') == b"a string"
        store.delete('fws:set:"taken"')
        wait_until(lambda: members_in(store, "taken") == {first.id, second.id}, "the members")
    for server in servers:
        assert server.process.poll() is None and "Traceback" not in server.stderr


def hears_beats(store: redis.Redis, number: int) -> int:
    """Wait until the lease of some server was renewed so many times."""
    (lease, *_) = store.scan_iter("fws:lease:*")
    renewals, last = 0, store.pttl(lease)
    deadline = time.monotonic() + 15
    while renewals < number and time.monotonic() < deadline:
        now = store.pttl(lease)
        renewals, last = renewals + (now > last), now
    return renewals


def test_a_replica_that_refuses_to_write(
    start_cluster: Cluster, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """On a read-only replica the server serves and hears items, says what is wrong in a line, and
    writes when the replica becomes a master.
    """
    with RedisProcess(tmp_path / "replica", f"replicaof 127.0.0.1 {redis_process.port}") as replica:
        wait_until(
            lambda: replica.connect().info("replication")["master_link_status"] == "up", "the link"
        )
        (server,) = start_cluster(*FILTERS, servers=1, redis_port=replica.port)
        with Client(server, "room") as first, Client(server, "room") as second:
            hears(first, second, "local")
            hears_items(redis_process.connect(), first, "item")
            wait_until(lambda: trouble(server), "a line")
            assert all("read only" in line for line in trouble(server))
            replica.connect().replicaof("NO", "ONE")
            wait_until(
                lambda: members_in(replica.connect(), "room") == {first.id, second.id},
                "the members",
            )
        assert len(trouble(server)) <= 2 and "Traceback" not in server.stderr


# What is kept, and what it costs


def test_a_full_backlog_drops_the_oldest(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """Of what is written while Redis is away the last --redis_backlog are kept; how many were
    dropped is one line for each outage.
    """
    (server,) = start_cluster(*CHAT, servers=1, redis_backlog=10)
    with Client(server) as client:
        for outage in range(2):
            redis_process.kill()
            wait_until(lambda: len(lines_with(server, "is away")) > outage, "the line")  # noqa: B023
            for number in range(100):
                client.send(f"?x add kept{outage} {number}")
            assert len(client.members(f"kept{outage}")) == 100
            redis_process.start()
            store = redis_process.connect()
            kept = {str(number) for number in range(90, 100)}
            wait_until(lambda: members_in(store, f"kept{outage}") == kept, "what was kept")  # noqa: B023
            wait_until(lambda: client.members(f"kept{outage}") == kept, "the copy")  # noqa: B023
            wait_until(
                lambda: len(lines_with(server, " 90 ")) > outage,  # noqa: B023
                "the line about what was dropped",
            )
    assert len(lines_with(server, "dropped")) <= 4  # that it begins, and how many it were
    assert len(lines_with(server, " 90 ")) == 2


def test_an_outage_takes_no_memory_without_bound(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """With a small backlog, many long messages during an outage leave the memory as it was."""
    (server,) = start_cluster(*CHAT, servers=1, redis_backlog=10)
    with Client(server) as sender, Client(server) as receiver:
        redis_process.kill()
        wait_until(lambda: is_away(server), "the line")
        send_many(sender, receiver, 500)
        before = memory(server)
        send_many(sender, receiver, 5000)
        assert memory(server) - before < 8 * MEGABYTE


def send_many(sender: Client, receiver: Client, count: int) -> None:
    """Send messages of 10 kB, a hundred at a time."""
    for _ in range(count // 100):
        before = len(receiver.got)
        for _ in range(100):
            sender.send("x" * 10_000)
        wait_until(lambda: len(receiver.got) == before + 100, "the messages")  # noqa: B023
        receiver.got.clear()


@pytest.mark.parametrize("redis_is", ["there", "away"])
def test_an_idle_server_uses_no_cpu(
    start_cluster: Cluster, redis_process: RedisProcess, redis_is: str
) -> None:
    """In five seconds without messages a server takes less than a tenth of a second of CPU."""
    (server,) = start_cluster(*CHAT, servers=1)
    with Client(server) as client:
        hears_items(redis_process.connect(), client, "item")
        if redis_is == "away":
            redis_process.kill()
            wait_until(lambda: is_away(server), "the line")
        before, began = cpu_seconds(server), time.monotonic()
        wait_until(lambda: time.monotonic() - began > 5, "five seconds")
        assert cpu_seconds(server) - before < 0.1


def cpu_seconds(server: ServerProcess) -> float:
    fields = Path(f"/proc/{server.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
