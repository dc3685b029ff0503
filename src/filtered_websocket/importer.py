"""Import what the command line names: filter modules and the storage module.

What belongs here: finding a module, and telling its author what is wrong with it. What does not:
what a filter is (`filters.base`).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import sysconfig
import traceback
from argparse import ArgumentParser
from collections.abc import Sequence
from importlib.metadata import entry_points
from types import ModuleType
from typing import Any

from .filters import base
from .filters.base import FilterBase, text_of
from .migration import GUIDE, advice
from .typing import FilterError

__all__ = ["ModuleError", "add_storage_options", "import_filters", "import_storage"]

NOT_THE_AUTHORS = (
    "<frozen ",  # what Python itself starts with, such as os
    os.path.dirname(__file__) + os.sep,
    *{sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib")},
)
"""How the names of files begin that belong to Python, to installed packages, or to the server."""

ENTRY_POINTS = "filtered_websocket.filters"
DEFAULT_STORAGE = "filtered_websocket.storage_objects.default"
REACTOR = "twisted.internet.reactor"


class ModuleError(Exception):
    """Report a module that cannot be used: which, why, and what would be right."""


def import_filters(names: Sequence[str]) -> list[str]:
    """Import filter modules in order, which registers their filters; return warnings.

    A name is that of an importable module (the current directory included), of a bundled filter, or
    of an entry point in the group `filtered_websocket.filters`. Raises ModuleError.
    """
    warnings = []
    for name in names:
        has_reactor = REACTOR in sys.modules
        module = _import(_resolve(name), f"filter module {name!r}")
        if REACTOR in sys.modules and not has_reactor:
            warnings.append(
                f"filter module {name!r} imports Twisted's reactor, which does not run here: "
                f"what waits for it never happens; see {GUIDE}"
            )
        if not _has_filters(module):
            warnings.append(
                f"filter module {name!r} has no filters: it needs a class that inherits from "
                f"one of those in {base.__name__}{_shadowed(name, module)}"
            )
    for chain in FilterBase.__subclasses__():
        try:
            chain.chain()
        except FilterError as error:
            raise ModuleError(str(error)) from None
    return warnings


def import_storage(name: str | None) -> Any:
    """Import a storage module and return its class `StorageObject`. Raises ModuleError."""
    name = name or DEFAULT_STORAGE
    if not _exists(name):
        raise ModuleError(
            f"storage module {name!r} (STORAGE_OBJECT_MODULE) was not found; "
            "is its folder the current directory?"
        )
    module = _import(name, f"storage module {name!r}")
    storage_class = getattr(module, "StorageObject", None)
    if not isinstance(storage_class, type):
        raise ModuleError(f"storage module {name!r} has no class StorageObject")
    return storage_class


def add_storage_options(storage_class: Any, parser: ArgumentParser) -> None:
    """Let a storage class add its options, where it has any. Raises ModuleError."""
    try:
        getattr(storage_class, "parser", lambda parser: parser)(parser)
    except Exception as error:
        raise ModuleError(
            f"storage module {storage_class.__module__!r}: parser() failed: "
            f"{_in_authors_words(error)}"
        ) from None


def _resolve(name: str) -> str:
    if _is_module_name(name) and _exists(name):
        return name
    bundled = f"{__package__}.filters.{name}"
    if name.isidentifier() and name != "base" and _exists(bundled):
        return bundled
    for entry_point in entry_points(group=ENTRY_POINTS, name=name):
        return entry_point.module
    raise ModuleError(f"filter module {name!r} was not found; {_hint(name)}")


def _hint(name: str) -> str:
    stem, extension = os.path.splitext(name)
    if extension in (".json", ".toml"):
        return f"to read a config file, write -c {name}"
    if extension == ".py" or os.sep in name:
        return f"name the module, not the file: -f {os.path.basename(stem)}"
    if _exists(stem) and extension[1:2].isupper():
        return f"name the module, not the class: -f {stem}"
    if name.isdigit():
        return f"to choose the port, write -p {name}"
    return "is its folder the current directory?"


def _is_module_name(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _exists(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError as error:
        # A missing parent package, or something that the parent package imports?
        missing = error.name or name
        return name != missing and not name.startswith(missing + ".")
    except ValueError:
        return False
    except KeyboardInterrupt:
        raise
    except BaseException:
        return True  # The parent package is broken: importing it tells how.


def _import(name: str, what: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a module raises, SystemExit included
        raise ModuleError(f"{what} failed on import: {_in_authors_words(error)}") from None


def _in_authors_words(error: BaseException) -> str:
    """Return place and reason of an error; the place is the last one in the author's code."""
    if isinstance(error, SyntaxError):
        place = f"{error.filename}, line {error.lineno}: "
        return f"{place}{type(error).__name__}: {error.msg}{advice(error)}"
    frames = traceback.extract_tb(error.__traceback__)
    authored = [frame for frame in frames if not frame.filename.startswith(NOT_THE_AUTHORS)]
    place = f"{authored[-1].filename}, line {authored[-1].lineno}: " if authored else ""
    return f"{place}{type(error).__name__}: {text_of(error)}{advice(error)}"


def _has_filters(module: ModuleType) -> bool:
    classes = [value for value in vars(module).values() if isinstance(value, type)]
    return any(issubclass(c, FilterBase) and c.__module__ != base.__name__ for c in classes)


def _shadowed(name: str, module: ModuleType) -> str:
    """Tell of a file in the current directory that is not what its name imports."""
    if not os.path.exists(f"{name}.py"):
        return ""
    own, found = os.path.abspath(f"{name}.py"), getattr(module, "__file__", None)
    if found != own:
        return f"; {found or 'a module of Python'} has the same name as {own}: rename yours"
    return ""
