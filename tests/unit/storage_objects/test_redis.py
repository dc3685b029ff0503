"""What the storage does before any Redis answers; with one it is tested in tests/integration."""

from __future__ import annotations

import asyncio
import logging
from argparse import ArgumentParser, Namespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from filtered_websocket.storage_objects.base import StorageError
from filtered_websocket.storage_objects.cluster import decode_broadcast
from filtered_websocket.storage_objects.redis import LASTING, StorageObject, _pause_after


def options(*arguments: str) -> Namespace:
    return StorageObject.parser(ArgumentParser()).parse_args(arguments)


def storage(*arguments: str) -> StorageObject:
    return StorageObject(options(*arguments))


def queued(storage_object: StorageObject) -> list[Any]:
    return list(storage_object._queue)


async def test_own_writes_are_visible_at_once() -> None:
    """No reply of Redis is needed for what this server has written itself."""
    store = storage()
    store.add("key", "value")
    assert store.get("key") == store["key"] == {"value"}
    store.remove("key", "value")
    assert store.get("key") is None


async def test_only_connections_are_here() -> None:
    """Members on this server are the UUIDs that it has added; other values are nobody."""
    store, connection = storage(), uuid4()
    store.add("room", connection)
    store.add("room", "a word")
    assert store.here("room") == {connection}
    assert store.here("nothing") == set()


@pytest.mark.parametrize("value", [[1], object(), {1}, float("nan")])
async def test_what_cannot_be_stored_changes_nothing(value: Any) -> None:
    """The error comes before the value is in the copy or on its way."""
    store = storage()
    with pytest.raises((TypeError, ValueError)):
        store.add("key", value)
    assert store.get("key") is None
    assert queued(store) == []


async def test_the_subscription_follows_the_first_and_the_last_member() -> None:
    """The channel of a group is wanted as long as a connection of this server is in it."""
    store, a, b = storage(), uuid4(), uuid4()
    groups = store.subscriber._groups
    store.add("room", a)
    store.add("room", b)
    store.remove("room", a)
    assert list(groups.values()) == ["room"]
    store.remove("room", b)
    assert groups == {}


async def test_what_is_written_and_published_keeps_its_order() -> None:
    """One queue holds all of it."""
    store = storage("--redis_key", "mine")
    store.publish("news", "1")
    store.add("key", 2)
    store.relay(b"3", True, None)
    store.relay(b"4", False, "room")
    channels = [command.channel for command in queued(store)]
    assert channels == [
        "news",
        "mine:cluster:changes",
        "mine:cluster:all",
        'mine:cluster:group:"room"',
    ]
    relayed = [decode_broadcast(command.data) for command in queued(store)[2:]]
    assert [(b.number, b.is_binary, b.payload) for b in relayed] == [
        (1, True, b"3"),
        (2, False, b"4"),
    ]


async def test_the_backlog_drops_the_oldest(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond --redis_backlog the oldest goes, is counted, and told once."""
    store = storage("--redis_backlog", "3")
    waiting = asyncio.ensure_future(store.apublish("news", "0"))  # noqa: TID251
    await asyncio.sleep(0)
    for number in range(1, 6):
        store.publish("news", str(number))
    assert [command.data for command in queued(store)] == [b"3", b"4", b"5"]
    assert store.dropped == 3
    assert caplog.text.count("the backlog for Redis is full") == 1
    with pytest.raises(StorageError, match="the backlog is full"):
        await waiting


async def test_a_dropped_write_is_given_up() -> None:
    """The copy is to be brought in line when Redis is back."""
    store = storage("--redis_backlog", "1")
    store.add("key", 1)
    store.publish("news", "x")
    assert store._snapshot_needed
    assert store.replica._pending == {}


@pytest.mark.parametrize("data", [5, None, ["x"]])
async def test_only_bytes_and_text_are_published(data: Any) -> None:
    """An int would be that many zeros."""
    with pytest.raises(TypeError, match="bytes or str can be published"):
        storage().publish("news", data)


@pytest.mark.parametrize(
    ("arguments", "place"),
    [
        ((), "localhost:6379"),
        (("--redis_host", "h", "--redis_port", "1"), "h:1"),
        (("--redis_url", "redis://me:open-sesame@h:1/2"), "redis://h:1/2"),
        (("--redis_url", "unix://:open-sesame@/run/redis.sock"), "unix:///run/redis.sock"),
        (("--redis_sentinel", "a:1", "b:2", "--redis_master", "m"), "m of a:1, b:2"),
    ],
)
async def test_the_place_of_redis_shows_no_password(arguments: tuple[str, ...], place: str) -> None:
    """Messages say where Redis is, and no more."""
    assert storage(*arguments).place == place


@pytest.mark.parametrize("place", ["host", "host:", ":1", "host:x"])
async def test_a_sentinel_is_a_host_and_a_port(place: str) -> None:
    """What else is written there is named."""
    with pytest.raises(StorageError, match=f"'{place}' is not HOST:PORT"):
        storage("--redis_sentinel", place)


@pytest.mark.parametrize("seconds", ["0", "0.5", "3601", "x"])
def test_a_lease_is_between_a_second_and_an_hour(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A shorter one could not be renewed in time."""
    with pytest.raises(SystemExit):
        options("--redis_lease_seconds", seconds)
    assert "--redis_lease_seconds" in capsys.readouterr().err


async def test_servers_are_told_apart() -> None:
    """Each storage object is a server of its own, also in one process."""
    a, b = storage(), storage()
    assert isinstance(a.server_id, UUID)
    assert a.server_id != b.server_id


async def test_a_refusal_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """The same refusal of many writes is one line, another one is another line."""
    store = storage()
    for number, reason in enumerate(["full", "full", "wrong type"]):
        store.add("key", number)
        store._answered(store._queue.popleft(), RuntimeError(reason))
    messages = [r.message for r in caplog.records if r.levelno == logging.ERROR]
    assert messages == ["Redis refused a write: full", "Redis refused a write: wrong type"]
    assert store._queue_bytes == 0


@pytest.mark.parametrize(
    ("failures", "pause"), [(0, 0.05), (1, 0.1), (6, 3.2), (7, 5), (1100, 5), (10**6, 5)]
)
def test_pauses_grow_to_a_bound(failures: int, pause: float) -> None:
    """However long Redis is away, the server goes on trying."""
    assert _pause_after(failures) == pytest.approx(pause)


async def test_whether_redis_is_needed_to_be_ready() -> None:
    """While it is away the server is ready, unless --redis_required says otherwise."""
    assert storage().why_not_ready() == ""
    required = storage("--redis_required")
    assert required.why_not_ready() == "Redis is away"
    required.subscriber.is_listening = True
    assert required.why_not_ready() == ""
    required._failures = LASTING
    assert required.why_not_ready() == "writing to Redis fails"


async def test_failures_of_an_outage_do_not_add_up() -> None:
    """Those before Redis was heard again are of the outage, which the subscriber has told."""
    store = storage("--redis_required")
    store.subscriber.is_listening = True
    store._failures = LASTING
    store.subscribed()
    assert store.why_not_ready() == ""
