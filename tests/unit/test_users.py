"""Who is connected, and how what is sent to them leaves."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any
from unittest.mock import ANY
from uuid import UUID, uuid4
from zlib import decompressobj

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from filtered_websocket import users as users_module
from filtered_websocket.frames import deflate_frame, encode_frame
from filtered_websocket.server_protocol.frame import Frame
from filtered_websocket.typing import Data, Message
from filtered_websocket.users import Users


class FakeConnection:
    """Record what is written."""

    def __init__(self, window_bits: int = 0) -> None:
        self.id: UUID = uuid4()
        self.window_bits = window_bits
        self.writes: list[bytes | memoryview] = []

    def write(self, data: bytes | memoryview) -> None:
        self.writes.append(data)

    @property
    def received(self) -> bytes:
        return b"".join(self.writes)


class Turn(list[Callable[[], None]]):
    """Stand in for the event loop: what `call_soon` was given runs when the test says so."""

    def end(self) -> None:
        calls, self[:] = list(self), []
        for call in calls:
            call()


def frames(*messages: str) -> bytes:
    return b"".join(encode_frame(message, False) for message in messages)


def send(users: Users, connection: FakeConnection, msg: Data) -> None:
    users.send_frame(connection, users.encode(msg, connection.window_bits))


def make(count: int) -> tuple[Turn, Users, list[FakeConnection]]:
    turn = Turn()
    users = Users(turn.append)
    connections = [FakeConnection() for _ in range(count)]
    for connection in connections:
        users.enter(connection)
    return turn, users, connections


# Some are shorter than what is compressed, some repeat what a narrow window has forgotten.
texts = st.text(max_size=30) | st.text(min_size=5, max_size=30).map(lambda text: text + PAD + text)
PAD = "".join(map(str, range(300)))
COMPRESS_FROM = 10


def decoded(data: bytes, window_bits: int) -> list[str]:
    """Return the texts in whole frames; those that are compressed were agreed to, and are shorter.

    They inflate within the window that was agreed on.
    """
    found = []
    while data:
        frame, payload = Frame(data), b""
        if data[0] & 0x40:
            assert window_bits
            inflate, rest = decompressobj(-window_bits), bytes(frame.msg) + b"\x00\x00\xff\xff"
            while rest:  # a few bytes at a time, else zlib looks back in what it returns
                payload += inflate.decompress(rest, 100)
                rest = inflate.unconsumed_tail
            assert COMPRESS_FROM <= len(payload) > frame.len
        else:
            payload = bytes(frame.msg)
        found.append(payload.decode())
        data = data[frame.length() :]
    return found


class EveryoneGetsTheirOwn(RuleBasedStateMachine):
    """Compare `Users` with a model: for each connection, the messages for it, in order.

    Some connections have agreed on compression, with windows of two sizes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turn = Turn()
        self.users = Users(self.turn.append, turn_bytes=300, compress_from=COMPRESS_FROM)
        self.open: list[FakeConnection] = []
        self.gone: list[FakeConnection] = []
        self.expected: dict[FakeConnection, list[str]] = {}

    @rule(window_bits=st.sampled_from([0, 9, 15]))
    @precondition(lambda self: len(self.open) < 6)
    def enter(self, window_bits: int) -> None:
        connection = FakeConnection(window_bits)
        self.users.enter(connection)
        self.open.append(connection)
        self.expected[connection] = []

    @rule(data=st.data())
    @precondition(lambda self: self.open)
    def leave(self, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.open))
        self.users.leave(connection)
        assert self._received(connection) == self.expected[connection]
        self.open.remove(connection)
        self.gone.append(connection)

    @rule(text=texts, data=st.data())
    def broadcast(self, text: str, data: st.DataObject) -> None:
        skip = data.draw(st.sampled_from([None, *self.open, *self.gone]))
        self.users.broadcast(text, skip=skip and skip.id)
        self._expect(text, [c for c in self.open if c is not skip])

    @rule(text=texts, data=st.data())
    @precondition(lambda self: self.open)
    def broadcast_to_group(self, text: str, data: st.DataObject) -> None:
        group = data.draw(st.sets(st.sampled_from([*self.open, *self.gone])))
        skip = data.draw(st.sampled_from([None, *self.open]))
        self.users.broadcast(text, skip=skip and skip.id, to={c.id for c in group})
        self._expect(text, [c for c in self.open if c in group and c is not skip])

    @rule(text=texts, data=st.data())
    @precondition(lambda self: self.open)
    def send(self, text: str, data: st.DataObject) -> None:
        connection = data.draw(st.sampled_from(self.open))
        send(self.users, connection, text)
        self._expect(text, [connection])

    @rule()
    def end_the_turn(self) -> None:
        before = Counter({c: len(c.writes) for c in self.open})
        self.turn.end()
        for connection in self.open:
            assert self._received(connection) == self.expected[connection]
            assert len(connection.writes) - before[connection] <= 1

    def teardown(self) -> None:
        self.end_the_turn()

    @invariant()
    def those_who_left_get_nothing_more(self) -> None:
        assert all(self._received(c) == self.expected[c] for c in self.gone)

    @invariant()
    def what_was_written_is_the_begin_of_what_was_sent(self) -> None:
        for connection in self.open:
            received = self._received(connection)
            assert received == self.expected[connection][: len(received)]

    def _expect(self, text: str, receivers: list[FakeConnection]) -> None:
        for connection in receivers:
            self.expected[connection].append(text)

    def _received(self, connection: FakeConnection) -> list[str]:
        return decoded(connection.received, connection.window_bits)


TestEveryoneGetsTheirOwn = EveryoneGetsTheirOwn.TestCase
TestEveryoneGetsTheirOwn.settings = settings(stateful_step_count=25)


def test_one_turn_is_one_write() -> None:
    """All that a connection gets within one turn leaves in one write, at its end."""
    turn, users, (a, b) = make(2)
    users.broadcast("one")
    send(users, b, "for b")
    users.broadcast("two", skip=a.id)
    assert a.writes == b.writes == []
    assert len(turn) == 1
    turn.end()
    assert a.writes == [frames("one")]
    assert b.writes == [frames("one", "for b", "two")]


def test_a_broadcast_is_encoded_once_for_all() -> None:
    """Connections that get the same get the same bytes object, not copies."""
    turn, users, connections = make(3)
    users.broadcast("one")
    users.broadcast("two")
    turn.end()
    assert len({id(connection.writes[0]) for connection in connections}) == 1


@pytest.mark.parametrize(
    "make_equal", [lambda: bytes(bytearray(b"equal")), lambda: Message(b"equal"), "equal".lower]
)
def test_a_loop_that_sends_the_same_to_many_shares_the_bytes(
    make_equal: Callable[[], Data],
) -> None:
    """Equal messages, one after the other, are one frame, whichever connections they are for."""
    turn, users, connections = make(3)
    for connection in connections:
        send(users, connection, make_equal())
    turn.end()
    written = [write for connection in connections for write in connection.writes]
    assert written == [frames("equal")] * 3
    assert len(set(map(id, written))) == 1


def test_equal_bytes_of_another_type_are_another_frame() -> None:
    """What was sent as text a moment ago goes as binary while a binary message is handled."""
    turn, handling = Turn(), [False]
    users = Users(turn.append, is_binary=lambda: handling[0])
    connection = FakeConnection()
    users.enter(connection)
    for msg in (b"a", "a"):
        for handling[0] in (False, True):
            send(users, connection, msg)
    turn.end()
    types = [encode_frame(b"a", binary) for binary in (False, True, False, False)]
    assert connection.received == b"".join(types)


class Caseless(str):
    """Text that is equal to what it is not."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    __hash__ = str.__hash__


def test_what_is_sent_is_what_was_given() -> None:
    """Neither equality of a filter's own nor a frame that could not be made changes a message."""
    turn, users, (a,) = make(1)
    for msg in ("one", Caseless("ONE"), Caseless("One"), "one"):
        send(users, a, msg)
    for wrong in ("\ud800", "\ud800", ANY, memoryview(b"one")):
        with pytest.raises((UnicodeError, TypeError)):
            send(users, a, wrong)
    turn.end()
    assert a.received == frames("one", "ONE", "One", "one")


def test_nothing_of_a_message_is_kept_after_its_turn() -> None:
    """Not the message, nor its frame."""
    turn, users, (a,) = make(1)
    msg = "long" * 1000
    references = sys.getrefcount(msg)
    send(users, a, msg)
    turn.end()
    assert sys.getrefcount(msg) == references
    (frame,) = a.writes
    a.writes.clear()
    assert sys.getrefcount(frame) == 2


def test_who_a_message_is_for_may_be_wrong() -> None:
    """Where the ids cannot be looped over, nobody gets it, and the rest of the turn leaves."""
    turn, users, (a, b) = make(2)

    def half() -> Iterator[UUID]:
        yield a.id
        raise ValueError

    users.broadcast("one", skip=a.id)
    with pytest.raises(ValueError):
        users.broadcast("two", to=half())
    turn.end()
    assert (a.received, b.received) == (b"", frames("one"))


def test_a_turn_of_a_loop_is_as_large_as_what_it_holds() -> None:
    """What many get counts once, and what one gets again and again counts each time."""
    turn = Turn()
    users = Users(turn.append, turn_bytes=1000)
    connections = [FakeConnection() for _ in range(50)]
    for connection in connections:
        users.enter(connection)
    for connection in connections:
        send(users, connection, b"x" * 100)
    assert not any(connection.writes for connection in connections)
    for _ in range(9):
        send(users, connections[0], b"x" * 100)
    assert len(connections[0].writes) == 1


def test_a_large_turn_is_flushed_before_its_end() -> None:
    """What one turn may collect is bounded: beyond it the writes begin at once."""
    turn = Turn()
    users = Users(turn.append, turn_bytes=10)
    connection = FakeConnection()
    users.enter(connection)
    users.broadcast("0123")
    assert connection.writes == []
    users.broadcast("4567")
    assert connection.writes == [frames("0123", "4567")]
    turn.end()
    assert len(connection.writes) == 1


@pytest.mark.parametrize("is_binary", [False, True])
def test_plain_bytes_have_the_type_that_is_being_handled(is_binary: bool) -> None:
    """Plain bytes ask for the type, a `Message` has its own and `str` is text."""
    turn = Turn()
    users = Users(turn.append, is_binary=lambda: is_binary)
    connection = FakeConnection()
    users.enter(connection)
    binary, text = Message(b"binary"), Message(b"text")
    binary.is_binary = True
    for msg in (b"plain", binary, text, "str"):
        users.broadcast(msg)
        send(users, connection, msg)
    turn.end()
    types = [is_binary, is_binary, True, True, False, False, False, False]
    payloads = [b"plain"] * 2 + [b"binary"] * 2 + [b"text"] * 2 + [b"str"] * 2
    assert connection.received == b"".join(map(encode_frame, payloads, types))


def test_a_message_is_taken_as_it_is_when_sent() -> None:
    """What a filter does to its message afterwards does not change what was sent."""
    turn, users, (a,) = make(1)
    msg = Message(b"Test")
    users.broadcast(msg)
    msg.pop()
    turn.end()
    assert a.received == frames("Test")


def test_what_cannot_be_sent_disturbs_nobody() -> None:
    """A wrong type raises TypeError, and the rest of the turn leaves as it should."""
    turn, users, (a,) = make(1)
    users.broadcast(Message(b"one"))
    for wrong in (None, 5):
        with pytest.raises(TypeError):
            users.broadcast(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            send(users, a, wrong)  # type: ignore[arg-type]
    turn.end()
    assert a.received == frames("one")


def test_a_broadcast_is_compressed_once_for_a_window(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each gets it as agreed: compressed for its window, or as it is; short ones as they are."""
    compressed: list[int] = []

    def count(frame: bytes, window_bits: int) -> bytes:
        compressed.append(window_bits)
        return deflate_frame(frame, window_bits)

    monkeypatch.setattr(users_module, "deflate_frame", count)
    turn = Turn()
    users = Users(turn.append, compress_from=100)
    connections = [FakeConnection(window) for window in (0, 9, 15, 15, 0, 9)]
    for connection in connections:
        users.enter(connection)
    long, short = "a" * 100, "b" * 99
    users.broadcast(long)
    users.broadcast(short)
    users.broadcast(long, skip=connections[2].id)
    send(users, connections[3], long)
    users.broadcast(long, to=[connections[4].id])
    turn.end()
    assert sorted(compressed) == [9, 9, 15, 15]  # the last two are what was broadcast before
    for number, connection in enumerate(connections):
        expected = [long, short, long][: 2 if number == 2 else 3]
        expected += [long] if number in (3, 4) else []
        assert connection.received == b"".join(
            deflate_frame(frame, connection.window_bits)
            if connection.window_bits and msg == long
            else frame
            for msg in expected
            for frame in [encode_frame(msg, False)]
        )


def test_nothing_is_compressed_for_a_window_that_nobody_has() -> None:
    """When the last connection with a window leaves, within a turn too, the others go on."""
    turn = Turn()
    users = Users(turn.append, compress_from=1)
    a, b = FakeConnection(15), FakeConnection(0)
    users.enter(a)
    users.enter(b)
    users.broadcast("x" * 100)
    users.leave(a)
    users.broadcast("y" * 100)
    turn.end()
    users.broadcast("z" * 100)
    turn.end()
    assert a.received == deflate_frame(encode_frame("x" * 100, False), 15)
    assert b.received == frames("x" * 100, "y" * 100, "z" * 100)
    assert list(users._shared) == [0]


class BrokenConnection(FakeConnection):
    """Fail as a transport does whose socket is gone already."""

    def write(self, data: bytes | memoryview) -> None:
        raise RuntimeError("the handler is closed")


def test_a_broken_connection_disturbs_nobody() -> None:
    """Whether it gets what all get or something of its own, the others get theirs; it may leave."""
    turn, users, (a,) = make(1)
    broken, b = BrokenConnection(), FakeConnection()
    users.enter(broken)
    users.enter(b)
    users.broadcast("one")
    turn.end()
    send(users, broken, "for it")
    users.broadcast("two")
    turn.end()
    users.broadcast("three")
    users.leave(broken)
    turn.end()
    assert a.received == b.received == frames("one", "two", "three")
    assert broken.id not in users
    assert (users.offered, users.waiting()) == (10, 0)
    assert (users.counters.delivered, users.counters.dropped_closed) == (6, 4)
    assert users.counters.delivered_bytes == len(a.received) * 2


@pytest.mark.parametrize("view", ["items", "keys", "values"])
def test_connections_may_leave_while_a_filter_loops(view: str) -> None:
    """The loop goes over those that were there when it began."""
    _, users, connections = make(3)
    for _, connection in zip(getattr(users, view)(), connections, strict=True):
        users.leave(connection)
    assert not users


def test_leaving_twice_is_harmless() -> None:
    """A connection that is gone already is not written to again."""
    _, users, (a, b) = make(2)
    users.broadcast("one")
    users.leave(a)
    users.leave(a)
    assert a.writes == [frames("one")]
    assert list(users) == [b.id]


# Groups, and the clients of other servers


class Cluster:
    """Stand in for a storage that several servers share: who is here, and what was relayed."""

    def __init__(self, **settings: Any) -> None:
        self.turn = Turn()
        self.groups: dict[Hashable, set[UUID]] = {}
        self.relayed: list[tuple[bytes, bool, Hashable]] = []
        self.users = Users(
            self.turn.append,
            members=self.groups.get,  # type: ignore[arg-type]
            relay=lambda *broadcast: self.relayed.append(broadcast),
            **settings,
        )

    def enter(self, *groups: Hashable) -> FakeConnection:
        connection = FakeConnection()
        self.users.enter(connection)
        for group in groups:
            self.groups.setdefault(group, set()).add(connection.id)
        return connection


def test_a_group_gets_what_is_for_it() -> None:
    """Members of a group get what is broadcast to it, except the one to skip; nobody else does."""
    cluster = Cluster()
    red_1, red_2, blue = cluster.enter("red"), cluster.enter("red"), cluster.enter("blue")
    cluster.users.broadcast("to red", skip=red_1.id, group="red")
    cluster.users.broadcast("to blue", group="blue")
    cluster.users.broadcast("to all")
    cluster.turn.end()
    assert red_1.received == frames("to all")
    assert red_2.received == frames("to red", "to all")
    assert blue.received == frames("to blue", "to all")


def test_what_a_group_gets_is_joined_once() -> None:
    """Members whose streams are alike share the bytes; a stream that differs is its own."""
    cluster = Cluster()
    members = [cluster.enter("red") for _ in range(4)]
    cluster.users.broadcast("one", group="red")
    cluster.users.broadcast("two", skip=members[0].id, group="red")
    cluster.turn.end()
    assert members[0].received == frames("one")
    assert {member.received for member in members[1:]} == {frames("one", "two")}
    assert len({id(member.writes[0]) for member in members[1:]}) <= 2  # the other may come between


def test_a_group_without_members_here_is_no_broadcast_to_all() -> None:
    """Nobody here gets it, but the other servers are asked: they may have members."""
    cluster = Cluster()
    connection = cluster.enter("blue")
    cluster.groups["left"] = set()
    for group in ("red", "left"):
        cluster.users.broadcast("one", group=group)
    cluster.turn.end()
    assert connection.received == b""
    assert cluster.relayed == [(b"one", False, "red"), (b"one", False, "left")]


def test_what_is_offered_is_counted_for_each_receiver() -> None:
    """A broadcast counts all who get it, the skipped sender and strangers not; a message one."""
    _, users, (a, b, c) = make(3)
    seen = []
    for act in (
        lambda: users.broadcast("all"),
        lambda: users.broadcast("others", skip=a.id),
        lambda: users.broadcast("others", skip=uuid4()),
        lambda: users.broadcast("some", to=[a.id, b.id, uuid4()], skip=b.id),
        lambda: users.broadcast("group", group="nobody"),
        lambda: users.deliver(Message(b"from elsewhere")),
        lambda: send(users, c, "one"),
    ):
        before = users.offered
        act()
        seen.append(users.offered - before)
    assert seen == [3, 2, 3, 1, 0, 3, 1]


def test_members_that_are_not_connected_are_passed_over() -> None:
    """A group may name connections that are just gone."""
    cluster = Cluster()
    gone, connection = cluster.enter("red"), cluster.enter("red")
    cluster.users.leave(gone)
    cluster.users.broadcast("one", group="red")
    cluster.turn.end()
    assert (gone.received, connection.received) == (b"", frames("one"))


def test_broadcasts_are_relayed_with_their_type_and_group() -> None:
    """Other servers get each once, in order, with the type that it was sent with here."""
    cluster = Cluster(is_binary=lambda: True)
    sender = cluster.enter()
    binary, text, wrong = Message(b"binary"), Message("żółw".encode()), Message(b"caf\xe9")
    binary.is_binary = True
    cluster.users.broadcast(binary, skip=sender.id)
    cluster.users.broadcast(text, group=("a", 1))
    cluster.users.broadcast(wrong)
    cluster.users.broadcast("żółw")
    cluster.users.broadcast(bytearray(b"plain"))
    assert cluster.relayed == [
        (b"binary", True, None),
        ("żółw".encode(), False, ("a", 1)),
        (b"caf\xe9", True, None),
        ("żółw".encode(), False, None),
        (b"plain", True, None),
    ]
    assert {type(payload) for payload, _, _ in cluster.relayed} == {bytes}


def test_a_relayed_message_is_taken_as_it_is_when_sent() -> None:
    """What a filter does to its message afterwards does not reach the other servers."""
    cluster = Cluster()
    msg = Message(b"Test")
    cluster.users.broadcast(msg)
    msg.pop()
    assert cluster.relayed == [(b"Test", False, None)]


def test_what_is_for_connections_of_this_server_is_not_relayed() -> None:
    """Neither what is sent to one connection, nor what names its receivers with `to`."""
    cluster = Cluster()
    connection = cluster.enter("red")
    cluster.users.broadcast("one", to={connection.id})
    cluster.users.broadcast("nobody", to=())
    send(cluster.users, connection, "two")
    cluster.turn.end()
    assert connection.received == frames("one", "two")
    assert cluster.relayed == []


def test_what_cannot_be_sent_is_not_relayed() -> None:
    """A wrong type raises TypeError before any server has heard of it."""
    cluster = Cluster()
    with pytest.raises(TypeError):
        cluster.users.broadcast(5)  # type: ignore[arg-type]
    assert cluster.relayed == []


def test_what_each_server_broadcasts_itself_stays_here() -> None:
    """While `here_only` holds, broadcasts to all and to groups reach the clients of this server."""
    is_consuming = True
    cluster = Cluster(here_only=lambda: is_consuming)
    connection = cluster.enter("red")
    cluster.users.broadcast("one")
    cluster.users.broadcast("two", group="red")
    is_consuming = False
    cluster.users.broadcast("three")
    cluster.turn.end()
    assert connection.received == frames("one", "two", "three")
    assert cluster.relayed == [(b"three", False, None)]


@pytest.mark.parametrize("is_binary", [False, True])
def test_a_broadcast_of_another_server_is_delivered_here_only(is_binary: bool) -> None:
    """All clients get it, or those of its group, with its type; and it is not relayed again."""
    cluster = Cluster(is_binary=lambda: not is_binary)
    red, blue = cluster.enter("red"), cluster.enter("blue")
    message = Message(b"one")
    message.is_binary = is_binary
    cluster.users.deliver(message)
    cluster.users.deliver(message, group="red")
    cluster.users.deliver(message, group="left by all")
    cluster.turn.end()
    assert red.received == encode_frame(b"one", is_binary) * 2
    assert blue.received == encode_frame(b"one", is_binary)
    assert cluster.relayed == []


def test_delivered_and_own_broadcasts_keep_their_order() -> None:
    """What comes from another server leaves in one write with the rest of the turn."""
    cluster = Cluster()
    red, blue = cluster.enter("red"), cluster.enter("blue")
    cluster.users.broadcast("one")
    cluster.users.deliver(Message(b"two"), group="red")
    cluster.users.deliver(Message(b"three"))
    cluster.users.broadcast("four", group="red")
    cluster.turn.end()
    assert red.writes == [frames("one", "two", "three", "four")]
    assert blue.writes == [frames("one", "three")]


def test_without_other_servers_nothing_is_relayed() -> None:
    """A server of its own broadcasts to a group as to all, and needs nobody for it."""
    turn = Turn()
    connection = FakeConnection()
    users = Users(turn.append, members=lambda group: {connection.id} if group == "red" else ())
    users.enter(connection)
    users.broadcast("one", group="red")
    users.broadcast("two", group="blue")
    turn.end()
    assert connection.received == frames("one")


# What must not harm others


def test_what_a_connection_keeps_is_its_own() -> None:
    """A slow connection may keep what it got: bytes of its own, not a view of the whole turn."""
    turn, users, (sender, leaver, other) = make(3)
    users.broadcast("first")
    users.broadcast("second", skip=sender.id)
    users.leave(leaver)
    users.broadcast("third", skip=sender.id)
    turn.end()
    for connection in (sender, leaver, other):
        assert [type(data) for data in connection.writes] == [bytes]
    assert sender.received == frames("first")
    assert leaver.received == frames("first", "second")
    assert other.received == frames("first", "second", "third")


@pytest.mark.parametrize(
    "change",
    [
        lambda users, id: users.__setitem__(id, None),
        lambda users, id: users.__delitem__(id),
        lambda users, id: users.__ior__({}),
        lambda users, id: users.pop(id),
        lambda users, id: users.pop(uuid4(), None),
        lambda users, id: users.popitem(),
        lambda users, id: users.clear(),
        lambda users, id: users.update({id: None}),
        lambda users, id: users.setdefault(uuid4(), None),
    ],
    ids=["set", "del", "|=", "pop", "pop absent", "popitem", "clear", "update", "setdefault"],
)
def test_users_cannot_be_changed(change: Callable[[Users, UUID], object]) -> None:
    """Connections come and go by themselves; a filter that tries to change them is told."""
    turn, users, (connection,) = make(1)
    with pytest.raises(TypeError, match="users is not for changing"):
        change(users, connection.id)
    assert dict(users) == {connection.id: connection}
    users.broadcast("still here")
    turn.end()
    assert connection.received == frames("still here")
