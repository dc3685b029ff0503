"""How the time that a filter takes grows with the message: bad regexes, loops within loops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

from .law import Breach
from .leaks import PATIENCE
from .stage import Play, Stage
from .story import Leave, Send, Story, Wait, shown
from .watch import Watch

__all__ = ["Pattern", "find", "patterns", "pumped"]

LONGEST = 65536  # characters
STEP = 4  # so many times as long is each message that is measured
FACTOR = 1.5  # by which time may grow more than the message, in each step
FLOOR = 0.03  # seconds of CPU time for the longest, below which its growth does no harm
REPEATS = 3
WHO = "alice"

Pattern = tuple[str, str, str]
"""What a message begins with, what is repeated in it, and what it ends with."""

UNITS = (*'a0 \né,./=&<([{"\\', "a ", "a,")
ENDS = ("", "!", "\x00")


def patterns(constants: Sequence[str]) -> Iterator[Pattern]:
    """Yield patterns of what is bad for many parsers, and of the constants of a module."""
    units = dict.fromkeys((*UNITS, *(letter for text in constants for letter in text), *constants))
    for unit in units:
        for end in ENDS:
            yield "", unit, end
    for constant in constants:
        for unit in ("a", " ", "0", "a "):
            yield constant, unit, "!"


def pumped(message: str | bytes, index: int) -> Pattern:
    """Return the pattern of a message in which one character is repeated."""
    text = message if isinstance(message, str) else message.decode(errors="backslashreplace")
    index %= len(text) or 1
    return text[:index], text[index : index + 1] or " ", text[index + 1 :]


def find(
    play: Play, watch: Watch, story: Story, tried: Iterable[Pattern]
) -> tuple[list[str], Breach] | None:
    """Return story and breach for a pattern whose messages take too much time.

    Of `story` the requests are taken.
    """
    suspects = []
    with Stage(play, watch) as stage:
        for pattern in tried:
            seconds = _time(stage, story, _message(pattern, LONGEST))
            if stage.watch.breaches or seconds > FLOOR:
                suspects.append(pattern)
                break
    for pattern in suspects:
        return _examine(play, watch, story, pattern)
    return None


def _examine(
    play: Play, watch: Watch, story: Story, pattern: Pattern
) -> tuple[list[str], Breach] | None:
    size = 32
    while size <= LONGEST:  # the shortest one that does not come to an end
        with Stage(play, watch) as stage:
            _time(stage, story, _message(pattern, size))
            if breach := stage.breach():
                return stage.told, breach
        size *= STEP // 2
    sizes = [LONGEST // STEP**2, LONGEST // STEP, LONGEST]
    with Stage(play, watch) as stage:
        times = [
            min(_time(stage, story, _message(pattern, size)) for _ in range(REPEATS))
            for size in sizes
        ]
        ratios = [later / max(earlier, 1e-6) for earlier, later in pairwise(times)]
        if times[-1] < FLOOR or min(ratios) < STEP * FACTOR:
            return None
        who = max(stage.watch.longest, key=stage.watch.longest.__getitem__)
        where = stage.watch.definitions.get(who, "")
    seconds = ", ".join(f"{seconds:.2g} s" for seconds in times)
    what = f"the filter {who} took {seconds} of CPU time for these"
    told = [f"{WHO} sent {shown(_message(pattern, size))}" for size in sizes]
    return told, Breach("time", (what, where), is_slow=True)


def _message(pattern: Pattern, size: int) -> str:
    begin, unit, end = pattern
    return begin + unit * (size // len(unit)) + end


def _time(stage: Stage, story: Story, message: str) -> float:
    """Let a client send a message; return the CPU time of the filter that took longest."""
    stage.told.clear()
    stage.watch.longest.clear()
    if stage.run(Story((Send(WHO, message), Leave(WHO, is_abrupt=True)), story.asks)) is None:
        stage.run(Story((Wait(PATIENCE),)))
    return max(stage.watch.longest.values(), default=0.0)
