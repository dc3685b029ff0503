"""The interface of a storage object: sets of values under keys, shared by all filters."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Hashable
from typing import Any


class BaseStorageObject:
    """Keep sets of values under keys.

    One object is made when the server starts, with the parsed options. Its methods are called from
    filters, in the event loop: none of them may block.
    """

    def __init__(self, options: Namespace, *args: Any, **kwargs: Any) -> None:
        self.options = options
        self.storage: Any = None

    def get(self, key: Hashable) -> Any:
        """Return the set under `key`, or None. It is live: look at it, do not change it."""
        raise NotImplementedError

    def __getitem__(self, key: Hashable) -> Any:
        return self.get(key)

    def add(self, key: Hashable, value: Hashable) -> None:
        """Add `value` to the set under `key`."""
        raise NotImplementedError

    def remove(self, key: Hashable, value: Hashable) -> None:
        """Take `value` out of the set under `key`; one that is not there is no error."""
        raise NotImplementedError

    @classmethod
    def parser(cls, parser: ArgumentParser) -> ArgumentParser:
        """Add the options of this storage to the command line; return the parser."""
        return parser


class BasePubSubStorageObject(BaseStorageObject):
    """Be a storage that also carries published items between processes."""

    def publish(self, channel: str, data: bytes | str) -> None:
        """Publish `data` on `channel`; return at once."""
        raise NotImplementedError

    def get_client(self) -> Any:
        """Return the client that the subscriber is made with."""
        raise NotImplementedError

    @classmethod
    def get_subscriber(cls) -> Any:
        """Return the subscriber class, a child of `subscribers.base.BaseSubscriber`."""
        raise NotImplementedError
