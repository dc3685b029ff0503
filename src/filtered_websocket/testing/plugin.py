"""Fixtures for pytest, which finds them by itself where this package is installed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from .pipeline import Pipeline

__all__ = ["fws_pipeline"]


@pytest.fixture
def fws_pipeline() -> Iterator[Callable[..., Pipeline]]:
    """Return what makes a `Pipeline` of its arguments; at the end of the test it is closed."""
    from .pipeline import Pipeline  # here, since pytest loads plugins also where nobody uses them

    with ExitStack() as pipelines:

        def make(*filters: str, **options: Any) -> Pipeline:
            return pipelines.enter_context(Pipeline(*filters, **options))

        yield make
