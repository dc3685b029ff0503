"""The interface of a storage object: sets of values under keys, shared by all filters."""

from __future__ import annotations

import logging
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from typing import Any

logger = logging.getLogger(__name__)


class StorageError(Exception):
    """Report a storage that cannot do what it was asked for."""


class BaseStorageObject:
    """Keep sets of values under keys.

    One object is made when the server starts, with the parsed options. Its methods are called from
    filters, in the event loop: none of them may block.
    """

    def __init__(self, options: Namespace, *args: Any, **kwargs: Any) -> None:
        self.options = options
        """The parsed options of the server as a Namespace, those of `parser` among them."""
        self.storage: Any = None

    def get(self, key: Hashable) -> Any:
        """Return the set under `key`, or None. It is live: look at it, do not change it."""
        raise NotImplementedError

    def __getitem__(self, key: Hashable) -> Any:
        """Return what `get` returns: None, and no KeyError, when there is nothing."""
        return self.get(key)

    # `in` and `for` would ask for 0, 1, 2 … for ever, since no key is an error.
    __contains__: Any = None
    __iter__: Any = None

    def add(self, key: Hashable, value: Hashable) -> None:
        """Add `value` to the set under `key`."""
        raise NotImplementedError

    def remove(self, key: Hashable, value: Hashable) -> None:
        """Take `value` out of the set under `key`; one that is not there is no error."""
        raise NotImplementedError

    def here(self, key: Hashable) -> Any:
        """Return those members of the set under `key` that are connections of this server."""
        return self.get(key) or ()

    relay: Callable[[bytes, bool, Hashable], None] | None = None
    """Sends a broadcast (payload, is it binary, group) to the clients of the other servers."""

    def why_not_ready(self) -> str:
        """Return why no clients should be sent to this server now; empty when they should."""
        return ""

    def measures(self) -> dict[str, float]:
        """Return figures for the metrics, by name, as `redis_connected` for `fws_redis_connected`.

        Names that end in `_total` are of counters, which only grow, others of gauges. Called in the
        event loop each time that somebody looks.
        """
        return {}

    @asynccontextmanager
    async def running(self, server: Any) -> AsyncIterator[None]:
        """Do what the storage has to do in the background, while the block runs.

        Entered once, before the server listens; left when all its connections are closed. Raises
        StorageError when the server must not start.
        """
        yield

    @classmethod
    def parser(cls, parser: ArgumentParser) -> ArgumentParser:
        """Add the options of this storage to the command line; return the parser."""
        return parser


class BasePubSubStorageObject(BaseStorageObject):
    """Be a storage that also carries published items between processes."""

    def publish(self, channel: str, data: bytes | str) -> None:
        """Publish `data` on `channel`, text as UTF-8; return at once."""
        raise NotImplementedError

    def get_client(self) -> Any:
        """Return the client that the subscriber is made with."""
        raise NotImplementedError

    @asynccontextmanager
    async def running(self, server: Any) -> AsyncIterator[None]:
        """Run the listener of the subscriber in a thread of its own."""
        try:
            subscriber = self.get_subscriber()(client=self.get_client(), options=self.options)
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            raise StorageError(f"{_name(self)} failed to make its subscriber: {reason}") from None
        threading.Thread(target=_listen, args=(subscriber, server), daemon=True).start()
        try:
            yield
        finally:
            try:
                subscriber.kill()
            except Exception:
                logger.exception("%s.kill failed", _name(subscriber))

    @classmethod
    def get_subscriber(cls) -> Any:
        """Return the subscriber class, a child of `subscribers.base.BaseSubscriber`."""
        raise NotImplementedError


def _listen(subscriber: Any, server: Any) -> None:
    try:
        subscriber.listener(server)
    except Exception:
        logger.exception("%s.listener failed: nothing more is heard", _name(subscriber))


def _name(thing: Any) -> str:
    return f"{type(thing).__module__}.{type(thing).__qualname__}"
