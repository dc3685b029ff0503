"""Keep sets in Redis, and make the servers that share it one.

`get` answers from this server's copy (`replica`); writes and what is published leave in order in
the background; broadcasts reach the clients of all servers. What is promised, and what can be lost
when, is in docs/redis.md.

What belongs here: what is written to Redis, and who is alive. What does not: what is heard from it
(`subscribers.redis`).
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import re
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Collection, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID, uuid4

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ClusterError, ResponseError

from .base import BasePubSubStorageObject, StorageError
from .cluster import Broadcast, Channels, encode_broadcast, encode_change
from .leases import Leases, Membership
from .replica import Change, Replica
from .subscribers.redis import AWAY, RedisSubscriber, reason_of
from .values import decode_value, encode_value

__all__ = ["StorageObject"]

logger = logging.getLogger(__name__)

BACKOFF = (0.05, 5.0)  # seconds: the first pause before connecting again, and the longest
REPLY_TIMEOUT = 5.0  # seconds, after which a silent Redis counts as away
FIRST_SYNC = 1.0  # seconds that a start waits for Redis
STOP_TIMEOUT = 2.0  # seconds that a stop waits for Redis
BATCH = 500  # commands in one round trip
BATCH_BYTES = 4 * 1024 * 1024
BACKLOG_BYTES = 64 * 1024 * 1024
MINUTE = 60.0  # seconds
LASTING = 5  # failures one after the other, about a second
CLUSTER_BEATS = 5  # between two looks at the sets of a Redis Cluster
RESTORE_BEATS = 3  # a reaper that was under way may undo the first restoration

# A change and its announcement are one step, so that all servers hear of changes in the order in
# which they were made.
WRITE = "redis.call(ARGV[1], KEYS[1], ARGV[2]) return redis.call('PUBLISH', ARGV[3], ARGV[4])"
PUBLISH = "return redis.call('PUBLISH', KEYS[1], ARGV[1])"


@dataclass(slots=True)
class Command:
    """One thing to do in Redis: a change, or something to publish."""

    channel: str
    data: bytes
    change: Change | None = None
    receivers: asyncio.Future[int] | None = None


class StorageObject(BasePubSubStorageObject):
    """Keep sets in Redis, shared by all servers with the same Redis and `--redis_key`.

    Nothing here blocks: `get` looks into a copy in memory, everything else is queued. Own writes
    are visible at once, those of other servers within a second while Redis is there. A value that
    is a UUID is a membership of a connection, and goes when its server goes.
    """

    def __init__(self, options: Namespace, *args: Any, **kwargs: Any) -> None:
        super().__init__(options, *args, **kwargs)
        self.server_id = uuid4()
        self.channels = Channels(options.redis_key)
        self.replica = Replica(self.server_id)
        self.client = _make_client(options)
        self.subscriber = RedisSubscriber(self.client, options, self)
        self.dropped = 0
        self._dropped_before: int | None = None
        self._refusals: dict[str, float] = {}
        self.is_stopping = False
        self._failures = 0
        self._has_told_failures = False
        self._beats = 0
        self._not_sets: set[bytes] = set()
        self.place = _place(options)
        self._prefix: str = options.redis_key + ":"
        self._leases = Leases(
            self.client, self._prefix, self.server_id, options.redis_lease_seconds
        )
        self._queue: deque[Command] = deque()
        self._queue_bytes = 0
        self._broadcasts = 0
        self._wake = asyncio.Event()
        self._synced = asyncio.Event()
        self._snapshot_needed = False
        self._restore_beats = 0

    # What filters call

    def get(self, key: Hashable) -> set[Hashable] | None:
        """Return this server's copy of the set under `key`, or None; look, do not change it."""
        return self.replica.sets.get(key)

    def here(self, key: Hashable) -> set[Hashable]:
        """Return the members of the set under `key` that are connections of this server."""
        return self.replica.own.get(key) or set()

    async def fetch(self, key: Hashable) -> set[Hashable] | None:
        """Return the set under `key` as Redis has it now, or None (SMEMBERS).

        Raises StorageError when Redis is away.
        """
        try:
            values = await self.client.smembers(self._key(key))
        except AWAY as error:
            raise StorageError(f"Redis is away: {error}") from error
        return {decode_value(value) for value in values} or None

    def add(self, key: Hashable, value: Hashable) -> None:
        """Add `value` to the set under `key` (SADD).

        Visible here at once, written in the background. Raises TypeError for what is not plain
        data, and ValueError for NaN and infinity.
        """
        self._write(key, value, present=True)

    def remove(self, key: Hashable, value: Hashable) -> None:
        """Take `value` out of the set under `key`; one that is not there is no error (SREM).

        Raises as `add` does.
        """
        self._write(key, value, present=False)

    def publish(self, channel: str, data: bytes | str) -> None:
        """Publish `data` on `channel`, after what was written and published before (PUBLISH).

        Returns at once. Raises TypeError for anything but bytes and text.
        """
        self._enqueue(Command(channel, _bytes(data)))

    async def apublish(self, channel: str, data: bytes | str) -> int:
        """Publish as `publish` does; return how many subscribers Redis gave it to.

        Waits for Redis while it is away; raises StorageError when the backlog dropped it.
        """
        receivers: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._enqueue(Command(channel, _bytes(data), receivers=receivers))
        return await receivers

    def get_client(self) -> Any:
        return self.client

    @classmethod
    def get_subscriber(cls) -> Any:
        return RedisSubscriber

    @classmethod
    def parser(cls, parser: ArgumentParser) -> ArgumentParser:
        add = parser.add_argument_group("Redis").add_argument
        add("--redis_host", default="localhost", metavar="HOST", help="its host (localhost)")
        add("--redis_port", type=int, default=6379, metavar="PORT", help="its port (6379)")
        add(
            "--redis_url",
            metavar="URL",
            help="redis://, rediss:// or unix:// with user, password and db; instead of host and "
            "port. FWS_REDIS_URL and FWS_REDIS_PASSWORD keep a password out of the process list",
        )
        add(
            "--redis_channels",
            nargs="*",
            default=["global"],
            metavar="CHANNEL",
            help="the channels whose items the consumer chain gets (global)",
        )
        add(
            "--redis_patterns",
            nargs="*",
            default=[],
            metavar="PATTERN",
            help="patterns of channels, like news.*",
        )
        add("--redis_key", default="fws", metavar="PREFIX", help="what all keys begin with (fws)")
        add("--redis_sentinel", nargs="+", metavar="HOST:PORT", help="the sentinels to ask")
        add("--redis_master", default="mymaster", metavar="NAME", help="what they call the master")
        add("--redis_cluster", action="store_true", default=False, help="it is a Redis Cluster")
        add(
            "--redis_required",
            action="store_true",
            default=False,
            help="do not start while it is away; while it goes away, /ready answers 503",
        )
        add(
            "--redis_lease_seconds",
            type=_lease,
            default=15.0,
            metavar="SECONDS",
            help="when the memberships of a server that died are gone (15)",
        )
        add(
            "--redis_backlog",
            type=int,
            default=10000,
            metavar="COUNT",
            help="writes and messages kept while it is away; then the oldest are dropped (10000)",
        )
        return parser

    # What the server calls

    def measures(self) -> dict[str, float]:
        return {
            **self.subscriber.measures(),
            "redis_backlog": len(self._queue),
            "redis_dropped_total": self.dropped,
        }

    def relay(self, payload: bytes, is_binary: bool, group: Hashable | None) -> None:
        """Send a broadcast of this server to the clients of the others (of a group)."""
        self._broadcasts += 1
        broadcast = Broadcast(self.server_id, self._broadcasts, is_binary, payload)
        channel = self.channels.all if group is None else self.channels.of_group(group)
        self._enqueue(Command(channel, encode_broadcast(broadcast)))

    def why_not_ready(self) -> str:
        """Return that Redis is away, with `--redis_required`.

        Where it is stays in the log: anybody may read this.
        """
        if not self.options.redis_required:
            return ""
        if not self.subscriber.is_listening:
            return "Redis is away"
        return "writing to Redis fails" if self._failures >= LASTING else ""

    @asynccontextmanager
    async def running(self, server: Any) -> AsyncIterator[None]:
        """Take part in the cluster while the block runs; needs no Redis to start or to stop."""
        if self.options.redis_required:
            await self._require()
        async with asyncio.TaskGroup() as tasks:
            running = [
                tasks.create_task(self._work()),
                tasks.create_task(self.subscriber.listen(server)),
            ]
            with suppress(TimeoutError):
                async with asyncio.timeout(FIRST_SYNC):
                    await self._synced.wait()
            try:
                yield
            finally:
                self.is_stopping = True
                await _end(running)
        with suppress(Exception):  # Redis may be away, or go away now
            async with asyncio.timeout(STOP_TIMEOUT):
                await self._sign_off()
                await self.client.aclose()

    async def _require(self) -> None:
        try:
            await self.client.ping()
        except AWAY as error:
            await self.client.aclose()
            raise StorageError(
                f"Redis at {self.place} is away, and --redis_required was given: {reason_of(error)}"
            ) from None

    # What the subscriber calls

    def subscribed(self) -> None:
        """Bring the copy in line: changes are being heard from now on."""
        self._failures = 0  # those before were of a Redis that was away
        self._snapshot_needed = True
        self._wake.set()

    # Writing, in the background

    def _write(self, key: Hashable, value: Hashable, present: bool) -> None:
        had = bool(self.here(key))
        self._send_write(key, value, present)
        if bool(self.here(key)) != had:
            self.subscriber.want(self.channels.of_group(key), wanted=not had)

    def _send_write(self, key: Hashable, value: Hashable, present: bool) -> None:
        change = self.replica.next_change(key, value, present)
        data = encode_change(change)  # Raises for what cannot be stored, before it is anywhere.
        self.replica.write(change)
        self._enqueue(Command(self.channels.changes, data, change))

    def _enqueue(self, command: Command) -> None:
        self._queue.append(command)
        self._queue_bytes += len(command.data)
        while len(self._queue) > self.options.redis_backlog or self._queue_bytes > BACKLOG_BYTES:
            self._drop(self._queue.popleft())
        self._wake.set()

    def _drop(self, command: Command) -> None:
        self._queue_bytes -= len(command.data)
        self.dropped += 1
        if self._dropped_before is None:
            self._dropped_before = self.dropped - 1
            logger.warning("the backlog for Redis is full: the oldest in it are dropped")
        if command.change is not None:
            self.replica.failed(command.change)
            self._snapshot_needed = True
        if command.receivers is not None and not command.receivers.done():
            command.receivers.set_exception(StorageError("Redis is away and the backlog is full"))

    async def _work(self) -> None:
        """Write what is queued and keep the lease, through all that happens to Redis."""
        while not self.is_stopping:
            try:
                await self._write_until_away()
            except Exception as error:
                self._failures += 1
                self._snapshot_needed = True
                logger.debug("writing to Redis ended", exc_info=error)
                # That Redis is away the subscriber says; this is for a Redis that is heard well.
                if self._failures == LASTING and self.subscriber.is_listening:
                    self._has_told_failures = True
                    logger.warning("writing to Redis at %s fails: %s", self.place, reason_of(error))
            await asyncio.sleep(_pause_after(self._failures) * random.uniform(0.5, 1))

    def _succeeded(self) -> None:
        if self._has_told_failures:
            self._has_told_failures = False
            logger.warning("writing to Redis at %s works again", self.place)
        self._failures = 0
        if self._dropped_before is not None and not self._queue:
            count = self.dropped - self._dropped_before
            self._dropped_before = None
            logger.warning("%d writes and messages for Redis were dropped", count)

    async def _write_until_away(self) -> None:
        await self._allowed(self._leases.sign_on())
        beat_at = 0.0
        while not self.is_stopping:
            self._wake.clear()
            now = time.monotonic()
            if now >= beat_at:
                await self._allowed(self._beat())
                beat_at = now + self._leases.beat
            if self._snapshot_needed and self.subscriber.is_listening:
                await self._bring_in_line()
            if self._queue:
                await self._write_batch()
            self._succeeded()
            if self._queue:
                continue
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, beat_at - time.monotonic())):
                    await self._wake.wait()

    async def _write_batch(self) -> None:
        """Send the first commands in one round trip; they leave the queue when they were answered.

        So those under way when a connection breaks are sent again: twice is mended by the receivers
        (a write of a set is idempotent, a broadcast has a number), never is not.
        """
        batch: list[Command] = []
        size = 0
        for command in self._queue:
            batch.append(command)
            size += len(command.data)
            if len(batch) == BATCH or size > BATCH_BYTES:
                break
        changes = [c.change for c in batch if c.change and isinstance(c.change.value, UUID)]
        last = {(change.key, change.value): change.present for change in changes}
        listed = [membership for membership, held in last.items() if held]
        await self._allowed(self._leases.enlist(listed))
        pipeline = self.client.pipeline(transaction=False)
        for command in batch:
            self._add_to(pipeline, command)
        results = await pipeline.execute(raise_on_error=False)
        failures = [result for result in results if _means_away(result)]
        if not failures:
            gone = [membership for membership, held in last.items() if not held]
            await self._allowed(self._leases.strike(gone))
        # In a cluster some commands may fail and others not: those that failed stay, in order.
        answers = {
            id(command): result
            for command, result in zip(batch, results, strict=True)
            if not _means_away(result)
        }
        waiting = self._queue
        self._queue = deque(command for command in waiting if id(command) not in answers)
        for command in waiting:
            if id(command) in answers:
                self._answered(command, answers[id(command)])
        if failures:
            raise failures[0]

    def _add_to(self, pipeline: Any, command: Command) -> None:
        if command.change is not None:
            self._add_write(pipeline, command.change, command.data)
        elif self.options.redis_cluster:
            # By the channel's slot: so all that is published on one channel takes one way.
            pipeline.eval(PUBLISH, 1, command.channel, command.data)
        else:
            pipeline.publish(command.channel, command.data)

    def _add_write(self, pipeline: Any, change: Change, announcement: bytes) -> None:
        verb = "SADD" if change.present else "SREM"
        value = encode_value(change.value)
        key = self._key(change.key)
        pipeline.eval(WRITE, 1, key, verb, value, self.channels.changes, announcement)

    def _answered(self, command: Command, result: Any) -> None:
        """Settle a command that Redis has carried out, or refused."""
        self._queue_bytes -= len(command.data)
        if isinstance(result, Exception):
            self.dropped += 1
            self._tell_refusal(result)
            self._refused(command, result)
        else:
            if command.change is not None:
                self.replica.confirmed(command.change)
            if command.receivers is not None and not command.receivers.done():
                command.receivers.set_result(int(result))

    def _tell_refusal(self, error: Exception) -> None:
        """Say what Redis refused: the same thing once a minute at most."""
        # What follows may be a part of what was to be written.
        reason = str(error).partition(" script:")[0].partition(", with args")[0]
        now = time.monotonic()
        if now >= self._refusals.get(reason, -MINUTE) + MINUTE:
            self._refusals[reason] = now
            logger.error("Redis refused a write: %s", reason)

    async def _allowed(self, request: Awaitable[None]) -> None:
        """Wait for a request that may be refused, as when memory is full, while others are not."""
        try:
            await request
        except ResponseError as error:
            if _means_away(error):
                raise
            if self.subscriber.is_listening:  # else it is refused itself, and says so
                self._tell_refusal(error)

    def _refused(self, command: Command, error: Exception) -> None:
        if command.change is not None:
            self.replica.failed(command.change)
            self._restore_beats = max(1, self._restore_beats)
        if command.receivers is not None and not command.receivers.done():
            command.receivers.set_exception(StorageError(f"Redis refused to publish: {error}"))

    # Who is alive

    async def _beat(self) -> None:
        """Renew the lease, restore what the others took when it had run out, remove the dead."""
        if not await self._leases.renew():
            self._restore_beats = RESTORE_BEATS
        self._beats += 1
        if self._restore_beats:
            self._restore_beats -= 1
            self._snapshot_needed = True
        if self.options.redis_cluster and self._beats % CLUSTER_BEATS == 0:
            self._snapshot_needed = True  # a node may have come back empty, and nobody tells
        for server in await self._leases.dead():
            memberships = await self._leases.listed(server)
            await self._remove(server, memberships)
            await self._leases.sign_off(server)
            logger.info("removed %d memberships of a server that is gone", len(memberships))

    async def _remove(self, server: UUID, memberships: Collection[Membership]) -> None:
        pipeline = self.client.pipeline(transaction=False)
        for key, value in memberships:
            change = Change(server, 0, key, value, present=False)
            self._add_write(pipeline, change, encode_change(change))
        await pipeline.execute(raise_on_error=False)

    async def _sign_off(self) -> None:
        """Leave nothing behind."""
        while self._queue:
            await self._write_batch()
        # Those listed too: what the backlog has dropped is no longer known here.
        listed = await self._leases.listed(self.server_id)
        await self._remove(self.server_id, listed | set(self.replica.memberships()))
        await self._leases.sign_off(self.server_id)

    # The copy, brought in line

    async def _bring_in_line(self) -> None:
        """Replace the copy by what Redis has, and mend what Redis has of our memberships."""
        self._snapshot_needed = False
        self.replica.begin_snapshot()
        try:
            sets = await self._read_sets()
            listed = await self._leases.listed(self.server_id)
        except BaseException:
            self._snapshot_needed = True
            raise
        self.replica.finish_snapshot(sets)
        held = set(self.replica.memberships())
        for key, value in held:
            if (key, value) not in listed or value not in sets.get(key, ()):
                self._send_write(key, value, present=True)
        for key, value in listed - held:
            self._send_write(key, value, present=False)
        self._synced.set()

    async def _read_sets(self) -> dict[Hashable, set[Hashable]]:
        start = self._prefix + "set:"
        names = [name async for name in self.client.scan_iter(_escaped(start) + "*", count=1000)]
        sets: dict[Hashable, set[Hashable]] = {}
        for first in range(0, len(names), BATCH):
            some = names[first : first + BATCH]
            pipeline = self.client.pipeline(transaction=False)
            for name in some:
                pipeline.smembers(name)
            results = await pipeline.execute(raise_on_error=False)
            for name, values in zip(some, results, strict=True):
                if isinstance(values, ResponseError) and not _means_away(values):
                    if name not in self._not_sets:
                        self._not_sets.add(name)
                        logger.error("%s is not a set of ours: %s", name.decode(), values)
                elif isinstance(values, Exception):
                    raise values
                else:
                    with suppress(ValueError):
                        key = decode_value(name[len(start.encode()) :])
                        sets[key] = {decode_value(value) for value in values}
        return sets

    # Names in Redis

    def _key(self, key: Hashable) -> str:
        return self._prefix + "set:" + encode_value(key).decode()


async def _end(tasks: Collection[asyncio.Task[None]]) -> None:
    # More than once: before Python 3.12 `asyncio.wait_for`, which redis-py uses, may swallow one.
    # For the same reason the loops of these tasks look at `is_stopping`.
    while not all(task.done() for task in tasks):
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=0.1)


def _pause_after(failures: int) -> float:
    # Bounded before the power is taken: a thousand failures would not fit into a float.
    return min(BACKOFF[0] * 2.0 ** min(failures, 10), BACKOFF[1])


def _means_away(result: object) -> bool:
    """Tell an answer that is worth trying again from one that would be the same."""
    if isinstance(result, ClusterError):
        return True
    return isinstance(result, AWAY) and not isinstance(result, ResponseError)


def _make_client(options: Namespace) -> Any:
    """Return a client that leaves trying again to us, who have to know of each failure."""
    settings: dict[str, Any] = {
        "retry": Retry(NoBackoff(), 0),
        "socket_timeout": REPLY_TIMEOUT,
        "socket_connect_timeout": REPLY_TIMEOUT,
        "protocol": 3,
    }
    if password := os.environ.get("FWS_REDIS_PASSWORD"):
        settings["password"] = password
    try:
        if options.redis_sentinel:
            places = [_host_and_port(place) for place in options.redis_sentinel]
            sentinel = Sentinel(  # type: ignore[no-untyped-call]
                places, sentinel_kwargs=settings | {"password": None}, **settings
            )
            return sentinel.master_for(options.redis_master)
        if options.redis_cluster:
            place = {"host": options.redis_host, "port": options.redis_port}
            if options.redis_url:
                return RedisCluster.from_url(options.redis_url, **settings)
            return RedisCluster(**place, **settings)
        if options.redis_url:
            return Redis.from_url(options.redis_url, **settings)
    except ValueError:
        # What is wrong with it is not said: it could be the password that has a slash in it.
        raise StorageError(
            "--redis_url is not valid: write redis://, rediss:// or unix://, "
            "and percent-encode user and password"
        ) from None
    return Redis(host=options.redis_host, port=options.redis_port, **settings)


def _place(options: Namespace) -> str:
    """Return where Redis is, for messages: never with a password."""
    if options.redis_sentinel:
        return f"{options.redis_master} of {', '.join(options.redis_sentinel)}"
    if options.redis_url:
        parts = urlsplit(options.redis_url)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return f"{options.redis_host}:{options.redis_port}"


def _host_and_port(place: str) -> tuple[str, int]:
    host, _, port = place.rpartition(":")
    if not host or not port.isdigit():
        raise StorageError(f"--redis_sentinel: {place!r} is not HOST:PORT")
    return host, int(port)


def _lease(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 3600:
        raise ArgumentTypeError(f"{text} is not between 1 and 3600 seconds")
    return seconds


def _escaped(pattern: str) -> str:
    return re.sub(r"([*?\[\]\\^])", r"\\\1", pattern)


def _bytes(data: bytes | bytearray | str) -> bytes:
    if not isinstance(data, bytes | bytearray | str):
        raise TypeError(f"bytes or str can be published, not {type(data).__name__}")
    return data.encode() if isinstance(data, str) else bytes(data)
