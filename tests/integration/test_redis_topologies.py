"""Redis with sentinels, and as a cluster: what works, and what does when a part of it dies."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from ..process import ServerProcess, wait_until
from .redis_server import RedisProcess
from .redis_topologies import (
    OBSERVER,
    Client,
    Cluster,
    ClusterSet,
    SentinelSet,
    gaps,
    hears,
    hears_items,
    lines_with,
    members_in,
)
from .wire import save_filters

pytestmark = [pytest.mark.redis, pytest.mark.slow]

FILTERS = ("observer", "broadcast_messages_by_token", "broadcast_pubsub")
CHAT = ("observer", "broadcast_messages", "broadcast_pubsub")


@pytest.fixture(autouse=True)
def observer(tmp_path: Path) -> None:
    save_filters(tmp_path, "observer", OBSERVER)


# Sentinels


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_a_failover_moves_the_servers_to_the_new_master(
    start_cluster: Cluster, tmp_path: Path, how: str
) -> None:
    """When the master dies, or freezes, all works again on the one that was promoted: items after a
    gap item, messages, and members; also when the old master is back as a replica.
    """
    with SentinelSet(tmp_path / "sentinels") as redises:
        servers = start_cluster(*FILTERS, redis_sentinel=redises.places, redis_lease_seconds=3)
        with Client(servers[0], "room") as first, Client(servers[1], "room") as second:
            hears(first, second, "before")
            hears_items(redises.master.connect(), first, "item before")
            everybody = {first.id, second.id}
            wait_until(
                lambda: members_in(redises.replica.connect(), "room") == everybody, "the members"
            )
            redises.master.kill() if how == "killed" else redises.master.stop()
            wait_until(lambda: redises.master_port() == redises.replica.port, "the failover")
            store = redises.replica.connect()
            for client in (first, second):
                hears_items(store, client, "item after")
            hears(first, second, "after")
            hears(second, first, "after")
            for server in servers:
                wait_until(lambda: gaps(server), "the gap item")  # noqa: B023
            redises.master.start() if how == "killed" else redises.master.cont()
            wait_for_demotion(redises.master)
            with Client(servers[0], "room") as third:
                everybody.add(third.id)
                wait_until(lambda: members_in(store, "room") == everybody, "the members")
                for client in (first, second, third):
                    wait_until(lambda: client.members("room") == everybody, "the copy")  # noqa: B023
            hears(first, second, "at last")
            hears_items(store, second, "item at last")
        for server in servers:
            assert "Traceback" not in server.stderr
            assert lines_with(server, "is away") and lines_with(server, "is back")


def wait_for_demotion(process: RedisProcess) -> None:
    """Wait for a replica; sentinels look at a master who is back every ten seconds only."""
    began = time.monotonic()

    def is_replica() -> bool:
        info = process.connect().info("replication")
        return info["role"] == "slave" and info["master_link_status"] == "up"

    wait_until(lambda: is_replica() or time.monotonic() - began > 12, "twelve seconds")
    wait_until(is_replica, "the old master as a replica")


def test_dead_sentinels_are_passed_over(start_cluster: Cluster, tmp_path: Path) -> None:
    """One sentinel that answers is enough, wherever it is in the list."""
    with SentinelSet(tmp_path / "sentinels") as redises:
        for sentinel in redises.sentinels[:2]:
            sentinel.kill()
        servers = start_cluster(*CHAT, redis_sentinel=redises.places)
        with Client(servers[0]) as first, Client(servers[1]) as second:
            hears(first, second, "hello")
        assert not lines_with(servers[0], "is away")


def test_no_sentinel_at_all(start_cluster: Cluster, tmp_path: Path) -> None:
    """Without sentinels the server serves, and its line names the master and where it asked."""
    with SentinelSet(tmp_path / "sentinels") as redises:
        for sentinel in redises.sentinels:
            sentinel.kill()
        (server,) = start_cluster(*CHAT, servers=1, redis_sentinel=redises.places)
        with Client(server) as first, Client(server) as second:
            hears(first, second, "local")
            wait_until(lambda: lines_with(server, "is away"), "the line")
            (line,) = lines_with(server, "is away")
            assert "mymaster" in line and redises.places[0] in line and "<redis" not in line
            for sentinel in redises.sentinels:
                sentinel.start()
            hears_items(redises.master.connect(), first, "item")


# Redis Cluster


def test_chat_groups_and_items_over_a_redis_cluster(start_cluster: Cluster, tmp_path: Path) -> None:
    """With --redis_cluster two servers are one, whichever node has the slot of a key."""
    with ClusterSet(tmp_path / "nodes") as redises:
        servers = start_cluster(*FILTERS, redis_cluster=True, redis_port=redises.nodes[0].port)
        with ExitStack() as stack:
            for number in range(8):
                group = f"group{number}"
                pair = [stack.enter_context(Client(server, group)) for server in servers]
                hears(*pair, "over there")
                hears(*reversed(pair), "and back")
                everybody = {client.id for client in pair}
                store = connect(redises)
                wait_until(lambda: members_in(store, group) == everybody, "the members")  # noqa: B023
                for client in pair:
                    wait_until(lambda: client.members(group) == everybody, "the copy")  # noqa: B023
                hears_items(redises.nodes[number % 3].connect(), pair[0], f"item {number}")
                hears_items(redises.nodes[number % 3].connect(), pair[1], f"item {number}")
        wait_until(lambda: not members_in(connect(redises), "group0"), "nobody")
        for server in servers:
            assert server.stop() == 0
            assert not trouble(server)


@pytest.mark.parametrize("lost", range(3))
def test_a_cluster_that_lost_a_node(start_cluster: Cluster, tmp_path: Path, lost: int) -> None:
    """Without one node and its slots the servers stay, say what is wrong, and work for what they
    can; when it is back, even empty, everything works.
    """
    with ClusterSet(tmp_path / "nodes") as redises:
        entrance = redises.nodes[(lost + 1) % 3]
        servers = start_cluster(
            *FILTERS, redis_cluster=True, redis_port=entrance.port, redis_lease_seconds=3
        )
        with ExitStack() as stack:
            groups = {
                group: [stack.enter_context(Client(server, group)) for server in servers]
                for group in (f"group{number}" for number in range(12))
            }
            for pair in groups.values():
                hears(*pair, "before")
            redises.nodes[lost].kill()
            wait_until(lambda: sees_loss(entrance), "the loss of the node")
            for server in servers:
                for group in [*groups, "local"]:
                    with Client(server, group) as one, Client(server, group) as two:
                        hears(one, two, "here")
                wait_until(lambda: trouble(server), "a line")  # noqa: B023
                assert server.process.poll() is None
            redises.nodes[lost].start()
            wait_until(redises.is_whole, "the cluster")
            for group, pair in groups.items():
                everybody = {client.id for client in pair}
                wait_until(lambda: members_in(connect(redises), group) == everybody, group)  # noqa: B023
                for client in pair:
                    wait_until(lambda: client.members(group) == everybody, "the copy")  # noqa: B023
                hears(*pair, "after")
            for client in groups["group0"]:
                hears_items(entrance.connect(), client, "item")
        for server in servers:
            assert "Traceback" not in server.stderr
            assert len(trouble(server)) < 40, trouble(server)[:10]


def test_no_node_at_all(start_cluster: Cluster, tmp_path: Path) -> None:
    """Without any node the server serves, says so in a line, and joins when they are there."""
    with ClusterSet(tmp_path / "nodes") as redises:
        for node in redises.nodes:
            node.kill()
        port = redises.nodes[0].port
        (server,) = start_cluster(*FILTERS, servers=1, redis_cluster=True, redis_port=port)
        with Client(server, "room") as first, Client(server, "room") as second:
            hears(first, second, "local")
            wait_until(lambda: trouble(server), "a line")
            (away,) = trouble(server)
            assert "is away" in away and str(port) in away
            for node in redises.nodes:
                node.start()
            wait_until(redises.is_whole, "the cluster")
            hears_items(redises.nodes[0].connect(), first, "item")
            wait_until(
                lambda: members_in(connect(redises), "room") == {first.id, second.id}, "the members"
            )
            assert lines_with(server, "is back") and "Traceback" not in server.stderr


def test_a_node_that_comes_back_empty(start_cluster: Cluster, tmp_path: Path) -> None:
    """What a node has lost in a restart is written again, also when nobody used it meanwhile."""
    with ClusterSet(tmp_path / "nodes") as redises:
        options = {"redis_cluster": True, "redis_lease_seconds": 3}
        servers = start_cluster(*FILTERS, redis_port=redises.nodes[0].port, **options)
        with ExitStack() as stack:
            members = {
                group: {stack.enter_context(Client(server, group)).id for server in servers}
                for group in (f"group{number}" for number in range(12))
            }
            for node in redises.nodes:
                for group, ids in members.items():
                    wait_until(lambda: members_in(connect(redises), group) == ids, group)  # noqa: B023
                node.restart()
                wait_until(redises.is_whole, "the cluster")
            for group, ids in members.items():
                wait_until(lambda: members_in(connect(redises), group) == ids, group)  # noqa: B023


def test_what_a_lost_node_does_not_hold_works(start_cluster: Cluster, tmp_path: Path) -> None:
    """Groups whose slots are on living nodes hear one another over servers while a node is lost."""
    with ClusterSet(tmp_path / "nodes") as redises:
        lost = redises.nodes[2]
        servers = start_cluster(*FILTERS, redis_cluster=True, redis_port=redises.nodes[0].port)
        with ExitStack() as stack:
            names = [f"group{number}" for number in range(30)]
            alive = [n for n in names if not any(lives_on(redises, lost, key) for key in keys(n))]
            pairs = [[stack.enter_context(Client(s, n)) for s in servers] for n in alive[:3]]
            for pair in pairs:
                hears(*pair, "before")
            lost.kill()
            wait_until(lambda: sees_loss(redises.nodes[0]), "the loss of the node")
            for pair in pairs:
                hears(*pair, "meanwhile")


def keys(group: str) -> tuple[str, str]:
    """Return the key of a group's members, and the channel of its messages."""
    return f'fws:set:"{group}"', f'fws:cluster:group:"{group}"'


def lives_on(redises: ClusterSet, node: RedisProcess, key: str) -> bool:
    return redises.node_of(key) is node


def sees_loss(node: RedisProcess) -> bool:
    return int(node.connect().cluster("info")["cluster_slots_ok"]) < 16384


def connect(redises: ClusterSet) -> redis.RedisCluster:
    return redis.RedisCluster(host="127.0.0.1", port=redises.nodes[0].port)


def trouble(server: ServerProcess) -> list[str]:
    return lines_with(server, "WARNING", "ERROR", "Traceback")
