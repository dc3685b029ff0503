"""Where runs find the modules that they name: as `fws_server` does, and beside the test first.

pytest lets the folders of all tests be searched, those of the last ones first. So a filter beside a
test would be another one of the same name, as soon as two folders are tested together.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["note_folder", "with_own_folders"]

_folder_of_test = ""


def note_folder(folder: str) -> None:
    """Note where the test is that runs now."""
    global _folder_of_test
    _folder_of_test = folder


@contextmanager
def with_own_folders() -> Iterator[None]:
    """Let the block import from the folder of the test, and from the current directory.

    The first comes before all others, where pytest has it at all; the second behind them.
    """
    path = sys.path
    first = [_folder_of_test] if _folder_of_test in path else []
    last = [here] if (here := os.getcwd()) not in path else []
    path[:] = first + path + last
    try:
        yield
    finally:
        for folder in first + last:
            with suppress(ValueError):  # the test has done so
                path.remove(folder)
