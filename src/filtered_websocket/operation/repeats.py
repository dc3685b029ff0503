"""How often the log says the same: each cause at most once a second, and what it leaves out counts.

What belongs here: which records are of one cause, and the count of those that are left out. What
does not: what a line looks like (`logs`).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

__all__ = ["MAX_CAUSES", "OTHERS", "OURS", "PERIOD", "Repeats", "cause_of"]

PERIOD = 1.0  # seconds
MAX_CAUSES = 100  # filters make up errors of their own, perhaps one for each client
OTHERS: Hashable = "causes beyond MAX_CAUSES"
OURS = __name__.partition(".")[0]  # how the names of our modules begin

Line = TypeVar("Line")


def cause_of(record: logging.LogRecord) -> Hashable:
    """Return what a record shares with those that say the same, or None when each one is logged.

    It is `record.cause` where there is one. For warnings of this package it is what they say; for
    all that comes with an exception, and errors of anybody else, the line that logs, the filter,
    the type of the exception and the line that raised it.
    """
    cause: Hashable = getattr(record, "cause", None)
    if cause is not None:
        return cause
    is_ours = record.name.partition(".")[0] == OURS
    if record.levelno < (logging.WARNING if is_ours else logging.ERROR):
        return None
    if is_ours and not record.exc_info:
        return (record.name, record.getMessage())
    kind, _, traceback = record.exc_info or (None, None, None)
    name = getattr(record, "filter", None)
    return (record.name, record.pathname, record.lineno, name, kind, *_raised_at(traceback))


def _raised_at(traceback: TracebackType | None) -> tuple[str, int]:
    if traceback is None:
        return "", 0
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code.co_filename, traceback.tb_lineno


@dataclass(slots=True)
class _Episode(Generic[Line]):
    since: float
    line: Line | None = None
    count: int = 0


class Repeats(Generic[Line]):
    """Count what is said again; `Line` is what the first one of a cause looked like."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._episodes: dict[Hashable, _Episode[Line]] = {}

    def first(self, cause: Hashable) -> Hashable:
        """Count one more of `cause`; return None, or for the first one the cause to `keep` it as.

        That is `OTHERS` when there are too many causes to tell them apart.
        """
        try:
            episode = self._episodes.get(cause)
        except TypeError:  # not hashable
            cause = repr(cause)
            episode = self._episodes.get(cause)
        if episode is None and len(self._episodes) >= MAX_CAUSES:
            cause = OTHERS
            episode = self._episodes.get(cause)
        if episode is None:
            self._episodes[cause] = _Episode(self._clock())
            return cause
        episode.count += 1
        return None

    def keep(self, cause: Hashable, line: Line) -> None:
        """Keep how the first one of `cause` was told, for telling of the others."""
        self._episodes[cause].line = line

    def due(self, period: float = PERIOD) -> list[tuple[Line, int, float]]:
        """Return line, count and seconds of what was left out for `period` seconds and more.

        Those are counted from zero again; causes of which nothing was left out are forgotten.
        """
        now, told = self._clock(), []
        for cause, episode in list(self._episodes.items()):
            seconds = now - episode.since
            if seconds < period:
                continue
            if episode.count and episode.line is not None:
                told.append((episode.line, episode.count, seconds))
                episode.since, episode.count = now, 0
            else:
                del self._episodes[cause]
        return told
