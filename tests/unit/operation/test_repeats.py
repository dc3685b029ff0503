"""Telling each cause once a second, and counting the rest."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Hashable
from typing import Any

import pytest

from filtered_websocket.operation.repeats import MAX_CAUSES, OTHERS, Repeats, cause_of


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def repeats(clock: Clock) -> Repeats[str]:
    return Repeats(clock)


def say(repeats: Repeats[str], cause: Hashable, times: int = 1) -> list[str]:
    """Return what is told of a cause that comes up so often."""
    lines = []
    for number in range(times):
        kept = repeats.first(cause)
        if kept is not None:
            repeats.keep(kept, f"{kept} {number}")
            lines.append(f"{kept} {number}")
    return lines


def record(
    name: str = "filtered_websocket.server", level: int = logging.WARNING, **given: Any
) -> logging.LogRecord:
    fields = {"name": name, "levelno": level, "pathname": "a.py", "lineno": 1} | given
    return logging.makeLogRecord(fields)


def failed(function: Callable[[], object]) -> Any:
    try:
        function()
    except Exception:
        return sys.exc_info()
    raise AssertionError("it did not fail")


# What is one cause


def test_what_is_limited() -> None:
    """Warnings of the server, errors of anybody, and what names its cause; nothing else."""
    assert cause_of(record(level=logging.INFO)) is None
    assert cause_of(record()) is not None
    assert cause_of(record("filtered_websocket_of_mine")) is None
    assert cause_of(record("chat", logging.WARNING)) is None
    assert cause_of(record("chat", logging.ERROR)) is not None
    assert cause_of(record("chat", logging.DEBUG, cause=("x", 1))) == ("x", 1)


def test_what_tells_causes_apart() -> None:
    """What the server says; else logger, line, filter, and the error's type and place."""

    def one() -> object:
        return int("x")

    def another() -> object:
        return int("y")

    class Other(Exception):
        pass

    def other() -> object:
        raise Other

    causes = [
        cause_of(record(**given))
        for given in (
            {"msg": "one"},
            {"msg": "two"},
            {"msg": "%s", "args": ("three",)},
            {"name": "filtered_websocket.users"},
            {"name": "chat", "level": logging.ERROR},
            {"name": "chat", "level": logging.ERROR, "lineno": 2},
            {"filter": "a.A", "exc_info": (Other, Other(), None)},
            {"filter": "b.B", "exc_info": (Other, Other(), None)},
            {"exc_info": failed(one)},
            {"exc_info": failed(another)},
            {"exc_info": failed(other)},
            {"exc_info": (Other, Other(), None)},
        )
    ]
    assert len(set(causes)) == len(causes)
    assert cause_of(record(exc_info=failed(one))) in causes


# Telling and counting


def test_the_first_is_told_and_the_others_counted(clock: Clock, repeats: Repeats[str]) -> None:
    """Each cause apart; what is left out is due a second after the first one."""
    assert say(repeats, "a", 4) == ["a 0"]
    assert say(repeats, "b", 2) == ["b 0"]
    clock.now += 0.9
    assert repeats.due() == []
    clock.now += 0.6
    assert repeats.due() == [("a 0", 3, 1.5), ("b 0", 1, 1.5)]


def test_what_goes_on_is_counted_once_a_second(clock: Clock, repeats: Repeats[str]) -> None:
    """As long as it comes again there is one line for each second, and nothing goes uncounted."""
    told = len(say(repeats, "a", 10))
    for _ in range(5):
        clock.now += 1
        ((_, count, seconds),) = repeats.due()
        assert seconds == 1
        told += count + len(say(repeats, "a", 10))
    assert told == 50
    assert repeats.due(0) == [("a 0", 10, 0)]


def test_what_is_over_is_news_again(clock: Clock, repeats: Repeats[str]) -> None:
    """A second without another one ends it, also after a count; nothing is remembered."""
    say(repeats, "a", 2)
    say(repeats, "b")
    clock.now += 1
    assert [line for line, _, _ in repeats.due()] == ["a 0"]
    assert say(repeats, "b") == ["b 0"]
    clock.now += 1
    assert repeats.due() == []
    assert say(repeats, "a") == ["a 0"]
    clock.now += 1
    assert repeats.due() == []
    assert repeats._episodes == {}


def test_causes_without_number_are_bounded_and_counted(repeats: Repeats[str]) -> None:
    """Whoever makes up a cause for each client fills neither log nor memory."""
    lines = [line for number in range(1000) for line in say(repeats, number)]
    assert lines == [f"{number} 0" for number in range(MAX_CAUSES)] + [f"{OTHERS} 0"]
    assert repeats.due(0) == [(f"{OTHERS} 0", 1000 - MAX_CAUSES - 1, 0)]


def test_a_cause_that_cannot_be_a_key(repeats: Repeats[str]) -> None:
    """It is one by what it looks like."""
    assert say(repeats, ["x"], 2) == ["['x'] 0"]  # type: ignore[arg-type]
