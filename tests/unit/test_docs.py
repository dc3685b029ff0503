"""The manual names everything that a user can write."""

from __future__ import annotations

import ast
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import fields
from importlib import import_module
from pathlib import Path

import pytest

from filtered_websocket.filters.base import FilterBase
from filtered_websocket.migration import GONE, GUIDE
from filtered_websocket.operation.metrics import ServerCollector
from filtered_websocket.options import OPTIONS, default_parser
from filtered_websocket.server import FilteredWebSocketFactory
from filtered_websocket.server_protocol.limits import Limits
from filtered_websocket.storage_objects.redis import StorageObject

from ..compliance import expectations

ROOT = Path(__file__).parent.parent.parent
SOURCE = ROOT / "src" / "filtered_websocket"
FILTERS = SOURCE / "filters"
CHAINS = [
    chain.__name__
    for chain in FilterBase.__subclasses__()
    if chain.__module__ == "filtered_websocket.filters.base"
]
BUNDLED = sorted(
    path.stem for path in FILTERS.glob("*.py") if path.stem not in ("__init__", "base", "metered")
)

CLOSE_CODES = range(1000, 1016)
STATUSES = range(200, 600)


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def table(name: str, first: str) -> dict[str, list[str]]:
    """Return the rows of the table on a page whose first column is headed `first`."""
    _, _, rest = page(name).partition(f"\n| {first} |")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells, first
    return {key.strip("`"): values for key, *values in cells}


def numbers_in(*places: str) -> Iterator[int]:
    """Yield the integers in these modules, except in the check of codes that filters choose."""
    for place in places:
        for path in SOURCE.glob(place):
            for node in ast.parse(path.read_text()).body:
                if getattr(node, "name", "") != "_is_close_code":
                    for part in ast.walk(node):
                        if isinstance(part, ast.Constant) and type(part.value) is int:
                            yield part.value


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


def test_each_limit_has_a_row_with_its_default() -> None:
    """What bounds peers is what becomes `Limits`; `--drain_seconds` bounds the stop."""
    defaults = vars(default_parser().parse_args([], Namespace()))
    read = {"drain_seconds"}

    class Options:
        def __getattr__(self, name: str) -> object:
            read.add(name)
            return defaults[name]

    Limits.of(Options())  # type: ignore[arg-type]
    rows = table("limits", "option")
    stated = {option: re.split("[ ,]", default)[0] for option, (_, default, _) in rows.items()}
    assert stated == {
        f"--{name}": "none" if defaults[name] is None else f"`{defaults[name]}`".replace(".0`", "`")
        for name in read
    }


def test_each_limit_without_an_option_has_the_value_of_its_constant() -> None:
    """Whoever reads the number can find it in the source, and it is still the same."""
    for constant, (_, stated, _) in table("limits", "constant").items():
        place, _, name = constant.rpartition(".")
        owner = Limits() if place == "Limits" else import_module(f"filtered_websocket.{place}")
        assert float(stated.split("`")[1]) == getattr(owner, name), constant


def test_each_field_of_limits_is_an_option_or_has_a_row() -> None:
    """A bound that no option sets is in the second table."""

    class Given(Limits):
        def __init__(self, **fields: object) -> None:
            optional.update(fields)

    optional: set[str] = set()
    Given.of(default_parser().parse_args([], Namespace()))
    rows = {constant.removeprefix("Limits.") for constant in table("limits", "constant")}
    assert {field.name for field in fields(Limits)} - optional == {
        row for row in rows if "." not in row
    }


def test_each_close_code_in_the_source_has_a_row() -> None:
    """And those of the page that the server sends are in the source."""
    sent = {int(code) for code, (by, *_) in table("limits", "code").items() if by != "nobody"}
    places = ("server.py", "server_protocol/*.py", "options.py")
    assert sent == {number for number in numbers_in(*places) if number in CLOSE_CODES}


def test_each_http_status_in_the_source_has_a_row() -> None:
    """101 is part of a text there, and 443 a port."""
    stated = {int(status) for status in table("limits", "status")}
    answered = {n for n in numbers_in("server_protocol/*.py") if n in STATUSES}
    assert stated - {101} == answered - {443}


def test_each_option_of_the_redis_storage_has_a_row() -> None:
    """They stand on the page about Redis."""
    parser = StorageObject.parser(ArgumentParser(add_help=False))
    rows = [line for line in page("redis").splitlines() if line.startswith("| `--")]
    options = [flag for action in parser._actions for flag in action.option_strings]
    assert [flag for flag in options if not any(f"`{flag}" in row for row in rows)] == []


def documented_metrics() -> dict[str, set[str]]:
    """Return the labels of each metric that the manual has, by its name."""
    rows: dict[str, list[str]] = {}
    for part in page("metrics").split("\n\n"):
        if part.startswith("| metric |"):
            cells = [
                [c.strip() for c in row.strip("|").split("|")] for row in part.splitlines()[2:]
            ]
            rows |= {key.strip("`"): values for key, *values in cells}
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, (labels, _) in rows.items()}


async def test_each_metric_has_a_row_with_its_labels(empty_chains: None) -> None:
    """Those of the server and of the Redis storage are in the tables, and nothing else is."""
    storage = StorageObject(StorageObject.parser(ArgumentParser()).parse_args([]))
    limits = Limits(connections=1)
    factory = FilteredWebSocketFactory(storage_object=storage, limits=limits, metered=True)
    shown = {
        f"{metric.name}_total" if metric.type == "counter" else metric.name: set(
            metric._labelnames  # type: ignore[attr-defined]
        )
        for metric in ServerCollector(factory, str).collect()
    }
    await factory.close(0)
    assert documented_metrics() == shown


def test_each_reason_of_a_refusal_has_a_row() -> None:
    """What `ProtocolError` and the handshake count as is in the table of the metrics."""
    found = set()
    for path in (SOURCE / "server_protocol").glob("*.py"):
        found |= set(re.findall(r'(?:\bkind(?:: str)? ?= ?|_refuse\(\s*)"(\w+)"', path.read_text()))
    assert set(table("metrics", "reason")) == found


def test_the_page_that_errors_name_is_there() -> None:
    """Its path is that of the repository."""
    assert (ROOT / GUIDE).is_file()


def test_the_limits_that_0_4_1_did_not_have_are_those_of_the_other_page() -> None:
    """Option and default are the same on both."""
    limits = table("limits", "option")
    for option, (default, _) in table("from-0.4.1", "option").items():
        assert default == limits[option][1], option


@pytest.mark.parametrize("name", GONE)
def test_each_name_that_is_gone_has_a_word(name: str) -> None:
    """Whoever is sent to the page about 0.4.1 by an error finds the name there."""
    assert f"`{name.rpartition('.')[2]}`" in page("from-0.4.1")


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


def test_published_figures_are_those_of_their_csv(monkeypatch: pytest.MonkeyPatch) -> None:
    """README, the page and the plot have what the benchmarks write for the stored medians."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    report = import_module("report")
    rows = report.read(report.CSV)
    for path, text in report.pages(rows).items():
        assert report.BEGIN + text + report.END in path.read_text()
    assert report.origin(rows) in report.PLOT.read_text()
    table = report.targets_table(report.read(report.TARGETS))
    assert report.TARGETS_BEGIN + table + report.TARGETS_END in report.PAGE.read_text()
