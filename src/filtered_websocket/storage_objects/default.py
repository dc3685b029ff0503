"""Keep everything in the memory of this process."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Hashable
from typing import Any

from .base import BaseStorageObject


class StorageObject(BaseStorageObject):
    """Keep sets in a dict; all of it is gone when the server stops."""

    def __init__(self, options: Namespace, *args: Any, **kwargs: Any) -> None:
        super().__init__(options, *args, **kwargs)
        self.storage: dict[Hashable, set[Hashable]] = {}

    def get(self, key: Hashable) -> set[Hashable] | None:
        """Return the set under `key`, or None. It is live: look at it, do not change it."""
        return self.storage.get(key)

    def add(self, key: Hashable, value: Hashable) -> None:
        """Add `value` to the set under `key`."""
        self.storage.setdefault(key, set()).add(value)

    def remove(self, key: Hashable, value: Hashable) -> None:
        """Take `value` out of the set under `key`; one that is not there is no error."""
        values = self.storage.get(key)
        if values is None:
            return
        values.discard(value)
        if not values:
            del self.storage[key]
