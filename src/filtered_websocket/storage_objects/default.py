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
        return self.storage.get(key)

    def add(self, key: Hashable, value: Hashable) -> None:
        self.storage.setdefault(key, set()).add(value)

    def remove(self, key: Hashable, value: Hashable) -> None:
        values = self.storage.get(key)
        if values is None:
            return
        values.discard(value)
        if not values:
            del self.storage[key]
