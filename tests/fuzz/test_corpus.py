"""All that the fuzzer begins with, and all that it has found: needs no fuzzer."""

from __future__ import annotations

from pathlib import Path

import pytest

from .targets import TARGETS
from .virtual import running

CORPUS = Path(__file__).parent / "corpus"
INPUTS = sorted(CORPUS.glob("*/*"))


@pytest.mark.parametrize("file", INPUTS, ids=lambda file: f"{file.parent.name}/{file.name}")
def test_a_known_input_harms_nobody(file: Path) -> None:
    """What its target says has to hold holds for it."""
    with running():
        TARGETS[file.parent.name](file.read_bytes())


def test_each_target_has_a_corpus() -> None:
    """No target begins with nothing, and no folder is of a target that is gone."""
    assert {file.parent.name for file in INPUTS} == set(TARGETS)
