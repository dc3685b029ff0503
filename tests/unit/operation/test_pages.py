"""What the metrics port answers."""

from __future__ import annotations

from http.client import HTTPResponse

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from filtered_websocket.operation.pages import OperationPages
from filtered_websocket.typing import Request

from ..server_protocol.test_http import read


class One(Collector):
    """One metric, without samples of a later standard."""

    def collect(self) -> list[GaugeMetricFamily]:
        return [GaugeMetricFamily("answer", "The answer.", value=42)]


def ask(
    target: str,
    method: str = "GET",
    *,
    host: str | None = "localhost:9100",
    not_ready: str = "",
    loopback_only: bool = True,
) -> tuple[HTTPResponse, bytes]:
    registry = CollectorRegistry()
    registry.register(One())
    pages = OperationPages(registry, lambda: not_ready, loopback_only=loopback_only)
    headers = [] if host is None else [("Host", host)]
    return read(pages.answer(Request(method, target, headers)), method)


@pytest.mark.parametrize(
    ("target", "not_ready", "status", "begin"),
    [
        ("/health", "starting", 200, b"ok\n"),
        ("/ready", "", 200, b"ready\n"),
        ("/ready", "draining", 503, b"draining\n"),
        ("/metrics", "starting", 200, b"# HELP answer The answer.\n# TYPE answer gauge\nanswer 42"),
        ("/", "", 200, b"<!doctype html>"),
        ("/favicon.ico", "", 404, b"there are /, /metrics, /health and /ready\n"),
        ("/metrics/", "", 404, b"there are"),
    ],
)
def test_each_page(target: str, not_ready: str, status: int, begin: bytes) -> None:
    """GET has the page, HEAD its headers, and other methods are refused."""
    answer, body = ask(target, not_ready=not_ready)
    assert answer.status == status
    assert body.startswith(begin)
    head, nothing = ask(target, "HEAD", not_ready=not_ready)
    assert (head.status, nothing) == (status, b"")
    assert head.headers["Content-Length"] == str(len(body))
    if status != 404:
        refused, _ = ask(target, "POST", not_ready=not_ready)
        assert (refused.status, refused.headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("target", ["/health", "/ready", "/metrics"])
def test_what_changes_is_not_kept(target: str) -> None:
    """A cache between would show what was."""
    answer, _ = ask(target)
    assert answer.headers["Cache-Control"] == "no-store"


def test_metrics_are_of_the_format_that_all_read() -> None:
    """Prometheus learns the version of the format from the header."""
    answer, _ = ask("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")


def test_the_dashboard_may_load_nothing_from_elsewhere() -> None:
    """Its own scripts and styles run, and it may ask this server only."""
    answer, _ = ask("/")
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "connect-src 'self'" in policy and "unsafe" not in policy


@pytest.mark.parametrize(
    ("host", "is_answered"),
    [
        ("localhost", True),
        ("fws.localhost:80", True),
        ("127.0.0.1:9100", True),
        ("[::1]:9100", True),
        ("10.0.0.1", True),  # an address is nobody's name: DNS cannot move it
        (None, True),
        ("chat.example", False),
        ("127.0.0.1.chat.example:9100", False),
        ("", False),
        ("[::1", False),
        ("localhost@chat.example", False),
    ],
)
def test_on_loopback_other_names_are_refused(host: str | None, is_answered: bool) -> None:
    """Else a page of anybody could point its name here and read what this machine does."""
    for target in ("/", "/metrics", "/health", "/ready"):
        answer, _ = ask(target, host=host)
        assert answer.status == (200 if is_answered else 421)


def test_elsewhere_any_name_will_do() -> None:
    """The operator has opened the port, and gives it a name."""
    assert ask("/metrics", host="chat.example", loopback_only=False)[0].status == 200
