"""What the tests of the laws share."""

from __future__ import annotations

from filtered_websocket.testing.laws.check import undisturbed
from filtered_websocket.testing.laws.law import LAWS, Breach
from filtered_websocket.testing.laws.stage import Play, Seen, Stage
from filtered_websocket.testing.laws.story import Cuts, Step, Story
from filtered_websocket.testing.laws.watch import Watch


def play_of(*filters: str, without: str = "", **options: object) -> Play:
    """Return what is checked, for all laws but one."""
    laws = frozenset(LAWS) - {without}
    return Play(filters[0], filters, None, {"ping_interval": 0} | options, laws)


def played(
    play: Play, *steps: Step, cuts: Cuts | None = None
) -> tuple[list[str], Seen, Breach | None]:
    """Play a story; return what was told, what there was to see, and how a law was broken."""
    with undisturbed(), Watch(play.laws) as watch, Stage(play, watch, cuts) as stage:
        breach = stage.play(Story(steps))
        return stage.told, stage.seen, breach
