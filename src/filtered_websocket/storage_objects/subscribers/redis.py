"""Hear what is published in Redis, and never be deaf without saying so.

What belongs here: the subscription, through all that happens to Redis, and where what is heard
goes. What does not: what is written to Redis (`..redis`).
"""

from __future__ import annotations

import asyncio
import logging
import queue
import random
import time
from argparse import Namespace
from typing import Any, Protocol

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException, RedisError

from ...typing import Message
from ..cluster import Broadcast, Channels, EnvelopeError, decode_broadcast, decode_change
from ..replica import Replica
from .base import BaseSubscriber

__all__ = ["AWAY", "RedisSubscriber", "reason_of"]

logger = logging.getLogger(__name__)

AWAY = (RedisError, RedisClusterException, OSError, TimeoutError, RuntimeError)
"""What the redis client raises when Redis cannot be used just now.

RuntimeError is what uvloop raises for a write to a connection that has broken in this moment.
"""

BACKOFF = (0.05, 5.0)  # seconds: the first pause before connecting again, and the longest
SILENCE = 4.0  # seconds without a sign of life before a ping, and again before giving up
SLICE = 256  # items that are heard before other events get their turn
SENDERS = 4096  # whose last numbers are kept: servers, times the groups that they share
FULL_PAUSE = 0.01  # seconds, when the consumer chain cannot keep up


class Storage(Protocol):
    """What the subscriber needs of the storage object that it hears for."""

    channels: Channels
    replica: Replica
    place: str
    is_stopping: bool

    def subscribed(self) -> None: ...


class RedisSubscriber(BaseSubscriber):
    """Put what is published on the server's queue; take in what the other servers tell.

    After each reconnection the queue gets `{"type": "gap", "seconds": …, "channels": […]}`, since
    what was published in between is lost.
    """

    def __init__(self, client: Any, options: Namespace, storage: Storage) -> None:
        super().__init__(client, options)
        self.storage = storage
        self.is_listening = False
        self.malformed = 0
        self._items = 0  # that were published by others, not by servers for one another
        self._reconnects = 0
        self._gaps = 0.0  # seconds that were not heard, the time before the first answer included
        self._channels = storage.channels
        self._internal = storage.channels.internal.encode()
        self._all = storage.channels.all.encode()
        self._changes = storage.channels.changes.encode()
        self._names = [*options.redis_channels, *options.redis_patterns]
        self._groups: dict[bytes, Any] = {}
        self._wanted_changed = asyncio.Event()
        self._has_told = False
        self._away_since: float | None = None
        self._last_numbers: dict[tuple[Any, bytes], int] = {}
        self._sign_of_life = True

    def want(self, channel: str, *, wanted: bool) -> None:
        """Subscribe to the channel of a group, or no longer."""
        name = channel.encode()
        if wanted:
            self._groups[name] = self._channels.group_of(channel)
        else:
            self._groups.pop(name, None)
        self._wanted_changed.set()

    def measures(self) -> dict[str, float]:
        """Return what `BaseStorageObject.measures` is to have of hearing."""
        gap = 0.0 if self._away_since is None else time.monotonic() - self._away_since
        return {
            "redis_connected": self.is_listening,
            "redis_reconnects_total": self._reconnects,
            "redis_gap_seconds_total": self._gaps + gap,
            "redis_items_total": self._items,
            "redis_malformed_total": self.malformed,
        }

    async def listen(self, server: Any) -> None:
        """Hear what is published, until cancelled."""
        pause = BACKOFF[0]
        while not self.storage.is_stopping:
            try:
                if self.options.redis_cluster:
                    await self.client.initialize()  # it must know the nodes before it subscribes
                async with self.client.pubsub() as pubsub:
                    groups = await self._subscribe(pubsub)
                    pause = BACKOFF[0]
                    await self._back(server)
                    await self._hear_until_away(pubsub, server, groups)
            except* Exception as errors:
                # Also what is not in AWAY: the client stumbles over connections that break in the
                # wrong moment, and being deaf is worse than trying again.
                self._away(_first(errors))
                logger.debug("listening to Redis ended", exc_info=errors)
            self.is_listening = False
            await asyncio.sleep(pause * random.uniform(0.5, 1))
            pause = min(pause * 2, BACKOFF[1])

    async def _subscribe(self, pubsub: Any) -> set[bytes]:
        """Subscribe to all that is wanted now; return the channels of groups among it."""
        groups = set(self._groups)
        channels = [self._channels.all, self._channels.changes, *self.options.redis_channels]
        await pubsub.subscribe(*channels, *groups)
        if self.options.redis_patterns:
            await pubsub.psubscribe(*self.options.redis_patterns)
        # The first answer proves that Redis hears us.
        if await pubsub.get_message(timeout=SILENCE) is None:
            raise RedisConnectionError("no answer to SUBSCRIBE")
        return groups

    def _away(self, error: BaseException) -> None:
        if self._away_since is None:
            self._away_since = time.monotonic()
            logger.warning(
                "Redis at %s is away (%s); trying again", self.storage.place, reason_of(error)
            )

    async def _back(self, server: Any) -> None:
        self.is_listening = True
        self.storage.subscribed()
        if not self._has_told:
            self._has_told = True
            logger.info(
                "listening to Redis at %s: to %s, and to the servers with --redis_key %s",
                self.storage.place,
                " ".join(self._names) or "no channel",
                self.options.redis_key,
            )
        if self._away_since is None:
            return
        gap, self._away_since = time.monotonic() - self._away_since, None
        self._gaps += gap
        self._reconnects += 1
        logger.warning("Redis at %s is back after %.1f s", self.storage.place, gap)
        await _put(server, {"type": "gap", "seconds": gap, "channels": self._names})

    async def _hear_until_away(self, pubsub: Any, server: Any, groups: set[bytes]) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._hear(pubsub, server))
            tasks.create_task(self._check_health(pubsub))
            tasks.create_task(self._follow_groups(pubsub, groups))

    async def _hear(self, pubsub: Any, server: Any) -> None:
        count = 0
        async for item in pubsub.listen():
            self._sign_of_life = True
            count += 1
            if count % SLICE == 0:
                await asyncio.sleep(0)
            kind = item["type"]
            if kind == "message":
                if not self._from_cluster(item["channel"], item["data"], server):
                    self._items += 1
                    await _put(server, item)
            elif kind == "pmessage" and not item["channel"].startswith(self._internal):
                self._items += 1
                await _put(server, item)
        raise RedisConnectionError("the subscription ended")

    def _from_cluster(self, channel: bytes, data: bytes, server: Any) -> bool:
        """Take in what another server tells; False when it is from somebody else."""
        if not channel.startswith(self._internal):
            return False
        try:
            if channel == self._changes:
                self.storage.replica.heard(decode_change(data))
            else:
                self._deliver(channel, decode_broadcast(data), server)
        except EnvelopeError as error:
            self.malformed += 1
            if self.malformed == 1:
                name = channel.decode(errors="backslashreplace")
                logger.error(
                    "channel %s is for servers among themselves: what others publish there is "
                    "dropped; publish on one of --redis_channels",
                    name,
                )
                logger.debug("channel %s: %s", name, error)  # it has a payload in it
        return True

    def _deliver(self, channel: bytes, broadcast: Broadcast, server: Any) -> None:
        is_for_all = channel == self._all
        if broadcast.server == self.storage.replica.server:
            return
        if not is_for_all and channel not in self._groups:
            return  # the last member here has just left, and the subscription goes on for a moment
        # What was sent again after a broken connection comes twice.
        sender = (broadcast.server, channel)
        if broadcast.number <= self._last_numbers.get(sender, 0):
            return
        self._last_numbers[sender] = broadcast.number
        if len(self._last_numbers) > SENDERS:
            del self._last_numbers[next(iter(self._last_numbers))]
        message = Message(broadcast.payload)
        message.is_binary = broadcast.is_binary
        server.users.deliver(message, group=None if is_for_all else self._groups[channel])

    async def _check_health(self, pubsub: Any) -> None:
        """Notice a connection that is up but dead, as with a frozen Redis or a lost route."""
        while not self.storage.is_stopping:
            await asyncio.sleep(SILENCE)
            if self._sign_of_life:
                self._sign_of_life = False
                await pubsub.ping()
            else:
                raise RedisConnectionError(f"no sign of life for {SILENCE * 2:g} s")

    async def _follow_groups(self, pubsub: Any, subscribed: set[bytes]) -> None:
        """Keep the subscription to the groups that have members here."""
        while not self.storage.is_stopping:
            wanted = set(self._groups)
            if new := wanted - subscribed:
                await pubsub.subscribe(*new)
            if old := subscribed - wanted:
                await pubsub.unsubscribe(*old)
                for sender in [s for s in self._last_numbers if s[1] in old]:
                    del self._last_numbers[sender]
            subscribed = wanted
            await self._wanted_changed.wait()
            self._wanted_changed.clear()


async def _put(server: Any, item: Any) -> None:
    """Put an item on the queue; when that is full, wait, and so let Redis wait."""
    while True:
        try:
            server.queue.put(item)
            return
        except queue.Full:
            await asyncio.sleep(FULL_PAUSE)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def reason_of(error: BaseException) -> str:
    """Return what went wrong in Redis, short: the client adds itself to some messages."""
    text = str(error).partition(" : <")[0]
    return text if text and isinstance(error, AWAY) else f"{type(error).__name__} {text}".strip()
