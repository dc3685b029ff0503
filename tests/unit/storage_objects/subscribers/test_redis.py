"""Where what is heard goes; the subscription itself is tested with a real Redis."""

from __future__ import annotations

from argparse import Namespace
from typing import Any
from uuid import uuid4

import pytest

from filtered_websocket.storage_objects.cluster import (
    Broadcast,
    Channels,
    encode_broadcast,
    encode_change,
)
from filtered_websocket.storage_objects.replica import Change, Replica
from filtered_websocket.storage_objects.subscribers.redis import RedisSubscriber

OTHER = uuid4()
CHANNELS = Channels("fws")
ALL = CHANNELS.all.encode()
RED = CHANNELS.of_group("red").encode()


class FakeUsers:
    def __init__(self) -> None:
        self.delivered: list[tuple[bytes, bool, Any]] = []

    def deliver(self, msg: Any, group: Any = None) -> None:
        self.delivered.append((bytes(msg), msg.is_binary, group))


class FakeServer:
    def __init__(self) -> None:
        self.users = FakeUsers()


class FakeStorage:
    place = "localhost:6379"
    is_stopping = False

    def __init__(self) -> None:
        self.channels = CHANNELS
        self.replica = Replica(uuid4())

    def subscribed(self) -> None:
        raise AssertionError("nothing subscribes here")


@pytest.fixture
def subscriber() -> RedisSubscriber:
    options = Namespace(redis_channels=["global"], redis_patterns=[])
    return RedisSubscriber(None, options, FakeStorage())


def hear(subscriber: RedisSubscriber, *items: tuple[bytes, bytes]) -> list[Any]:
    """Let a subscriber hear data on channels; return what is delivered."""
    server = FakeServer()
    for channel, data in items:
        assert subscriber._from_cluster(channel, data, server)
    return server.users.delivered


def broadcast(number: int, payload: bytes = b"hello", server: Any = OTHER) -> bytes:
    return encode_broadcast(Broadcast(server, number, False, payload))


async def test_broadcasts_of_other_servers_are_delivered(subscriber: RedisSubscriber) -> None:
    """To all clients, with their type and in their order."""
    binary = encode_broadcast(Broadcast(OTHER, 2, True, b"\xff"))
    assert hear(subscriber, (ALL, broadcast(1)), (ALL, binary)) == [
        (b"hello", False, None),
        (b"\xff", True, None),
    ]


async def test_own_broadcasts_are_not_delivered_again(subscriber: RedisSubscriber) -> None:
    """The clients of this server have them since they were sent."""
    own = broadcast(1, server=subscriber.storage.replica.server)
    assert hear(subscriber, (ALL, own)) == []


async def test_what_was_sent_again_is_delivered_once(subscriber: RedisSubscriber) -> None:
    """Numbers are counted for each sender and channel."""
    subscriber.want(RED.decode(), wanted=True)
    items = [(ALL, broadcast(1)), (ALL, broadcast(2)), (ALL, broadcast(1)), (ALL, broadcast(2))]
    items += [(RED, broadcast(1)), (ALL, broadcast(1, server=uuid4()))]
    assert len(hear(subscriber, *items)) == 4


async def test_a_group_is_delivered_to_its_members(subscriber: RedisSubscriber) -> None:
    """And to nobody once the last member here has left, above all not to everybody."""
    subscriber.want(RED.decode(), wanted=True)
    assert hear(subscriber, (RED, broadcast(1))) == [(b"hello", False, "red")]
    subscriber.want(RED.decode(), wanted=False)
    assert hear(subscriber, (RED, broadcast(2))) == []


async def test_changes_reach_the_copy(subscriber: RedisSubscriber) -> None:
    """What another server has added is there."""
    change = Change(OTHER, 1, "key", "value", present=True)
    hear(subscriber, (CHANNELS.changes.encode(), encode_change(change)))
    assert subscriber.storage.replica.sets == {"key": {"value"}}


async def test_malformed_envelopes_are_dropped(
    subscriber: RedisSubscriber, caplog: pytest.LogCaptureFixture
) -> None:
    """They are counted, and told once."""
    changes = CHANNELS.changes.encode()
    assert hear(subscriber, (ALL, b""), (ALL, b"rubbish"), (changes, b"{}"), (RED, b"x")) == []
    assert subscriber.malformed == 4
    (record,) = caplog.records
    assert "--redis_channels" in record.getMessage()


async def test_what_is_malformed_is_not_logged(
    subscriber: RedisSubscriber, caplog: pytest.LogCaptureFixture
) -> None:
    """It may be a message, which somebody has published on the wrong channel."""
    hear(subscriber, (ALL, b"a secret"))
    assert "secret" not in caplog.text and "fws:cluster:all" in caplog.text


async def test_other_channels_are_not_of_the_cluster(subscriber: RedisSubscriber) -> None:
    """They are for the consumer chain, also when their names begin alike."""
    server = FakeServer()
    for channel in (b"global", b"fws:news", b"fws:clusters"):
        assert not subscriber._from_cluster(channel, b"x", server)
