"""Who is a member of what, in Redis and in the copy of each server, and no ghosts among them."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import redis

from ..process import ServerProcess, wait_until
from .redis_server import RedisProcess
from .redis_topologies import (
    OBSERVER,
    Client,
    Cluster,
    Proxy,
    hears,
    hears_items,
    lines_with,
    members_in,
    seconds_until,
)
from .wire import save_filters

pytestmark = [pytest.mark.redis, pytest.mark.slow]

FILTERS = ("observer", "broadcast_messages_by_token", "broadcast_pubsub")
LEASE = 3  # seconds
DRAIN = 1  # seconds


@pytest.fixture(autouse=True)
def observer(tmp_path: Path) -> None:
    save_filters(tmp_path, "observer", OBSERVER)


def wait_for_members(store: redis.Redis, clients: list[Client], group: str, ids: set[str]) -> None:
    """Wait until Redis and the copies of the servers of these clients have exactly these ids."""
    wait_until(lambda: members_in(store, group) == ids, f"the members of {group} in Redis")
    for client in clients:
        wait_until(lambda: client.members(group) == ids, f"the copy of {group}")  # noqa: B023


def stays(seconds: float, condition: Callable[[], object], what: str) -> None:
    """Check that something is true, again and again, for some time."""
    end = time.monotonic() + seconds

    def is_over() -> bool:
        assert condition(), f"{what} did not last"
        return time.monotonic() > end

    wait_until(is_over, "the end")


# A server goes


def test_a_clean_stop_takes_the_members_along(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """A server that is stopped leaves no member, lease or list of its own in Redis."""
    servers = start_cluster(*FILTERS, drain_seconds=DRAIN)
    store = redis_process.connect()
    with Client(servers[0], "room") as stays_here, Client(servers[1], "room") as goes:
        wait_for_members(store, [stays_here, goes], "room", {stays_here.id, goes.id})
        assert servers[1].stop() == 0
        assert members_in(store, "room") == {stays_here.id}
        assert len(list(store.scan_iter("fws:lease:*"))) == 1
        assert len(list(store.scan_iter("fws:members:*"))) == 1
        assert len(store.smembers("fws:servers")) == 1
        wait_for_members(store, [stays_here], "room", {stays_here.id})
    assert "Traceback" not in servers[0].stderr + servers[1].stderr


@pytest.mark.parametrize("lease", [LEASE, None], ids=["3 s", "as it is"])
def test_a_crash_leaves_no_ghosts(
    start_cluster: Cluster, redis_process: RedisProcess, lease: int | None
) -> None:
    """After kill -9 of one of three servers its members are gone within the lease (15 s if nothing
    is said), in Redis and for the others; theirs stay.
    """
    servers = start_cluster(
        *FILTERS, servers=3, **({} if lease is None else {"redis_lease_seconds": lease})
    )
    store = redis_process.connect()
    with ExitStack() as stack:
        clients = [stack.enter_context(Client(server, "room")) for server in servers]
        dying = [stack.enter_context(Client(servers[2], "only-there")) for _ in range(20)]
        everybody = {client.id for client in clients}
        wait_for_members(store, clients, "room", everybody)
        wait_for_members(store, clients, "only-there", {client.id for client in dying})
        servers[2].kill()
        left = {client.id for client in clients[:2]}

        def nobody_haunts() -> bool:
            assert left <= members_in(store, "room"), "a living member was taken"
            return all(
                client.members("room") == left and not client.members("only-there")
                for client in clients[:2]
            )

        took = seconds_until(nobody_haunts, "the members of the others alone")
        assert took <= (lease or 15) + 1
        assert members_in(store, "room") == left and not members_in(store, "only-there")
        wait_until(lambda: len(list(store.scan_iter("fws:members:*"))) == 2, "the lists")
        hears(clients[0], clients[1], "we are two")


def test_a_frozen_server_finds_its_members_restored(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """A server that was frozen for longer than its lease has lost its members; when it goes on they
    come back everywhere, and stay.
    """
    servers = start_cluster(*FILTERS, redis_lease_seconds=LEASE)
    store = redis_process.connect()
    with (
        Client(servers[0], "room") as awake,
        Client(servers[1], "room") as asleep,
        Client(servers[1], "bed") as alone,
    ):
        everybody = {awake.id, asleep.id}
        wait_for_members(store, [awake, asleep], "room", everybody)
        servers[1].process.send_signal(signal.SIGSTOP)
        try:
            wait_for_members(store, [awake], "room", {awake.id})
            wait_for_members(store, [awake], "bed", set())
        finally:
            servers[1].process.send_signal(signal.SIGCONT)
        wait_for_members(store, [awake, asleep], "room", everybody)
        wait_for_members(store, [awake, asleep], "bed", {alone.id})
        stays(
            2 * LEASE,
            lambda: (
                members_in(store, "room") == everybody
                and awake.members("room") == asleep.members("room") == everybody
                and awake.members("bed") == {alone.id}
            ),
            "the membership",
        )
        hears(awake, asleep, "good morning")
    assert "Traceback" not in servers[0].stderr + servers[1].stderr


def test_a_frozen_server_forgets_who_left_while_it_slept(
    start_cluster: Cluster, redis_process: RedisProcess
) -> None:
    """A client that leaves a frozen server is no member when that goes on."""
    servers = start_cluster(*FILTERS, redis_lease_seconds=LEASE)
    store = redis_process.connect()
    with Client(servers[0], "room") as awake, Client(servers[1], "room") as asleep:
        leaves = Client(servers[1], "room")
        wait_for_members(store, [awake, asleep], "room", {awake.id, asleep.id, leaves.id})
        servers[1].process.send_signal(signal.SIGSTOP)
        try:
            leaves.vanish()
            wait_for_members(store, [awake], "room", {awake.id})
        finally:
            servers[1].process.send_signal(signal.SIGCONT)
        left = {awake.id, asleep.id}
        wait_for_members(store, [awake, asleep], "room", left)
        stays(2 * LEASE, lambda: awake.members("room") == left, "the membership")


@pytest.mark.parametrize("redis_is", ["there", "killed", "frozen"])
def test_a_stop_needs_no_redis(
    start_cluster: Cluster, redis_process: RedisProcess, redis_is: str
) -> None:
    """SIGTERM ends a server with 0 within the drain and 3 s, whatever Redis does; the other server
    goes on.
    """
    servers = start_cluster(*FILTERS, drain_seconds=DRAIN)
    with Client(servers[0], "room") as first, Client(servers[1], "room") as other:
        hears(first, other, "hello")
        {"there": lambda: None, "killed": redis_process.kill, "frozen": redis_process.stop}[
            redis_is
        ]()
        if redis_is == "killed":
            wait_until(lambda: lines_with(servers[0], "is away"), "the line")
        began = time.monotonic()
        assert servers[0].stop() == 0
        assert time.monotonic() - began < DRAIN + 3
        with Client(servers[1], "room") as second:
            hears(second, other, "still here")
    for server in servers:
        assert "Traceback" not in server.stderr


def test_a_stop_in_the_middle_of_writes_ends(start_cluster: Cluster) -> None:
    """SIGTERM ends a server with 0, also when it comes while something is written to Redis."""
    for _ in range(8):
        (server,) = start_cluster(*FILTERS, servers=1, drain_seconds=DRAIN)
        with Client(server, "room") as first, Client(server, "room") as second:
            hears(first, second, "hello")
            assert server.stop() == 0


# Connections go while Redis is away


@pytest.mark.parametrize("backlog", [10000, 3], ids=["kept", "dropped"])
def test_who_leaves_while_redis_is_away_is_no_member(
    start_cluster: Cluster, redis_process: RedisProcess, backlog: int
) -> None:
    """Connections that close while Redis cannot be reached are not members afterwards, even when
    the backlog did not hold their leaving; those that came meanwhile are.
    """
    store = redis_process.connect()
    with Proxy(redis_process.port) as proxy:
        servers = start_cluster(*FILTERS, redis_port=proxy.port, redis_backlog=backlog)
        with Client(servers[0], "room") as first, Client(servers[1], "room") as other:
            leaving = [Client(servers[0], "room") for _ in range(10)]
            everybody = {client.id for client in [first, other, *leaving]}
            wait_for_members(store, [first, other], "room", everybody)
            proxy.cut()
            wait_until(lambda: lines_with(servers[0], "is away"), "the line")
            for client in leaving:
                client.close()
            with ExitStack() as stack:
                come = [stack.enter_context(Client(servers[0], "room")) for _ in range(10)]
                now = {client.id for client in [first, other, *come]}
                wait_until(lambda: now - {other.id} <= first.members("room"), "the own members")
                assert members_in(store, "room") == everybody
                proxy.mend()
                wait_for_members(store, [first, other], "room", now)
                hears(other, come[-1], "welcome")
            wait_for_members(store, [first, other], "room", {first.id, other.id})


def test_flushall_loses_no_member(start_cluster: Cluster, redis_process: RedisProcess) -> None:
    """When somebody empties Redis, the members are there again within a lease, on all servers."""
    servers = start_cluster(*FILTERS, redis_lease_seconds=LEASE)
    store = redis_process.connect()
    with Client(servers[0], "room") as first, Client(servers[1], "room") as second:
        everybody = {first.id, second.id}
        wait_for_members(store, [first, second], "room", everybody)
        for _ in range(3):
            store.flushall()
            took = seconds_until(lambda: members_in(store, "room") == everybody, "the members")
            assert took <= LEASE + 1
            wait_for_members(store, [first, second], "room", everybody)
            hears(first, second, "still here")
        stays(2 * LEASE, lambda: first.members("room") == everybody, "the membership")


# All of it together


@pytest.mark.parametrize("seed", range(4))
def test_two_servers_agree_with_a_model(
    start_cluster: Cluster, redis_process: RedisProcess, seed: int
) -> None:
    """Whatever clients do and whatever happens to Redis, in the end both servers and Redis have the
    members that are there.
    """
    with Proxy(redis_process.port) as proxy:
        servers = start_cluster(*FILTERS, redis_port=proxy.port, redis_lease_seconds=LEASE)
        with ExitStack() as stack:
            model = Model(servers, proxy, redis_process, random.Random(seed))
            stack.callback(model.close)
            for _ in range(4):
                for _ in range(60):
                    model.step()
                model.check()


class Model:
    """Does things at random, and knows who must be where."""

    groups = ("red", "green", "blue")

    def __init__(
        self, servers: list[ServerProcess], proxy: Proxy, redis: RedisProcess, chance: random.Random
    ) -> None:
        self.servers = servers
        self.proxy = proxy
        self.redis = redis
        self.chance = chance
        self.witnesses = [Client(server) for server in servers]
        self.where: dict[Client, str] = {}
        self.steps: dict[Callable[[], Any], int] = {
            self.enter: 10,
            self.move: 10,
            self.leave: 6,
            self.vanish: 2,
            self.restart: 1,
            self.cut: 1,
            self.flush: 1,
        }

    def step(self) -> None:
        (step,) = self.chance.choices(list(self.steps), list(self.steps.values()))
        step()

    def enter(self) -> None:
        group = self.chance.choice(self.groups)
        self.where[Client(self.chance.choice(self.servers), group)] = group

    def move(self) -> None:
        if self.where:
            client = self.chance.choice(list(self.where))
            self.where[client] = self.chance.choice(self.groups)
            client.join(self.where[client])

    def leave(self) -> None:
        if self.where:
            client = self.chance.choice(list(self.where))
            del self.where[client]
            client.close()

    def vanish(self) -> None:
        if self.where:
            client = self.chance.choice(list(self.where))
            del self.where[client]
            client.vanish()

    def restart(self) -> None:
        self.redis.restart()

    def cut(self) -> None:
        self.proxy.cut()
        for _ in range(5):
            self.chance.choice([self.enter, self.move, self.leave])()
        self.proxy.mend()

    def flush(self) -> None:
        self.redis.connect().flushall()

    def check(self) -> None:
        store = self.redis.connect()
        for group in self.groups:
            ids = {client.id for client, name in self.where.items() if name == group}
            wait_for_members(store, self.witnesses, group, ids)
        for witness in self.witnesses:
            hears_items(store, witness, f"checked {time.monotonic()}")
        for server in self.servers:
            assert server.process.poll() is None and "Traceback" not in server.stderr

    def close(self) -> None:
        for client in [*self.witnesses, *self.where]:
            client.close()
