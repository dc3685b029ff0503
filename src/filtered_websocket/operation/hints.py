"""What is probably a mistake in a pipeline, found by reading the source of its filters (`source`).

Nothing of it stops a start, and that there is no hint proves nothing.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from ..filters.base import (
    FilterBase,
    WebSocketConsumerFilter,
    WebSocketDataFilter,
    WebSocketMessageFilter,
)
from ..storage_objects.base import BasePubSubStorageObject, BaseStorageObject
from .source import (
    PACKAGE,
    FilterSource,
    authors_modules,
    tree_of,
    used_of_storage,
    uses,
    words_in,
)

__all__ = ["hints"]

TO_OVERRIDE = (
    BaseStorageObject.add,
    BaseStorageObject.get,
    BaseStorageObject.remove,
    BasePubSubStorageObject.publish,
    BasePubSubStorageObject.get_client,
)
"""What the base classes of storage objects name, and do not do."""


def hints(storage: Any) -> list[str]:
    """Return what looks wrong with the filters that are imported, each with what to do."""
    trees = [tree_of(module) for module in authors_modules(type(storage))]
    found = [
        *_without_method(),
        *_nobody_gets_messages(),
        *_too_late(),
        *_unused_chains(trees),
        *_nothing_to_consume(storage, trees),
        *_missing_in_storage(storage),
    ]
    return list(dict.fromkeys(found))  # a class may be of two chains


def _without_method() -> Iterator[str]:
    for base in FilterBase.__subclasses__():
        for cls in base._filters:
            # Others may share code through a class that has children.
            if cls not in base.chain().filters and not cls.__subclasses__():
                yield f"{_name(cls)} has no method `filter` and does nothing: is it misspelt?"


def _nobody_gets_messages() -> Iterator[str]:
    # Servers that print what they read, or push what is published, need no message filter.
    may_do = (WebSocketMessageFilter, WebSocketDataFilter, WebSocketConsumerFilter)
    if not any(base.chain() for base in may_do):
        yield (
            "no filter gets messages, so what clients send goes nowhere: name one after -f, such "
            "as broadcast_messages"
        )


def _too_late() -> Iterator[str]:
    """Tell of filters that do something to a message after the last one that sends it to many."""
    filters = WebSocketMessageFilter.chain().filters
    sources = [FilterSource(cls) for cls in filters]
    senders = [index for index, reading in enumerate(sources) if reading.sends_to_many()]
    if not senders:
        return
    sender, last = filters[senders[-1]], len(filters) - 1
    for index in range(senders[-1] + 1, len(filters)):
        if sources[index].changes():
            effect = "changes the message, but {} has sent it as it was"
        elif sources[index].drops() and index == last:  # else it is for the filters after it
            effect = "drops messages, but {} has sent them"
        else:
            continue
        cls = filters[index]
        yield (
            f"{_name(cls)} {effect.format(_name(sender))}: name {cls.__module__} before "
            f"{sender.__module__}"
        )


def _unused_chains(trees: Sequence[ast.Module | None]) -> Iterator[str]:
    for base in FilterBase.__subclasses__():
        if base.__module__ == FilterBase.__module__:
            continue
        if not base.chain():
            yield f"chain {_name(base)} has no filter: import the module with its filters, after -f"
        elif None not in trees:
            names = {cls.__name__ for cls in (base, *base._filters)}
            if not any(uses(tree, names) for tree in trees if tree is not None):
                yield (
                    f"nothing runs the chain {_name(base)}: call {base.__name__}.run("
                    "web_socket_instance, data) in a filter"
                )


def _nothing_to_consume(storage: Any, trees: Sequence[ast.Module | None]) -> Iterator[str]:
    filters = WebSocketConsumerFilter.chain().filters
    if not filters or _has_attribute(storage, "get_subscriber") or None in trees:
        return
    if not any("queue" in words_in(tree) for tree in trees if tree is not None):
        yield (
            f"nothing puts items on the queue, so {', '.join(map(_name, filters))} never runs: "
            f"set STORAGE_OBJECT_MODULE={PACKAGE}.storage_objects.redis, or call "
            "web_socket_instance.queue.put(item) in a filter"
        )


def _missing_in_storage(storage: Any) -> Iterator[str]:
    modules = dict.fromkeys(
        sys.modules[cls.__module__]
        for base in FilterBase.__subclasses__()
        for cls in base.chain().filters
        if cls.__module__ in sys.modules
    )
    for module in modules:
        tree = tree_of(module)
        wanted = [] if tree is None else sorted(used_of_storage(tree))
        if missing := [name for name in wanted if not _has(storage, name)]:
            yield (
                f"{module.__name__} needs {', '.join(missing)} of the storage, which "
                f"{_name(type(storage))} has not: add it there (BaseStorageObject says what it "
                "does), or set STORAGE_OBJECT_MODULE to another module"
            )


def _has(storage: Any, name: str) -> bool:
    """Tell whether a storage has a method of its own, and not the one that only names it."""
    method = getattr(type(storage), name, None)
    if method is BaseStorageObject.__getitem__:  # which only calls this one
        method = type(storage).get
    return method not in TO_OVERRIDE and _has_attribute(storage, name)


def _has_attribute(storage: Any, name: str) -> bool:
    try:
        return hasattr(storage, name)
    except Exception:  # a property that fails now, and may not later
        return True


def _name(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
