"""The soak test, which is too long to run each time, can still count what it looks for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..soak import __main__ as soak
from .wire import Start

FILTERS = str(Path(soak.__file__).parent)


@pytest.mark.slow
def test_what_is_left_behind_can_be_counted(start_server: Start) -> None:
    """All that may not grow is there to be looked at, and nothing has grown in an idle server."""
    paths = [FILTERS, os.environ.get("PYTHONPATH", "")]
    server = start_server(*soak.OPTIONS, environ={"PYTHONPATH": os.pathsep.join(paths)})
    before, after = (soak.counted((server.port, None)) for _ in range(2))
    assert before.keys() - {"types"} >= soak.MARGINS.keys() | {"users", "parsers", "pings"}
    assert soak.grown(before, after) == []
