"""The laws, and the story that tells how a filter breaks one of them."""

from __future__ import annotations

import linecache
import os
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType, TracebackType

from ...importer import NOT_THE_AUTHORS

__all__ = ["LAWS", "Breach", "LawBroken"]

LAWS = {
    "exceptions": "no event makes a filter raise",
    "pieces": "it makes no difference how messages are cut into fragments and chunks",
    "leaks": "nothing is kept of a connection that is gone",
    "time": "no event takes long, and a longer message no more than its share",
    "blocking": "nothing blocks the event loop",
}
"""The laws by the names that `check_filter(without=…)` knows."""


@dataclass(frozen=True)
class Breach:
    """Say how a law was broken: `what` has the last sentences of the story.

    A slow one takes too long to try it a thousand times.
    """

    law: str
    what: tuple[str, ...]
    is_slow: bool = False


class LawBroken(AssertionError):
    """Report a filter that breaks a law."""

    def __init__(self, module: str, law: str, story: Sequence[str]) -> None:
        self.law = law
        """The name of the law, as in `check_filter(without=…)`."""
        self.story = tuple(story)
        """The sentences that show how, the last of them with the line of the filter."""
        told = "".join(f"\n  {sentence}" for sentence in story)
        super().__init__(f'{module} breaks the law "{law}" ({LAWS[law]}):{told}')


def place(file: str, line: int) -> str:
    """Return a line of source and where it is, as a last sentence."""
    here = os.getcwd() + os.sep
    source = linecache.getline(file, line).strip()
    return f"{file.removeprefix(here)}:{line}" + (f": {source}" if source else "")


def place_of_error(traceback: TracebackType | None, modules: set[str]) -> tuple[str, str] | None:
    """Return module and place of the last call in a traceback that is in code of an author."""
    found = None
    while traceback is not None:
        frame = traceback.tb_frame
        if is_authors(frame, modules):
            where = place(frame.f_code.co_filename, traceback.tb_lineno)
            found = frame.f_globals.get("__name__", "a filter"), where
        traceback = traceback.tb_next
    return found


def is_authors(frame: FrameType, modules: set[str]) -> bool:
    """Tell the code of a filter, or of what it has imported, from Python's and from ours."""
    if frame.f_globals.get("__name__") in modules:
        return True
    return not frame.f_code.co_filename.startswith(NOT_THE_AUTHORS + ("<",))
