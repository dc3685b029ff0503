"""Answers to HTTP requests that do not become connections."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from http.client import HTTPResponse
from io import BytesIO
from typing import Any

import pytest

from filtered_websocket.server_protocol.exception import ProtocolError
from filtered_websocket.server_protocol.http import PlainPages, response
from filtered_websocket.typing import Request

HOST = ("Host", "localhost")


def read(answer: bytes, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    """Read an answer as Python's own client does."""

    class FakeSocket:
        def makefile(self, mode: str) -> BytesIO:
            return BytesIO(answer)

    parsed = HTTPResponse(FakeSocket(), method=method)  # type: ignore[arg-type]
    parsed.begin()
    return parsed, parsed.read()


def ask(
    target: str, method: str = "GET", *, console: bool = True, **headers: str
) -> tuple[HTTPResponse, bytes]:
    fields = [HOST, *((name.replace("_", "-"), value) for name, value in headers.items())]
    return read(PlainPages(console=console).answer(Request(method, target, fields)), method)


@pytest.mark.parametrize(
    ("status", "reason"), [(403, "Forbidden"), (426, "Upgrade Required"), (599, "")]
)
def test_a_response_is_whole(status: int, reason: str) -> None:
    """Status, length and body fit together, and the connection ends with it."""
    parsed, body = read(response(status, "żółw", {"X-Why": "because"}))
    assert (parsed.status, parsed.reason, body) == (status, reason, "żółw\n".encode())
    assert parsed.headers["Content-Length"] == str(len(body))
    assert parsed.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert parsed.headers["Connection"] == "close"
    assert parsed.headers["X-Why"] == "because"


@pytest.mark.parametrize(
    ("method", "target", "console", "status", "begin"),
    [
        ("GET", "/", True, 200, b"<!doctype html>"),
        ("GET", "/?room=a", True, 200, b"<!doctype html>"),
        ("GET", "/", False, 426, b"this is a WebSocket server"),
        ("GET", "/health", True, 200, b"ok\n"),
        ("GET", "/health", False, 200, b"ok\n"),
        ("GET", "/chat", True, 404, b"nothing here but WebSocket"),
        ("GET", "/favicon.ico", False, 404, b"nothing here but WebSocket"),
        ("POST", "/", True, 426, b"this is a WebSocket server"),
        ("POST", "/health", True, 426, b"this is a WebSocket server"),
        ("DELETE", "/chat", True, 426, b"this is a WebSocket server"),
        ("OPTIONS", "*", True, 426, b"this is a WebSocket server"),
    ],
)
def test_what_is_answered(
    method: str, target: str, console: bool, status: int, begin: bytes
) -> None:
    """The console at /, `ok` at /health, 404 for other pages and 426 for other methods."""
    parsed, body = ask(target, method, console=console)
    assert parsed.status == status
    assert body.lower().startswith(begin.lower())
    if status == 426:
        assert parsed.headers["Upgrade"] == "websocket"
        assert "upgrade" in parsed.headers["Connection"].lower()


@pytest.mark.parametrize(
    ("reason", "status", "text"), [("", 200, b"ready\n"), ("draining", 503, b"draining\n")]
)
def test_readiness(reason: str, status: int, text: bytes) -> None:
    """/ready has the reason why no clients should be sent here, and /health is 200 all the same."""
    pages = PlainPages(console=False, not_ready=lambda: reason)
    for method, expected in (("GET", text), ("HEAD", b"")):
        parsed, body = read(pages.answer(Request(method, "/ready", [HOST])), method)
        assert (parsed.status, body) == (status, expected)
        assert parsed.headers["Cache-Control"] == "no-store"
    assert read(pages.answer(Request("GET", "/health", [HOST])))[0].status == 200


@pytest.mark.parametrize("target", ["/", "/health", "/ready", "/chat"])
def test_head_is_get_without_the_body(target: str) -> None:
    """A HEAD request gets the same status and headers."""
    (head, nothing), (get, body) = ask(target, "HEAD"), ask(target)
    assert (head.status, head.getheaders()) == (get.status, get.getheaders())
    assert nothing == b""
    assert int(get.headers["Content-Length"]) == len(body)
    raw = PlainPages(console=True).answer(Request("HEAD", target, [HOST]))
    assert raw.endswith(b"\r\n\r\n")


def test_a_proxy_that_drops_upgrade_is_named() -> None:
    """A handshake without its Upgrade header comes through a proxy that needs a setting."""
    with pytest.raises(ProtocolError, match="a proxy in between") as refused:
        ask("/", Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==")
    assert (refused.value.status, refused.value.kind) == (426, "no_upgrade")


class Page(HTMLParser):
    """Collect scripts, styles and what the page would load from elsewhere."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.inline: dict[str, list[str]] = {"script": [], "style": []}
        self.loads: list[str] = []
        self.handlers: list[str] = []
        self._open = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, Any]]) -> None:
        self._open = tag
        for name, value in attributes:
            if name in ("src", "href", "action") and not str(value).startswith(("data:", "#")):
                self.loads.append(f"{tag} {name}={value}")
            if name == "style" or name.startswith("on"):
                self.handlers.append(f"{tag} {name}")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.inline:
            self.inline[self._open].append(data)


def test_the_console_obeys_its_own_policy() -> None:
    """The page has one script and one style, both of the policy's hashes, and loads nothing."""
    parsed, body = ask("/")
    page = Page(body.decode())
    policy = dict(
        part.strip().split(" ", 1) for part in parsed.headers["Content-Security-Policy"].split(";")
    )
    for element in ("script", "style"):
        (text,) = page.inline[element]
        digest = b64encode(sha256(text.encode()).digest()).decode()
        assert policy[f"{element}-src"] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == "'none'"
    assert page.loads == page.handlers == []
    assert parsed.headers["Content-Type"] == "text/html; charset=utf-8"
    assert parsed.headers["X-Content-Type-Options"] == "nosniff"
