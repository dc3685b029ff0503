"""How the results of the test suite are chosen and compared; the suite itself is not run here."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

import pytest

from ..compliance import expectations
from ..compliance.__main__ import is_selected


@pytest.mark.parametrize(
    "expected, result",
    [
        (("OK", "OK"), ("FAILED", "OK")),
        (("OK", "OK"), ("OK", "UNCLEAN")),
        (("FAILED", "WRONG CODE"), ("OK", "OK")),
        (("NON-STRICT", "OK"), ("OK", "OK")),
        (("OK", "OK"), None),
    ],
)
def test_any_other_result_is_a_change(
    expected: expectations.Result, result: expectations.Result | None
) -> None:
    """A worse result, a better one and none at all are named with what was expected."""
    results = {"7.1.2": result} if result else {}
    (change,) = expectations.changes({"7.1.2": expected}, results).values()
    assert change.startswith(f"7.1.2: expected {expected[0]}, closing {expected[1]}; got ")
    assert change.endswith(f"{result[0]}, closing {result[1]}" if result else "no result")


def test_the_expected_result_is_no_change() -> None:
    """A case that is expected to fail may."""
    expected = {"7.1.2": ("FAILED", "WRONG CODE")}
    assert expectations.changes(expected, expected) == {}


def test_what_is_written_is_what_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """To record no change changes no byte of the file."""
    before, expected = expectations.FILE.read_text(), expectations.load()
    monkeypatch.setattr(expectations, "FILE", tmp_path / "expectations.json")
    expectations.save(expected)
    assert expectations.FILE.read_text() == before


@pytest.mark.parametrize(
    "chosen, full, count",
    [([], False, 301 + 60), ([], True, 517), (["7.1.2"], False, 1), (["12.1"], False, 18)],
)
def test_cases_are_chosen_by_number(chosen: list[str], full: bool, count: int) -> None:
    """Without names it is the quick selection or all; a name is a case or all below it."""
    options = Namespace(cases=chosen, full=full)
    assert sum(is_selected(case, options) for case in expectations.load()) == count
