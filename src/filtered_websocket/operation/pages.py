"""What the metrics port answers: metrics, health, readiness and the dashboard page."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import CollectorRegistry

from ..counters import Counters
from ..server_protocol.handshake import Connection
from ..server_protocol.http import html_page, response
from ..server_protocol.origins import is_loopback
from ..typing import Request

__all__ = ["NoConnections", "OperationPages"]

NO_STORE = {"Cache-Control": "no-store"}


class OperationPages:
    """Answer the requests of operators and of what watches for them; none becomes a connection."""

    upgrades = False

    def __init__(
        self,
        registry: CollectorRegistry,
        not_ready: Callable[[], str],
        *,
        loopback_only: bool,
    ) -> None:
        """Show what `registry` collects; `not_ready` says why the server is not, or "".

        `loopback_only` tells that only this machine can ask. Then a name of another machine is
        refused: it may point here for a moment only, for a page of somebody else (DNS rebinding).
        """
        self._registry = registry
        self._not_ready = not_ready
        self._loopback_only = loopback_only
        self._dashboard = html_page(__package__, "dashboard.html")
        self._answers: Mapping[str, Callable[[Request], tuple[int, bytes, dict[str, str]]]] = {
            "/": self._show_dashboard,
            "/metrics": self._show_metrics,
            "/health": self._show_health,
            "/ready": self._show_readiness,
        }

    def answer(self, request: Request) -> bytes:
        """Return the response to a request of any kind."""
        status, body, headers = self._answer(request)
        return response(status, body, headers, with_body=request.method != "HEAD")

    def _answer(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        if self._loopback_only and not _is_address_or_here(request.headers.get("Host")):
            return 421, b"this is for the machine itself: ask for localhost\n", {}
        answer = self._answers.get(request.path)
        if answer is None:
            return 404, b"there are /, /metrics, /health and /ready\n", {}
        if request.method not in ("GET", "HEAD"):
            return 405, b"only GET and HEAD are answered here\n", {"Allow": "GET, HEAD"}
        return answer(request)

    def _show_dashboard(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        body, headers = self._dashboard
        return 200, body, headers

    def _show_metrics(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        # Not OpenMetrics, whatever is asked for: there, `x` and `x_total` are the same name.
        headers = {"Content-Type": CONTENT_TYPE_PLAIN_0_0_4, **NO_STORE}
        return 200, generate_latest(self._registry), headers

    def _show_health(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        return 200, b"ok\n", NO_STORE

    def _show_readiness(self, request: Request) -> tuple[int, bytes, dict[str, str]]:
        reason = self._not_ready()
        return 503 if reason else 200, (reason or "ready").encode() + b"\n", NO_STORE


class NoConnections:
    """Be what an `Acceptor` needs of a server, for a port that only answers requests."""

    wants_raw_data = False
    compresses = False

    def __init__(self, spawn: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self.counters = Counters()
        self.spawn = spawn

    def buildProtocol(self, address: str) -> Connection:
        raise NotImplementedError


def _is_address_or_here(host: str | None) -> bool:
    """Tell whether a Host header names this machine, or an address, which nobody can redirect."""
    if host is None:  # of HTTP/1.0, which no browser speaks
        return True
    try:
        name = urlsplit("//" + host).hostname or ""
        if is_loopback(name):
            return True
        ip_address(name)
    except ValueError:
        return False
    return True
