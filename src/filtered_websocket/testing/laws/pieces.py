"""Whether it makes a difference how bytes are cut: play a story twice, and compare."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

from .law import Breach
from .stage import Play, Seen, Stage
from .story import Cuts, Story, shown
from .watch import Watch

__all__ = ["compare"]

OF_FIELDS = ("", "the close codes are", "the message chain leaves", "the storage has")
"""What is said of the fields of `Seen`."""


def compare(
    play: Play, watch: Watch, story: Story, whole: Seen, cuts: Cuts
) -> tuple[list[str], Breach] | None:
    """Return story and breach when another thing comes of `story` in pieces than `whole`."""
    stage, breach = _play(play, watch, story, cuts)
    if breach is not None:
        return stage.told, breach
    if _differences(whole, stage.seen) == []:
        return None
    # What is not even the same in two equal plays, such as the time of day, tells nothing.
    again, _ = _play(play, watch, story, None)
    unsteady = {where for where, _, _ in _differences(whole, again.seen)}
    for where, expected, found in _differences(whole, stage.seen):
        if not any(where[: len(u)] == u or u[: len(where)] == where for u in unsteady):
            return stage.told[: stage.acts], _breach(stage, where, expected, found)
    return None


def _play(play: Play, watch: Watch, story: Story, cuts: Cuts | None) -> tuple[Stage, Breach | None]:
    with Stage(play, watch, cuts) as stage:
        return stage, stage.play(story)


def _breach(stage: Stage, where: tuple[Any, ...], expected: Any, found: Any) -> Breach:
    data_filters = [name for name, _ in stage.pipeline.server.data_chain.steps]
    names = data_filters or sorted(stage.watch.ran)
    who = f"the filter {names[0]}" if len(names) == 1 else f"one of the filters {', '.join(names)}"
    field, *inner = where
    if field == 0 and (found is None or expected is None):
        how = "was let in" if expected is None else "was not let in"
        what = f"{inner[0].partition(',')[0]} {how}; with the request in one piece it is not so"
        return Breach("pieces", (what, f"{who} made the difference"))
    subject = f"{inner[0].partition(',')[0]} received" if field == 0 else OF_FIELDS[field]
    what = f"{subject} {shown(found)}; with each message in one piece it is {shown(expected)}"
    return Breach("pieces", (what, f"{who} made the difference"))


def _differences(one: Seen, other: Seen) -> list[tuple[tuple[Any, ...], Any, Any]]:
    """Return where two plays differ, and what there is to see in each."""
    found: list[tuple[tuple[Any, ...], Any, Any]] = []
    for field, (left, right) in enumerate(zip(astuple(one), astuple(other), strict=True)):
        if isinstance(left, dict):
            for key in left | right:
                found += _of_values((field, key), left.get(key), right.get(key))
        else:
            found += _of_values((field,), left, right)
    return found


def _of_values(where: tuple[Any, ...], left: Any, right: Any) -> list[Any]:
    if left == right:
        return []
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        pairs = zip(left, right, strict=True)
        return [((*where, index), a, b) for index, (a, b) in enumerate(pairs) if a != b]
    return [(where, left, right)]
