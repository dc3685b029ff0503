"""The configuration for Prometheus that the manual shows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml

from .test_docs import documented_metrics, page

EXAMPLES = Path(__file__).parents[2] / "examples"
HISTOGRAMS = ("fws_loop_lag_seconds", "fws_ping_seconds", "fws_filter_seconds")
OF_OTHERS = {"up", "process_open_fds", "process_max_fds"}
OF_PROMETHEUS = {"instance", "job"}
RULES = yaml.safe_load((EXAMPLES / "alerts.yml").read_text())["groups"][0]["rules"]


def selectors(node: Any) -> list[Any]:
    """Return the selectors of an expression that is parsed."""
    found = []
    for name in ("lhs", "rhs", "expr", "vector_selector"):
        if (child := getattr(node, name, None)) is not None:
            found += selectors(child)
    for child in getattr(node, "args", ()):
        found += selectors(child)
    return [node] if isinstance(node, promql_parser.VectorSelector) else found


def labels_of(metric: str) -> set[str]:
    """Return the labels of a metric as the manual has them; fail when it has none of this name."""
    if metric in OF_OTHERS:
        return set()
    for histogram in HISTOGRAMS:
        if metric.startswith(histogram):
            metric = histogram
    return documented_metrics()[metric]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_each_rule_asks_for_what_there_is(rule: dict[str, Any]) -> None:
    """It is PromQL, over metrics and labels of the exporter, and says what is the matter."""
    assert set(rule) <= {"alert", "expr", "for", "annotations"}
    found = selectors(promql_parser.parse(rule["expr"]))
    assert found
    for selector in found:
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= labels_of(selector.name) | OF_PROMETHEUS
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= OF_PROMETHEUS.union(*(labels_of(selector.name) for selector in found))


def test_each_alert_that_the_manual_names_is_there() -> None:
    """Those that wake somebody up are rules."""
    named = set(re.findall(r"`(Fws\w+)`", page("production")))
    assert named and named <= {rule["alert"] for rule in RULES}


def test_the_imbalance_of_a_ledger_is_an_alert() -> None:
    """Nothing else would tell an operator of it."""
    assert "fws_ledger_imbalance != 0" in [rule["expr"] for rule in RULES]


def test_the_scrape_configuration_fits_the_rules() -> None:
    """It names the file of the rules, and the job that they ask for."""
    config = yaml.safe_load((EXAMPLES / "prometheus.yml").read_text())
    assert config["rule_files"] == ["alerts.yml"]
    assert [job["job_name"] for job in config["scrape_configs"]] == ["fws"]
