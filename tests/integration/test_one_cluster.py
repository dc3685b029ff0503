"""Several servers that share Redis and a key prefix behave as one."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import UUID

import pytest
from websockets.sync.client import ClientConnection, connect

from ..process import ServerProcess, wait_until
from .redis_server import RedisProcess
from .wire import save_filters

pytestmark = [pytest.mark.redis, pytest.mark.slow]

StartCluster = Callable[..., list[ServerProcess]]

BY_TOKEN = "filtered_websocket.filters.broadcast_messages_by_token"
COUNT = 1000

# Answers the client that asks; all other messages go on.
ASK = """
class Ask(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        storage = web_socket_instance.storage_object
        if msg.startswith(b"len:"):
            members = storage[msg[4:].decode()]
            web_socket_instance.sendMessage(f"len:{len(members or ())}")
            raise DropMessage
        if msg == b"malformed?":
            web_socket_instance.sendMessage(f"malformed:{storage.subscriber.malformed}")
            raise DropMessage
"""


@contextmanager
def clients(*servers: ServerProcess) -> Iterator[list[ClientConnection]]:
    """Connect one client to each of these servers."""
    with ExitStack() as stack:
        yield [
            stack.enter_context(connect(server.url, max_size=None, compression=None))
            for server in servers
        ]


def receive(client: ClientConnection, count: int = 1) -> list[str | bytes]:
    return [client.recv(timeout=10) for _ in range(count)]


def answer(client: ClientConnection, question: str) -> str:
    """Return the answer of a filter that answers the asker alone."""
    client.send(question)
    return str(client.recv(timeout=10))


def join(client: ClientConnection, group: str) -> None:
    assert answer(client, f"token:{group}") == (
        f"Successfully registered with broadcast group: {group}"
    )


def nobody_has_more(*everybody: ClientConnection) -> None:
    """Check that no client has got anything but what the test has read.

    Each sends a last message to the others; what is heard before these is too much.
    """
    for client in everybody:
        client.send(f"last of {client.id}")
    for client in everybody:
        others = {f"last of {other.id}" for other in everybody if other is not client}
        assert Counter(receive(client, len(others))) == Counter(others)


def group_channel(group: str, key: str = "fws") -> str:
    return f"{key}:cluster:group:{json.dumps(group)}"


def wait_for_subscribers(redis_process: RedisProcess, group: str, count: int) -> None:
    """Wait until this many servers hear what is for a group."""
    with redis_process.connect() as client:
        channel = group_channel(group)
        wait_until(
            lambda: client.pubsub_numsub(channel) == [(channel.encode(), count)],
            f"{count} subscribers of {group}",
        )


# Broadcasts to all


def test_a_message_reaches_each_client_of_all_servers_once(start_cluster: StartCluster) -> None:
    """On three servers all but the sender get it exactly once, whoever sends."""
    a, b, c = start_cluster("broadcast_messages", servers=3)
    with clients(a, a, b, b, c, c) as everybody:
        for number, sender in enumerate(everybody):
            sender.send(f"message {number}")
            for client in everybody:
                if client is not sender:
                    assert receive(client) == [f"message {number}"]
        nobody_has_more(*everybody)


def test_text_stays_text_and_binary_stays_binary(start_cluster: StartCluster) -> None:
    """Clients of other servers get the type that those of the same server get."""
    a, b = start_cluster("broadcast_messages")
    messages = ["text", b"binary", "Zażółć 🐢", b"\x00\xff", "", b"", "fws1", b"fws1"]
    with clients(a, a, b) as (sender, near, far):
        for message in messages:
            sender.send(message)
        assert receive(near, len(messages)) == messages
        assert receive(far, len(messages)) == messages
        nobody_has_more(sender, near, far)


def test_the_order_of_each_sender_is_kept(start_cluster: StartCluster) -> None:
    """Three senders on three servers at once: each one's 1,000 messages come in order, all."""
    servers = start_cluster("broadcast_messages", servers=3, max_queue_bytes=16 * 1024 * 1024)
    with clients(*servers) as everybody:

        def send(sender: ClientConnection, name: int) -> None:
            for number in range(COUNT):
                sender.send(f"{name} {number}")

        heard: list[list[str]] = [[] for _ in everybody]

        def hear(client: ClientConnection, into: list[str]) -> None:
            into.extend(map(str, receive(client, 2 * COUNT)))

        threads = [
            *(
                threading.Thread(target=hear, args=pair)
                for pair in zip(everybody, heard, strict=True)
            ),
            *(threading.Thread(target=send, args=(c, n)) for n, c in enumerate(everybody)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for own, messages in enumerate(heard):
            for name in {0, 1, 2} - {own}:
                expected = [f"{name} {number}" for number in range(COUNT)]
                assert [m for m in messages if m.startswith(f"{name} ")] == expected
        nobody_has_more(*everybody)


def test_deployments_with_different_keys_do_not_hear_each_other(
    start_cluster: StartCluster, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """On one Redis, neither messages nor groups pass from one --redis_key to another."""
    save_filters(tmp_path, "ask", ASK)
    a1, a2 = start_cluster("ask", BY_TOKEN, redis_key="fws")
    b1, b2 = start_cluster("ask", BY_TOKEN, redis_key="fws:cluster")
    with clients(a1, a2, b1, b2) as (x1, x2, y1, y2):
        for client in (x1, x2, y1, y2):
            join(client, "red")
        for client in (x1, x2, y1, y2):
            wait_until(lambda c=client: answer(c, "len:red") == "len:2", "two members")
        wait_for_subscribers(redis_process, "red", 2)
        with redis_process.connect() as plain:
            other = group_channel("red", "fws:cluster")
            wait_until(lambda: plain.pubsub_numsub(other)[0][1] == 2, "the other two")
        x1.send("in the first")
        y1.send("in the second")
        assert receive(x2) == ["in the first"]
        assert receive(y2) == ["in the second"]
        nobody_has_more(x1, x2)
        nobody_has_more(y1, y2)
    c1, c2 = start_cluster("broadcast_messages", redis_key="one")
    d1, d2 = start_cluster("broadcast_messages", redis_key="two")
    with clients(c1, c2, d1, d2) as (x1, x2, y1, y2):
        nobody_has_more(x1, x2)
        nobody_has_more(y1, y2)


# Groups


def test_groups_reach_over_all_servers(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """Members of a group hear each other wherever they are connected, and nobody else does."""
    a, b, c = start_cluster(BY_TOKEN, servers=3)
    with clients(a, b, c, a, b, c, c) as everybody:
        red, blue, loner = everybody[:3], everybody[3:6], everybody[6]
        for group, members in (("red", red), ("blue", blue)):
            for member in members:
                join(member, group)
            wait_for_subscribers(redis_process, group, 3)
        for members in (red, blue):
            for sender in members:
                sender.send(f"from {sender.id}")
                for other in members:
                    if other is not sender:
                        assert receive(other) == [f"from {sender.id}"]
            sender.send(b"\xff")
            assert receive(members[0]) == receive(members[1]) == [b"\xff"]
        nobody_has_more(*red)
        nobody_has_more(*blue)
        assert answer(loner, "anybody?") == "Error: No token has been set"


def test_moving_to_another_group(start_cluster: StartCluster, redis_process: RedisProcess) -> None:
    """A client that registers again hears its new group on all servers, and the old one no more."""
    a, b = start_cluster(BY_TOKEN)
    with clients(a, b, b, b) as (mover, red, blue, second_blue):
        join(mover, "red")
        join(red, "red")
        join(blue, "blue")
        join(second_blue, "blue")
        wait_for_subscribers(redis_process, "red", 2)
        red.send("one")
        assert receive(mover) == ["one"]
        join(mover, "blue")
        wait_for_subscribers(redis_process, "red", 1)
        wait_for_subscribers(redis_process, "blue", 2)
        red.send("to nobody")
        mover.send("hello blue")
        assert receive(blue) == receive(second_blue) == ["hello blue"]
        blue.send("welcome")
        assert receive(mover) == receive(second_blue) == ["welcome"]
        nobody_has_more(mover, blue, second_blue)


def test_the_storage_has_the_members_of_all_servers(
    start_cluster: StartCluster, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """A filter on any server, one that starts later too, counts all members; Redis has the same."""
    save_filters(tmp_path, "ask", ASK)
    a, b = start_cluster("ask", BY_TOKEN)
    with clients(a, b, b) as members:
        for count, client in enumerate(members, start=1):
            join(client, "red")
            assert answer(client, "len:red") != "len:0", "own writes are visible at once"
            for other in members[:count]:
                wait_until(
                    lambda o=other, n=count: answer(o, "len:red") == f"len:{n}", "all members"
                )
        (late,) = start_cluster("ask", BY_TOKEN, servers=1)
        with clients(late) as (newcomer,):
            assert answer(newcomer, "len:red") == "len:3"
            members.pop().close()
            wait_until(lambda: answer(newcomer, "len:red") == "len:2", "one less")
        with redis_process.connect() as plain:
            assert plain.scard('fws:set:"red"') == 2
            assert plain.type('fws:set:"red"') == b"set"
        join(members[0], "blue")
        for client in members:
            wait_until(lambda c=client: answer(c, "len:blue") == "len:1", "the one that moved")
            wait_until(lambda c=client: answer(c, "len:red") == "len:1", "the one that stayed")
    with redis_process.connect() as plain:
        wait_until(lambda: not plain.keys("fws:set:*"), "empty groups")
        wait_until(lambda: not plain.keys("fws:members:*"), "empty lists")


def test_a_server_subscribes_only_to_groups_that_it_has_members_of(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """With the first member it subscribes, with the last one it leaves, on each server alone."""
    a, b, _ = start_cluster(BY_TOKEN, servers=3)
    with redis_process.connect() as plain, clients(a, a, b) as (one, two, three):
        assert plain.pubsub_channels("fws:cluster:group:*") == []
        join(one, "red")
        wait_for_subscribers(redis_process, "red", 1)
        join(two, "red")
        join(three, "red")
        wait_for_subscribers(redis_process, "red", 2)
        one.close()
        join(three, "blue")
        wait_for_subscribers(redis_process, "blue", 1)
        wait_for_subscribers(redis_process, "red", 1)
        two.close()
        wait_for_subscribers(redis_process, "red", 0)
        join(three, "red")
        wait_for_subscribers(redis_process, "red", 1)
        assert plain.pubsub_channels("fws:cluster:group:*") == [group_channel("red").encode()]


def test_a_member_that_joins_while_redis_is_slow_is_heard(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """A group that gets its first member while the server connects to Redis is subscribed to."""
    redis_process.stop()
    try:
        a, b = start_cluster(BY_TOKEN)
        with clients(a, b) as (one, other):
            join(one, "red")
            join(other, "red")
            redis_process.cont()
            wait_for_subscribers(redis_process, "red", 2)
            one.send("hello")
            assert receive(other) == ["hello"]
    finally:
        redis_process.cont()


def test_what_is_for_a_group_that_has_just_left_reaches_nobody(
    start_cluster: StartCluster, redis_process: RedisProcess
) -> None:
    """A message on its way when the last member leaves is for no other client of that server."""
    a, b = start_cluster(BY_TOKEN)
    with clients(a, a, b, b) as (sender, near, mover, bystander):
        join(sender, "red")
        join(near, "red")
        join(bystander, "other")
        for _ in range(20):
            join(mover, "red")
            wait_for_subscribers(redis_process, "red", 2)
            # Redis gives both to the server at once: the messages, and the end of the subscription.
            for number in range(50):
                sender.send(f"for red only {number}")
            mover.send("token:other")
            receive(near, 50)
            while "other" not in str(receive(mover)[0]):
                pass
            wait_for_subscribers(redis_process, "red", 1)
            mover.send("now")
            assert receive(bystander) == ["now"]


def test_a_group_of_ten_thousand(start_cluster: StartCluster, tmp_path: Path) -> None:
    """All servers count 10,000 members of both, a late one too, and those that left are gone."""
    fill = """
from uuid import uuid4

class Fill(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg == b"fill":
            for _ in range(5000):
                web_socket_instance.storage_object.add("big", uuid4())
            raise DropMessage
"""
    save_filters(tmp_path, "ask", ASK + fill)
    a, b = start_cluster("ask", BY_TOKEN)
    with clients(a, b) as (x, y):
        for client in (x, y):
            client.send("fill")
            assert int(answer(client, "len:big").removeprefix("len:")) >= 5000
        for client in (x, y):
            wait_until(lambda c=client: answer(c, "len:big") == "len:10000", "10,000 members")
        join(x, "big")
        join(y, "big")
        (late,) = start_cluster("ask", BY_TOKEN, servers=1)
        with clients(late) as (newcomer,):
            wait_until(lambda: answer(newcomer, "len:big") == "len:10002", "the copy")
            join(newcomer, "big")
            wait_until(lambda: answer(x, "len:big") == "len:10003", "the newcomer")
            nobody_has_more(x, y, newcomer)
            assert a.stop() == 0
            wait_until(lambda: answer(newcomer, "len:big") == "len:5002", "those of the other")


@pytest.mark.parametrize("backlog", [10_000, 5], ids=["enough", "too small"])
def test_many_members_join_at_once_and_leave_with_their_server(
    start_cluster: StartCluster, redis_process: RedisProcess, tmp_path: Path, backlog: int
) -> None:
    """Redis has all of them, and none when the server has stopped, whatever --redis_backlog is."""
    save_filters(tmp_path, "ask", ASK)
    (a,) = start_cluster("ask", BY_TOKEN, servers=1, redis_backlog=backlog)
    (b,) = start_cluster("ask", BY_TOKEN, servers=1)
    with clients(b) as (other,), clients(*[a] * 50) as members:
        for client in members:
            client.send("token:red")
        wait_until(lambda: answer(other, "len:red") == "len:50", "50 members")
        assert a.stop() == 0
        wait_until(lambda: answer(other, "len:red") == "len:0", "the end of the server")
    with redis_process.connect() as plain:
        assert plain.keys("fws:set:*") == plain.keys("fws:members:*") == []


# Consumers


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("group", ["", ', group="red"'], ids=["all", "group"])
def test_a_consumer_that_broadcasts_reaches_each_client_once(
    start_cluster: StartCluster, redis_process: RedisProcess, tmp_path: Path, kind: str, group: str
) -> None:
    """Each of three servers consumes the item, and each client hears of it once."""
    source = f"""
class Consume(WebSocketConsumerFilter):
    @classmethod
    {kind} filter(cls, web_socket_instance, item):
        web_socket_instance.users.broadcast(item["data"]{group})
"""
    save_filters(tmp_path, "consume", source)
    servers = start_cluster("consume", BY_TOKEN, servers=3)
    with clients(*servers) as everybody, redis_process.connect() as job:
        for client in everybody:
            join(client, "red")
        wait_for_subscribers(redis_process, "red", 3)
        for number in range(10):
            assert job.publish("global", str(number)) == 3
        for client in everybody:
            assert receive(client, 10) == [str(number) for number in range(10)]
        everybody[0].send("a message goes to all servers again")
        for client in everybody[1:]:
            assert receive(client) == ["a message goes to all servers again"]
        nobody_has_more(*everybody)


# What other programs publish


VALID_HEAD = b"fws1" + bytes(16) + bytes(8)


@pytest.mark.parametrize(
    ("channel", "garbage"),
    [
        ("fws:cluster:all", [b"", b"hello", b"fws1", b"fws2" + bytes(40), VALID_HEAD]),
        (group_channel("red"), [b"", b"{}", b"\xff" * 100, VALID_HEAD]),
        (
            "fws:cluster:changes",
            [
                *(b"", b"{", b"[]", b"null", b"\xff", b"[1,2,3,4,5]", b'"abcde"', b"[" * 100_000),
                b'["%s", 1, 5, "1", true]' % (b"0" * 32),
                b'["%s", 1, "1", "{}", true]' % (b"0" * 32),
                b'["%s", [], "1", "1", true]' % (b"0" * 32),
                b'["%s", 1e999, "1", "1", true]' % (b"0" * 32),
                b'["zz", 1, "1", "1", true]',
            ],
        ),
    ],
    ids=["all", "group", "changes"],
)
def test_malformed_envelopes_are_dropped(
    start_cluster: StartCluster,
    redis_process: RedisProcess,
    tmp_path: Path,
    channel: str,
    garbage: list[bytes],
) -> None:
    """They are counted, one line tells of the first, and all goes on without a gap."""
    save_filters(tmp_path, "ask", ASK)
    a, b = start_cluster("ask", BY_TOKEN, "stdout_pubsub")
    with clients(a, b) as (x, y), redis_process.connect() as job:
        join(x, "red")
        join(y, "red")
        wait_for_subscribers(redis_process, "red", 2)
        for data in garbage * 2:
            assert job.publish(channel, data) == 2
        count = 2 * len(garbage)
        for client in (x, y):
            wait_until(
                lambda c=client: answer(c, "malformed?") == f"malformed:{count}", "the count"
            )
            wait_until(lambda c=client: answer(c, "len:red") == "len:2", "the members")
        nobody_has_more(x, y)
    for server in (a, b):
        (line,) = [line for line in server.stderr.splitlines() if "ERROR" in line]
        assert channel in line
        assert "Traceback" not in server.stderr and "is away" not in server.stderr
        assert "--PUBSUB--" not in server.stdout, "neither an item nor a gap"


# What filters call


def test_publishing_from_a_filter_keeps_the_order(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """`publish` returns at once; what one message publishes is heard by all, in order."""
    source = f"""
class Publish(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        for number in range({COUNT}):
            data = b"\\xff" if number == 0 else f"{{msg.decode()}} {{number}}"
            result = web_socket_instance.storage_object.publish("global", data)
            assert result is None
"""
    save_filters(tmp_path, "publish", source)
    a, b = start_cluster("publish", "broadcast_pubsub")
    with clients(a, b) as (x, y):
        x.send("round")
        expected = [b"\xff", *(f"round {number}" for number in range(1, COUNT))]
        assert receive(x, COUNT) == expected
        assert receive(y, COUNT) == expected


def test_apublish_tells_how_many_receivers_there_were(
    start_cluster: StartCluster, tmp_path: Path, redis_process: RedisProcess
) -> None:
    """Each server that subscribes counts, and so does any other program."""
    source = """
class Publish(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        channel, data = msg.decode().split()
        number = await web_socket_instance.storage_object.apublish(channel, data)
        web_socket_instance.sendMessage(f"{number} receivers")
"""
    save_filters(tmp_path, "publish", source)
    a, _, _ = start_cluster("publish", servers=3)
    with clients(a) as (client,), redis_process.connect() as plain:
        assert answer(client, "global hello") == "3 receivers"
        assert answer(client, "nobody hello") == "0 receivers"
        with plain.pubsub(ignore_subscribe_messages=True) as pubsub:
            pubsub.subscribe("global")
            wait_until(lambda: plain.pubsub_numsub("global") == [(b"global", 4)], "the fourth")
            assert answer(client, "global hello") == "4 receivers"
            items = []
            wait_until(lambda: items.append(pubsub.get_message()) or items[-1], "the item")
            assert items[-1]["data"] == b"hello"


def test_fetch_reads_through(
    start_cluster: StartCluster, tmp_path: Path, redis_process: RedisProcess
) -> None:
    """What Redis has now, also what the copy cannot know; None for nothing."""
    source = """
class Fetch(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        storage = web_socket_instance.storage_object
        copy, now = storage.get(msg.decode()), await storage.fetch(msg.decode())
        web_socket_instance.sendMessage(f"{copy} {now}")
"""
    save_filters(tmp_path, "fetch", source)
    (server,) = start_cluster("fetch", servers=1)
    with clients(server) as (client,), redis_process.connect() as plain:
        assert answer(client, "red") == "None None"
        plain.sadd('fws:set:"red"', b'"silent"')
        assert answer(client, "red") == "None {'silent'}"
        plain.srem('fws:set:"red"', b'"silent"')
        assert answer(client, "red") == "None None"


STORE = r"""
from uuid import UUID

VALUES = ["", "Zażółć '\"\x00 \ud800", "1", b"", b"\x00\xff", 1, -(2**70), 0.5, 1e300, None,
          (), ("a", (1,)), UUID(int=5), (UUID(int=6), b"x")]
KEYS = ["key", b"key", 5, 2.5, None, ("a", b"b"), UUID(int=7), "with * and ?[x] \\ \n"]

class Store(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        storage = web_socket_instance.storage_object
        if msg == b"add":
            for key in KEYS:
                for value in VALUES:
                    storage.add(key, value)
            storage.add("equal", 1)
            storage.add("equal", 1.0)
            storage.add("equal", True)
        elif msg == b"remove":
            for key in KEYS[1:]:
                for value in VALUES:
                    storage.remove(key, value)
            storage.remove("equal", 1.0)
            storage.remove("equal", "never there")
            storage.remove("never there", 1)
        full = [key for key in KEYS if storage[key] == set(VALUES)]
        empty = [key for key in KEYS if storage[key] is None]
        web_socket_instance.sendMessage(f"{len(full)} {len(empty)} {storage['equal']}")
"""


def test_values_of_all_plain_types_survive(start_cluster: StartCluster, tmp_path: Path) -> None:
    """As keys and values they are the same on all servers; equal ones are one member."""
    save_filters(tmp_path, "store", STORE)
    a, b = start_cluster("store")
    with clients(a, b) as (x, y):
        assert answer(x, "add") == "8 0 {1}"
        wait_until(lambda: answer(y, "look") == "8 0 {1}", "all of them")
        (late,) = start_cluster("store", servers=1)
        with clients(late) as (z,):
            assert answer(z, "look") == "8 0 {1}"
            assert answer(y, "remove") == "1 7 None"
            for client in (x, z):
                wait_until(lambda c=client: answer(c, "look") == "1 7 None", "what is left")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("add('key', [1])", "TypeError: list cannot be stored in Redis"),
        ("add('key', bytearray(b'a'))", "TypeError: bytearray cannot be stored in Redis"),
        ("add('key', object())", "TypeError: object cannot be stored in Redis"),
        ("add('key', frozenset())", "TypeError: frozenset cannot be stored in Redis"),
        ("add(frozenset(), 1)", "TypeError: frozenset cannot be stored in Redis"),
        ("add('key', float('nan'))", "ValueError: "),
        ("remove('key', {})", "TypeError: dict cannot be stored in Redis"),
        ("publish('channel', 5)", "TypeError: "),
        ("publish('channel', None)", "TypeError: "),
    ],
    ids=lambda text: text[:24],
)
def test_what_cannot_be_stored_is_the_fault_of_one_filter(
    start_cluster: StartCluster, tmp_path: Path, call: str, error: str
) -> None:
    """One log line names the filter and the type; copy, Redis and all other messages go on."""
    source = f"""
class Wrong(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg == b"wrong":
            web_socket_instance.storage_object.{call}
"""
    save_filters(tmp_path, "wrong", ASK + source)
    a, b = start_cluster("wrong", "broadcast_messages")
    with clients(a, b) as (x, y):
        x.send("wrong")
        assert answer(x, "len:key") == "len:0"
        x.send("right")
        assert receive(y) == ["right"]
        nobody_has_more(x, y)
    errors = [line for line in a.stderr.splitlines() if " ERROR " in line]
    assert len(errors) == 1
    assert "filter wrong.Wrong failed" in errors[0] and error in errors[0]


def test_memberships_are_the_ids_of_connections(
    start_cluster: StartCluster, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """On all servers a group holds UUIDs, as with the storage in memory."""
    source = """
class Ids(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg == b"ids":
            ids = web_socket_instance.storage_object["red"] or ()
            web_socket_instance.sendMessage(" ".join(sorted(map(repr, ids))))
            raise DropMessage
        if msg == b"me":
            web_socket_instance.sendMessage(repr(web_socket_instance.id))
            raise DropMessage
"""
    save_filters(tmp_path, "ids", source)
    a, b = start_cluster("ids", BY_TOKEN)
    with clients(a, b) as (x, y):
        join(x, "red")
        join(y, "red")
        expected = " ".join(sorted(answer(client, "me") for client in (x, y)))
        for client in (x, y):
            wait_until(lambda c=client: answer(c, "ids") == expected, "both ids")
    assert UUID(expected.split("'")[1]).version == 4


# Size and load


def test_messages_of_16_megabytes(start_cluster: StartCluster, tmp_path: Path) -> None:
    """With --max_message_size raised they cross servers whole, text and binary, and as items."""
    size = 16 * 1024 * 1024
    limits = {"max_message_size": 2 * size, "max_queue_bytes": 8 * size}
    a, b = start_cluster("broadcast_messages", "broadcast_pubsub", **limits)
    with clients(a, b) as (x, y):
        for message in (bytes(range(256)) * (size // 256), "ż" * (size // 2)):
            x.send(message)
            assert receive(y) == [message]
            y.send(message)
            assert receive(x) == [message]
        nobody_has_more(x, y)
    for server in (a, b):
        assert "WARNING" not in server.stderr and "ERROR" not in server.stderr


def test_an_item_of_16_megabytes(start_cluster: StartCluster, redis_process: RedisProcess) -> None:
    """What a job publishes may be larger than what clients may send."""
    size = 16 * 1024 * 1024
    (server,) = start_cluster("broadcast_pubsub", servers=1, max_queue_bytes=4 * size)
    with clients(server) as (client,), redis_process.connect() as job:
        for data in (b"\xff" * size, b"a" * size):
            job.publish("global", data)
            received = receive(client)[0]
            assert (received.encode() if isinstance(received, str) else received) == data


BUSY = """
class Busy(WebSocketMessageFilter):
    @classmethod
    async def filter(cls, web_socket_instance, msg):
        while msg == b"work":
            web_socket_instance.storage_object.publish("work", "x")
            await asyncio.sleep(0)
"""


def test_a_busy_server_keeps_its_lease(
    start_cluster: StartCluster, redis_process: RedisProcess, tmp_path: Path
) -> None:
    """A server that never has nothing to publish is alive: its members stay on all servers."""
    save_filters(tmp_path, "busy", BUSY + ASK)
    a, b = start_cluster("busy", BY_TOKEN, redis_lease_seconds=2)
    with clients(a, a, b) as (member, worker, other), redis_process.connect() as plain:
        join(member, "red")
        wait_until(lambda: answer(other, "len:red") == "len:1", "the member")
        worker.send("work")
        end = threading.Event()
        for _ in range(50):
            end.wait(0.1)
            assert len(plain.keys("fws:lease:*")) == 2, "a lease has run out"
            assert answer(other, "len:red") == "len:1"
    assert "is gone" not in b.stderr


def test_a_busy_server_stops(start_cluster: StartCluster, tmp_path: Path) -> None:
    """A server that is writing to Redis when it is told to stop does so, and takes its members."""
    save_filters(tmp_path, "busy", BUSY + ASK)
    a, b = start_cluster("busy", BY_TOKEN, drain_seconds=0)
    with clients(a, a, b) as (member, worker, other):
        join(member, "red")
        wait_until(lambda: answer(other, "len:red") == "len:1", "the member")
        worker.send("work")
        assert answer(member, "len:red") == "len:1"
        assert a.stop() == 0
        wait_until(lambda: answer(other, "len:red") == "len:0", "the end of the server")
