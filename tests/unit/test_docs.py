"""The manual names everything that a user can write."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from pathlib import Path

import pytest

from filtered_websocket.filters.base import FilterBase
from filtered_websocket.options import OPTIONS
from filtered_websocket.storage_objects.redis import StorageObject

from ..compliance import expectations

ROOT = Path(__file__).parent.parent.parent
FILTERS = ROOT / "src" / "filtered_websocket" / "filters"
CHAINS = [
    chain.__name__
    for chain in FilterBase.__subclasses__()
    if chain.__module__ == "filtered_websocket.filters.base"
]
BUNDLED = sorted(
    path.stem for path in FILTERS.glob("*.py") if path.stem not in ("__init__", "base")
)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


@pytest.mark.parametrize("chain", CHAINS)
def test_each_chain_has_a_section(chain: str) -> None:
    """Whoever looks for an event finds its chain by its name."""
    assert f"### {chain}\n" in page("filters")


@pytest.mark.parametrize("name", BUNDLED)
def test_each_bundled_filter_has_a_section(name: str) -> None:
    """Whoever reads a start line finds what a filter does."""
    assert f"### {name}\n" in page("filters")


@pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.flags[-1])
def test_each_option_has_a_row(option: object) -> None:
    """Each spelling of each option is in the table."""
    rows = [line for line in page("configuration").splitlines() if line.startswith("| `-")]
    for flag in option.flags:  # type: ignore[attr-defined]
        assert any(f"`{flag}" in row.split(" | ")[0] for row in rows), flag


def test_each_option_of_the_redis_storage_has_a_row() -> None:
    """They stand on the page about Redis."""
    parser = StorageObject.parser(ArgumentParser(add_help=False))
    rows = [line for line in page("redis").splitlines() if line.startswith("| `--")]
    options = [flag for action in parser._actions for flag in action.option_strings]
    assert [flag for flag in options if not any(f"`{flag}" in row for row in rows)] == []


def test_each_case_of_the_test_suite_that_is_not_ok_has_a_row_with_its_reason() -> None:
    """Case, results and reason stand on the page about conformance, and for no other case."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in page("conformance").splitlines()
        if re.match(r"\| \d+\.\d", line)
    ]
    stated = {
        case: (behavior, closing)
        for cases, behavior, closing, reason in rows
        if reason
        for case in cases.split(", ")
    }
    expected = expectations.load()
    assert stated == {case: expected[case] for case in expected if expected[case] != ("OK", "OK")}


def test_the_numbers_of_conformance_are_those_expected() -> None:
    """The page has as many cases with each result as the stored expectations."""
    expected = expectations.load()
    numbers = f"All {len(expected)} cases: {expectations.summary(expected)}."
    assert numbers in page("conformance")
