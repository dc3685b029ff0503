"""Plain HTTP on the same port: the console page, the health check, and refusals that help."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256

import pytest

from ..process import ServerProcess
from .wire import Start, ask, head


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    server = ServerProcess(tmp_path_factory.mktemp("http"), "-f")
    yield server
    server.kill()


def plain(start: str) -> bytes:
    return f"{start} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def test_the_console_page_allows_itself_and_nothing_else(server: ServerProcess) -> None:
    """The policy has the hashes of the page's one script and style, and no other source."""
    answer = ask(server.port, plain("GET /"))
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    for element in (b"script", b"style"):
        (text,) = re.findall(rb"<%b\b[^>]*>(.*?)</%b>" % (element, element), answer.body, re.S)
        digest = b64encode(sha256(text).digest()).decode()
        assert f"{element.decode()}-src 'sha256-{digest}';" in policy
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(rb"""(src|href)=["']?(https?:)?//|\sstyle=|\son\w+=["']""", answer.body)


@pytest.mark.parametrize("target", ["/", "/?room=1", "http://localhost/"])
def test_the_console_page_is_at_the_root(server: ServerProcess, target: str) -> None:
    """A query, or the absolute form that proxies use, leads to the same page."""
    answer = ask(server.port, plain(f"GET {target}"))
    assert answer.status == 200
    assert b"<html" in answer.body


def test_health_says_ok(server: ServerProcess) -> None:
    """A load balancer can ask whether the server is there, and no cache answers for it."""
    answer = ask(server.port, plain("GET /health"))
    assert (answer.status, answer.body.strip()) == (200, b"ok")
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/", "/health", "/nothing"])
def test_head_is_get_without_the_body(server: ServerProcess, path: str) -> None:
    """HEAD gets the same status and headers."""
    head_of, get = (ask(server.port, plain(f"{method} {path}")) for method in ("HEAD", "GET"))
    assert head_of.headers == get.headers
    assert head_of.status == get.status
    assert head_of.body == b""


@pytest.mark.parametrize("path", ["/favicon.ico", "/console", "//", "/../etc/passwd", "/health/"])
def test_other_paths_are_404(server: ServerProcess, path: str) -> None:
    """There is nothing but the console and the health check."""
    assert ask(server.port, plain(f"GET {path}")).status == 404


@pytest.mark.parametrize("start", ["POST /", "PUT /chat", "DELETE /health", "OPTIONS *"])
def test_other_methods_are_told_to_upgrade(server: ServerProcess, start: str) -> None:
    """A request that wants neither a page nor a WebSocket is a 426 that says what is spoken."""
    answer = ask(server.port, plain(start))
    assert answer.status == 426
    assert answer.headers["upgrade"] == "websocket"
    assert "upgrade" in answer.headers["connection"].lower()


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_proxy_that_dropped_upgrade_is_named(server: ServerProcess, version: str) -> None:
    """A handshake without its Upgrade header is a 426 whose text tells the operator why."""
    request = head(start=f"GET / HTTP/{version}", Upgrade=None, Connection="close")
    answer = ask(server.port, request)
    assert answer.status == 426
    assert b"proxy" in answer.body


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_no_console_leaves_only_the_health_check(start_server: Start, method: str) -> None:
    """With --no_console the root asks for a WebSocket too; no answer to HEAD has a body."""
    port = start_server("-f", "--no_console").port
    answer = ask(port, plain(f"{method} /"))
    assert answer.status == 426
    assert answer.headers["upgrade"] == "websocket"
    assert ask(port, plain(f"{method} /health")).status == 200
    assert ask(port, head()).status == 101


def test_http_1_0_gets_the_pages_too(server: ServerProcess) -> None:
    """A health check that speaks HTTP/1.0 and sends no Host is answered."""
    assert ask(server.port, b"GET /health HTTP/1.0\r\n\r\n").status == 200
