"""What a start would start, as a page of text: chains, filters, storage, options.

What belongs here: how it looks. What does not: what may be wrong with it (`hints`).
"""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .. import __version__
from ..config import DEFAULT, SECRETS, Resolved
from ..filters.base import FilterBase

__all__ = ["chain_name", "explain", "place_of"]

WIDTH = 80  # columns
NARROWEST = 20  # columns of values, whatever is beside them
MASK = "***"
UNSET = "-"

_secret_name = re.compile("passw|secret|credential", re.IGNORECASE).search
# What stands between `//` and the last `@`, slashes too: a password that is not percent-encoded.
_password_in_url = re.compile(r"(://[^:@/]*:)\S*(?=@)").sub
_password_in_query = re.compile(r"([?&]password=)[^&]*", re.IGNORECASE).sub


def explain(resolved: Resolved, storage: Any, environ: Mapping[str, str]) -> str:
    """Return the page; no secret is in it."""
    return "\n".join(
        [
            f"fws_server {__version__}",
            *_chains(),
            *_storage(type(storage)),
            *_options(resolved, environ),
            *_warnings(resolved.warnings),
        ]
    )


def chain_name(chain: type[FilterBase]) -> str:
    """Return the name of a chain as operators read it: `message`, and of their own the class."""
    name = chain.__name__
    if name.startswith("WebSocket") and name.endswith("Filter"):
        return name.removeprefix("WebSocket").removesuffix("Filter").lower()
    return name


def place_of(cls: type) -> str:
    """Return file and line of a class; the file as seen from the current directory."""
    try:
        file, line = inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):  # it was made by a call, or its file is gone
        return f"module {cls.__module__}"
    return f"{_from_here(file or cls.__module__)}:{line}"


def _from_here(file: str) -> str:
    try:
        return file.removeprefix(os.path.join(os.getcwd(), ""))
    except FileNotFoundError:
        return file


def _chains() -> Iterator[str]:
    yield ""
    for base in FilterBase.__subclasses__():
        chain, name = base.chain(), chain_name(base)
        if base.__module__ != FilterBase.__module__:
            name = f"{name} ({place_of(base)})"
        yield f"{name}:" if chain else f"{name}: no filter"
        for number, cls in enumerate(chain.filters, start=1):
            kind = "async" if inspect.iscoroutinefunction(cls.filter) else "sync"
            yield f"  {number}. {cls.__module__}.{cls.__qualname__}"
            yield f"     {kind:<5}  {place_of(cls)}"


def _storage(cls: type) -> Iterator[str]:
    yield ""
    yield "storage:"
    yield f"  {cls.__module__}.{cls.__qualname__}"
    yield f"  {place_of(cls)}"


def _options(resolved: Resolved, environ: Mapping[str, str]) -> Iterator[str]:
    rows = [
        (f"--{name}", resolved.sources[name], shown(name, value))
        for name, value in vars(resolved.options).items()
        if name not in ("check", "explain")  # what to do now, and not what would be started
    ]
    rows += [(name, "environment", MASK) for name in SECRETS if environ.get(name)]
    width = max(len(name) for name, _, _ in rows)
    yield from _table("options that were set", width, [r for r in rows if r[1] != DEFAULT])
    unset = [(name, "", value) for name, source, value in rows if source == DEFAULT]
    yield from _table("options at their default", width, unset)


def shown(name: str, value: Any) -> str:
    """Return the value of an option as it is written, with what is secret in it masked."""
    if value is None or value == []:
        return UNSET
    if _secret_name(name):
        return MASK
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return _password_in_query(rf"\1{MASK}", _password_in_url(rf"\1{MASK}", text))


def _table(title: str, width: int, rows: Sequence[tuple[str, str, str]]) -> Iterator[str]:
    yield ""
    yield f"{title}:" if rows else f"{title}: none"
    beside = max((len(source) for _, source, _ in rows), default=0)
    left = 2 + width + 2 + (beside + 2 if beside else 0)  # where values begin
    for name, source, value in rows:
        lines = _wrap(value, max(NARROWEST, WIDTH - left)) or [UNSET]
        yield f"{f'  {name:<{width}}  {source}':<{left}}{lines[0]}"
        yield from (" " * left + line for line in lines[1:])


def _warnings(warnings: Sequence[str]) -> Iterator[str]:
    yield ""
    yield "warnings:" if warnings else "warnings: none"
    for warning in warnings:
        first, *more = _wrap(warning, WIDTH - 4)
        yield f"  - {first}"
        yield from (f"    {line}" for line in more)


def _wrap(text: str, width: int) -> list[str]:
    # Names, paths and URLs stay whole, so that they can be copied.
    return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
