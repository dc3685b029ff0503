"""Import filter modules for one pipeline only.

A server imports each module once, and that registers its filters for good. A test must not see the
filters of the test before. So a pipeline imports its modules anew, into empty chains, and then
everything is put back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from ..filters import base
from ..filters.base import FilterBase

__all__ = ["empty_chains"]


@contextmanager
def empty_chains() -> Iterator[dict[str, ModuleType]]:
    """Let the block import modules with filters anew; when it is done, the dict has them."""
    chains = {chain: chain._filters for chain in FilterBase.__subclasses__()}
    kept = {name: sys.modules.pop(name) for name in _modules_with_filters()}
    for chain in chains:
        chain._filters, chain._frozen = [], None
    fresh: dict[str, ModuleType] = {}
    try:
        yield fresh
    finally:
        fresh |= {name: sys.modules.pop(name) for name in _modules_with_filters()}
        for chain, filters in chains.items():
            chain._filters, chain._frozen = filters, None
        for name, module in kept.items():
            sys.modules[name] = module
            package, _, attribute = name.rpartition(".")
            if package in sys.modules:
                setattr(sys.modules[package], attribute, module)


def _modules_with_filters() -> set[str]:
    """Return the names of the imported modules that have classes for chains."""
    names = {cls.__module__ for cls in _children(FilterBase)}
    return {name for name in names - {base.__name__, "__main__"} if name in sys.modules}


def _children(cls: type[FilterBase]) -> Iterator[type[FilterBase]]:
    for child in cls.__subclasses__():
        yield child
        yield from _children(child)
