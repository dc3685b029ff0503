"""Fixtures for pytest, which finds them by itself where this package is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from .import_path import note_folder

if TYPE_CHECKING:
    from .filter_run import FilterRun
    from .pipeline import Pipeline
    from .server import Server

__all__ = ["fws_pipeline", "fws_server"]

Run = TypeVar("Run", bound="FilterRun")

# The classes are imported late, since pytest loads plugins also where nobody uses them.


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let runs of this test find the modules that are beside it."""
    note_folder(str(item.path.parent))


@pytest.fixture
def fws_pipeline() -> Iterator[Callable[..., Pipeline]]:
    """Return what makes a `Pipeline` of its arguments; at the end of the test it is closed."""
    from .pipeline import Pipeline

    yield from _made(Pipeline)


@pytest.fixture
def fws_server() -> Iterator[Callable[..., Server]]:
    """Return what makes a `Server` of its arguments; at the end of the test it is closed."""
    from .server import Server

    yield from _made(Server)


def _made(kind: Callable[..., Run]) -> Iterator[Callable[..., Run]]:
    with ExitStack() as runs:

        def make(*filters: str, **options: Any) -> Run:
            run = kind(*filters, **options)
            runs.callback(run.close)
            return run

        yield make
