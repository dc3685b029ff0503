"""The copy of all shared sets that one server answers from."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from filtered_websocket.storage_objects.replica import Change, Replica

Sets = dict[Hashable, set[Hashable]]

KEYS = ["red", "blue"]
VALUES: list[Hashable] = [1, UUID(int=1)]


def put(sets: Sets, key: Hashable, value: Hashable, present: bool) -> None:
    """Do to plain sets what Redis does with SADD and SREM."""
    values = sets.setdefault(key, set())
    (values.add if present else values.discard)(value)
    if not values:
        del sets[key]


def write(replica: Replica, key: Hashable, value: Hashable, present: bool) -> Change:
    """Make a write as the storage does, which sends it after that."""
    change = replica.next_change(key, value, present)
    assert (change.server, *change[2:]) == (replica.server, key, value, present)
    replica.write(change)
    return change


@dataclass
class Server:
    """A replica, and what lies between it and Redis."""

    replica: Replica
    unsent: deque[Change] = field(default_factory=deque)  # the first may be applied already
    sent: list[Change] = field(default_factory=list)  # those whose answer is under way
    hears_from: int | None = 0  # the place in the log of what it hears next; None while deaf
    needs_snapshot: bool = False
    is_reading: bool = False  # between begin_snapshot and finish_snapshot, for the writer
    read: Sets | None = None
    unsettled: dict[tuple[Hashable, Hashable], dict[int, bool]] = field(default_factory=dict)
    wrong: set[tuple[Hashable, Hashable]] = field(default_factory=set)  # until the next snapshot


class OneLogManyCopies(RuleBasedStateMachine):
    """Compare two or three replicas with Redis: a log of changes, and the sets they make.

    A server sends its writes in order, and takes each off its queue when it was answered; a lost
    answer means that it is sent again. What it hears is the log, late, or from a later place on
    after a gap. It never sends while it reads a snapshot.
    """

    def __init__(self) -> None:
        super().__init__()
        self.log: list[Change] = []
        self.sets: Sets = {}
        self.servers: list[Server] = []

    @initialize(count=st.integers(2, 3))
    def start(self, count: int) -> None:
        self.servers = [Server(Replica(uuid4())) for _ in range(count)]

    def one(self, number: int) -> Server:
        return self.servers[number % len(self.servers)]

    @rule(
        number=st.integers(0, 2),
        key=st.sampled_from(KEYS),
        value=st.sampled_from(VALUES),
        present=st.booleans(),
    )
    def write(self, number: int, key: str, value: Hashable, present: bool) -> None:
        server = self.one(number)
        change = write(server.replica, key, value, present)
        server.unsent.append(change)
        server.unsettled.setdefault((key, value), {})[change.number] = present
        server.wrong.discard((key, value))

    @rule(number=st.integers(0, 2), count=st.integers(1, 4))
    def send(self, number: int, count: int) -> None:
        server = self.one(number)
        if server.is_reading or server.sent:
            return
        server.sent = list(server.unsent)[:count]
        for change in server.sent:
            self.log.append(change)
            put(self.sets, change.key, change.value, change.present)

    @rule(number=st.integers(0, 2))
    def be_answered(self, number: int) -> None:
        server = self.one(number)
        for change in server.sent:
            if change in server.unsent:  # else it was given up
                server.unsent.remove(change)
                server.replica.confirmed(change)
        server.sent = []

    @rule(number=st.integers(0, 2))
    def lose_the_answer(self, number: int) -> None:
        self.one(number).sent = []

    @rule(number=st.integers(0, 2))
    def give_up_the_oldest(self, number: int) -> None:
        server = self.one(number)
        if server.unsent:
            change = server.unsent.popleft()
            server.replica.failed(change)
            server.needs_snapshot = True
            server.wrong.add((change.key, change.value))
            self.settle(server, change)

    @rule(number=st.integers(0, 2), count=st.integers(1, 5))
    def hear(self, number: int, count: int) -> None:
        server = self.one(number)
        if server.hears_from is None:
            return
        for change in self.log[server.hears_from : server.hears_from + count]:
            server.replica.heard(change)
            server.hears_from += 1
            if change.server == server.replica.server:
                self.settle_up_to(server, change)

    @rule(number=st.integers(0, 2))
    def become_deaf(self, number: int) -> None:
        self.one(number).hears_from = None

    @rule(number=st.integers(0, 2))
    def hear_again(self, number: int) -> None:
        server = self.one(number)
        if server.hears_from is None:
            server.hears_from = len(self.log)
            server.needs_snapshot = True

    @rule(number=st.integers(0, 2))
    def begin_snapshot(self, number: int) -> None:
        server = self.one(number)
        is_busy = server.is_reading or server.sent
        if server.needs_snapshot and server.hears_from is not None and not is_busy:
            server.needs_snapshot, server.is_reading = False, True
            server.replica.begin_snapshot()
            self.settle_what_was_answered(server)

    @rule(number=st.integers(0, 2))
    def read_snapshot(self, number: int) -> None:
        server = self.one(number)
        if server.is_reading and server.read is None:
            server.read = {key: set(values) for key, values in self.sets.items()}

    @rule(number=st.integers(0, 2))
    def finish_snapshot(self, number: int) -> None:
        server = self.one(number)
        if server.read is not None:
            server.replica.finish_snapshot(server.read)
            server.is_reading, server.read = False, None
            server.wrong.clear()

    @rule(number=st.integers(0, 2))
    def fail_to_read(self, number: int) -> None:
        server = self.one(number)
        if server.is_reading:
            server.is_reading, server.read, server.needs_snapshot = False, None, True

    def settle(self, server: Server, change: Change) -> None:
        writes = server.unsettled.get((change.key, change.value), {})
        writes.pop(change.number, None)

    def settle_up_to(self, server: Server, change: Change) -> None:
        writes = server.unsettled.get((change.key, change.value), {})
        for number in [number for number in writes if number <= change.number]:
            del writes[number]

    def settle_what_was_answered(self, server: Server) -> None:
        unsent = {change.number for change in server.unsent}
        for writes in server.unsettled.values():
            for number in set(writes) - unsent:
                del writes[number]

    @invariant()
    def own_writes_are_visible_until_redis_has_told_all_of_them(self) -> None:
        for server in self.servers:
            for (key, value), writes in server.unsettled.items():
                if writes and (key, value) not in server.wrong:
                    is_there = value in server.replica.sets.get(key, ())
                    assert is_there is list(writes.values())[-1]

    @invariant()
    def no_set_is_empty(self) -> None:
        for server in self.servers:
            assert all(server.replica.sets.values()) and all(server.replica.own.values())

    @precondition(lambda self: self.servers)
    @rule()
    def come_to_rest(self) -> None:
        for number, server in enumerate(self.servers):
            self.hear_again(number)
            self.read_snapshot(number)
            self.finish_snapshot(number)
            self.lose_the_answer(number)
            self.send(number, len(server.unsent))
            self.be_answered(number)
        for number, server in enumerate(self.servers):
            self.hear(number, len(self.log))
            self.begin_snapshot(number)
            self.read_snapshot(number)
            self.finish_snapshot(number)
            replica = server.replica
            assert replica.sets == self.sets
            assert (replica._pending, replica._confirmed, replica._since) == ({}, set(), None)
        self.take_in_what_the_others_do()

    def take_in_what_the_others_do(self) -> None:
        """A pair for which a write was kept by mistake would not move any more."""
        for server in self.servers:
            for present in (True, False):
                for key in KEYS:
                    for value in VALUES:
                        server.replica.heard(Change(UUID(int=0), 0, key, value, present))
                        assert (value in server.replica.sets.get(key, ())) is present
            for key, values in self.sets.items():
                for value in values:
                    server.replica.heard(Change(UUID(int=0), 0, key, value, True))

    def teardown(self) -> None:
        if self.servers:
            self.come_to_rest()


def test_all_copies_become_what_redis_has() -> None:
    """Own writes stay visible while they are pending; when all is heard, all copies are equal."""
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        OneLogManyCopies, settings=settings(stateful_step_count=40, max_examples=500)
    )


# Examples


@pytest.fixture
def replica() -> Replica:
    return Replica(uuid4())


def by_another(key: str, value: Any, present: bool = True) -> Change:
    return Change(UUID(int=0), 1, key, value, present)


def test_a_write_is_visible_at_once(replica: Replica) -> None:
    """A filter sees what it has just added, and no longer what it has just removed."""
    write(replica, "red", 1, True)
    assert replica.sets == {"red": {1}}
    write(replica, "red", 1, False)
    assert replica.sets == {}


def test_writes_are_numbered(replica: Replica) -> None:
    """Each write has a number of its own, so that hearing of it settles this one only."""
    first, second = write(replica, "red", 1, True), write(replica, "red", 1, False)
    replica.heard(first)
    assert replica.sets == {}
    replica.heard(by_another("red", 1))
    assert replica.sets == {}, "the second write is pending"
    replica.heard(second)
    replica.heard(by_another("red", 1))
    assert replica.sets == {"red": {1}}
    assert first.number != second.number


def test_removing_what_is_not_there_is_no_error(replica: Replica) -> None:
    """Neither own writes nor changes of others need the value to be there."""
    replica.heard(write(replica, "red", 1, False))
    replica.heard(by_another("red", 1, False))
    replica.heard(by_another("blue", 1, False))
    assert replica.sets == replica.own == {}


def test_only_uuids_of_own_writes_are_memberships(replica: Replica) -> None:
    """What a server must take away when it goes: the connections that it added itself."""
    mine, theirs = uuid4(), uuid4()
    write(replica, "red", mine, True)
    write(replica, "red", "a word", True)
    write(replica, "blue", mine, True)
    replica.heard(by_another("red", theirs))
    assert set(replica.memberships()) == {("red", mine), ("blue", mine)}
    write(replica, "blue", mine, False)
    assert set(replica.memberships()) == {("red", mine)}


def test_a_membership_outlives_what_others_say(replica: Replica) -> None:
    """When another server has removed it by mistake, this one still knows that it is its own."""
    mine = uuid4()
    change = write(replica, "red", mine, True)
    replica.heard(change)
    replica.heard(by_another("red", mine, False))
    replica.begin_snapshot()
    replica.finish_snapshot({})
    assert replica.sets == {}
    assert list(replica.memberships()) == [("red", mine)]


def test_a_snapshot_replaces_what_was_missed(replica: Replica) -> None:
    """Additions and removals of others during a gap are there afterwards, without empty sets."""
    replica.heard(by_another("red", 1))
    replica.heard(by_another("blue", 2))
    replica.begin_snapshot()
    replica.finish_snapshot({"red": {3}, "empty": set()})
    assert replica.sets == {"red": {3}}


def test_a_snapshot_is_copied(replica: Replica) -> None:
    """What is heard later does not change the sets that were handed in."""
    snapshot: Sets = {"red": {1}}
    replica.begin_snapshot()
    replica.finish_snapshot(snapshot)
    replica.heard(by_another("red", 2))
    assert snapshot == {"red": {1}}


def test_what_is_heard_during_a_snapshot_is_kept(replica: Replica) -> None:
    """A snapshot that was taken before a change does not undo it."""
    replica.heard(by_another("red", 1))
    replica.begin_snapshot()
    replica.heard(by_another("red", 2))
    replica.heard(by_another("red", 1, False))
    replica.finish_snapshot({"red": {1}})
    assert replica.sets == {"red": {2}}


def test_a_snapshot_that_could_not_be_read_leaves_nothing(replica: Replica) -> None:
    """What was heard during the failed attempt is older than the snapshot that comes next."""
    replica.begin_snapshot()
    replica.heard(by_another("red", 1))
    replica.begin_snapshot()
    replica.finish_snapshot({})
    assert replica.sets == {}


def test_a_confirmed_write_does_not_wait_for_a_change_that_was_missed(replica: Replica) -> None:
    """When the connection broke after Redis had written, the snapshot decides, then the others."""
    change = write(replica, "red", 1, True)
    replica.confirmed(change)
    replica.begin_snapshot()
    replica.finish_snapshot({"red": {1}})
    replica.heard(by_another("red", 1, False))
    assert replica.sets == {}


@pytest.mark.parametrize("is_heard_first", [True, False])
def test_a_write_that_redis_has_told_leaves_nothing(replica: Replica, is_heard_first: bool) -> None:
    """Whether it is heard before or after its answer, nothing is kept of it but the value."""
    change = write(replica, "red", 1, True)
    steps = [replica.heard, replica.confirmed]
    for step in steps if is_heard_first else reversed(steps):
        step(change)
    assert (replica._pending, replica._confirmed) == ({}, set())
    assert replica.sets == {"red": {1}}


def test_an_unconfirmed_write_survives_a_snapshot(replica: Replica) -> None:
    """A write that Redis has not made yet stays visible when the copy is replaced."""
    write(replica, "red", 1, True)
    write(replica, "red", 2, True)
    gone = write(replica, "red", 2, False)
    replica.begin_snapshot()
    replica.finish_snapshot({"red": {2, 3}})
    assert replica.sets == {"red": {1, 3}}
    assert gone.present is False


def test_a_failed_write_gives_way_to_what_redis_has(replica: Replica) -> None:
    """After a write that Redis refused the next snapshot, and the others, are right."""
    change = write(replica, "red", 1, True)
    replica.failed(change)
    replica.begin_snapshot()
    replica.finish_snapshot({})
    assert replica.sets == {}
    replica.heard(by_another("red", 1))
    assert replica.sets == {"red": {1}}


def test_a_write_that_a_gap_has_swallowed_is_settled_by_the_next() -> None:
    """Hearing of an own write settles earlier ones of the pair, so others' changes count again."""
    replica = Replica(uuid4())
    first = write(replica, "key", 1, True)
    replica.confirmed(first)  # and the connection breaks before it is heard
    replica.heard(write(replica, "key", 1, False))
    assert "key" not in replica.sets
    replica.heard(Change(uuid4(), 1, "key", 1, True))
    assert replica.sets == {"key": {1}}
