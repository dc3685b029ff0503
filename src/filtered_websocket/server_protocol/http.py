"""Answers to HTTP requests that do not become connections.

What belongs here: what is answered, as bytes. What does not: reading the request (`handshake`).
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from http import HTTPStatus
from importlib import resources
from typing import Protocol as Interface

from multidict import CIMultiDict

from ..typing import Request
from .exception import ProtocolError

__all__ = ["Pages", "PlainPages", "html_page", "response", "upgrade_required"]


def response(
    status: int,
    body: bytes | str = b"",
    headers: Mapping[str, str] | None = None,
    *,
    with_body: bool = True,
) -> bytes:
    """Return a whole response after which the connection is closed (RFC 9112).

    Its `Content-Type` is plain text unless `headers` says otherwise; without body for HEAD.
    """
    if isinstance(body, str):
        body = body.encode(errors="backslashreplace") + b"\n"
    fields = CIMultiDict({"Content-Type": "text/plain; charset=utf-8", "Connection": "close"})
    fields.update(headers or {})
    fields["Content-Length"] = str(len(body))
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    head = f"HTTP/1.1 {status} {phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return head.encode("latin-1", "replace") + b"\r\n" + (body if with_body else b"")


class Pages(Interface):
    """Answer requests that do not become connections."""

    @property
    def upgrades(self) -> bool:
        """Whether those that ask for a WebSocket may become connections."""
        ...

    def answer(self, request: Request) -> bytes:
        """Return the response to a request that does not become a connection.

        Raises ProtocolError for one that was meant to.
        """
        ...


class PlainPages:
    """Answer requests that do not ask for a WebSocket: the console page, the health checks."""

    upgrades = True

    def __init__(self, *, console: bool, not_ready: Callable[[], str] = str) -> None:
        """Let `not_ready` say why no clients should be sent here; "" when they should."""
        self._console = html_page(__package__, "console.html") if console else None
        self._not_ready = not_ready

    def answer(self, request: Request) -> bytes:
        """Return the response to a request without `Upgrade: websocket`.

        Raises ProtocolError for a handshake that has lost it on its way.
        """
        if request.method == "GET" and "Sec-WebSocket-Key" in request.headers:
            raise ProtocolError(
                "this looks like a WebSocket handshake, but `Upgrade: websocket` is missing: "
                "a proxy in between must speak HTTP/1.1 and pass on Upgrade and Connection",
                426,
                kind="no_upgrade",
            )
        with_body = request.method != "HEAD"
        is_read = request.method in ("GET", "HEAD")
        if is_read and request.path == "/health":
            return response(200, "ok", {"Cache-Control": "no-store"}, with_body=with_body)
        if is_read and request.path == "/ready":
            reason = self._not_ready()
            headers = {"Cache-Control": "no-store"}
            return response(503 if reason else 200, reason or "ready", headers, with_body=with_body)
        if is_read and request.path == "/" and self._console is not None:
            body, headers = self._console
            return response(200, body, headers, with_body=with_body)
        if is_read and request.path != "/":
            return response(404, "nothing here but WebSocket connections", with_body=with_body)
        return upgrade_required(
            "this is a WebSocket server: connect with a WebSocket client", with_body=with_body
        )


def upgrade_required(
    reason: str, headers: Mapping[str, str] | None = None, *, with_body: bool = True
) -> bytes:
    """Return the response that asks for a WebSocket handshake (RFC 9110 section 15.5.22)."""
    fields = {"Upgrade": "websocket", "Connection": "Upgrade, close"} | dict(headers or {})
    return response(426, reason, fields, with_body=with_body)


def html_page(package: str, name: str) -> tuple[bytes, dict[str, str]]:
    """Return a page of a package, and headers that allow it its own scripts and styles only.

    Their elements have no attributes.
    """
    page = resources.files(package).joinpath(name).read_bytes()
    policy = (
        f"default-src 'none'; script-src {_hashes_of(page, b'script')}; "
        f"style-src {_hashes_of(page, b'style')}; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return page, {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-cache",
    }


def _hashes_of(page: bytes, element: bytes) -> str:
    found = re.findall(rb"<%b>(.*?)</%b>" % (element, element), page, re.DOTALL)
    assert found, f"the page has no <{element.decode()}> without attributes"
    return " ".join(f"'sha256-{b64encode(sha256(text).digest()).decode()}'" for text in found)
