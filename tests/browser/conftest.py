"""Pages in a real browser, and what they complain about."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from .chromium import LOCAL_HOSTS, chromium

Visit = Callable[..., Page]


# Not for the session: Playwright's event loop would be in the way of the tests after these.
@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One Chromium for all tests of this folder."""
    with chromium() as browser:
        yield browser


@pytest.fixture
def complaints() -> Iterator[list[str]]:
    """What went wrong in the pages of a test; a test that provokes a complaint takes it out."""
    complaints: list[str] = []
    yield complaints
    assert complaints == []


@pytest.fixture
def visit(browser: Browser, complaints: list[str]) -> Iterator[Visit]:
    """Open a URL in a new browser context, made with the options given, and return the page."""
    contexts: list[BrowserContext] = []

    def visit(url: str, **options: Any) -> Page:
        context = browser.new_context(**options)
        contexts.append(context)
        _watch(context, complaints)
        page = context.new_page()
        page.goto(url)
        return page

    yield visit
    for context in contexts:
        context.close()


def _watch(context: BrowserContext, complaints: list[str]) -> None:
    """Complain of errors, violations of the Content-Security-Policy, and requests to elsewhere."""

    def check(url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "data" and parts.hostname not in LOCAL_HOSTS:
            complaints.append(f"request to {url}")

    context.on("request", lambda request: check(request.url))
    context.on("page", lambda page: page.on("websocket", lambda socket: check(socket.url)))
    context.on("weberror", lambda event: complaints.append(f"uncaught {event.error}"))
    context.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
