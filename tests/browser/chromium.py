"""Chromium, for tests that look at pages and for `scripts/screenshot*`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from playwright.sync_api import Browser, sync_playwright

FOREIGN_HOST = "evil.example"  # the browser finds it on this machine, as with DNS rebinding
LOCAL_HOSTS = ("localhost", "127.0.0.1", FOREIGN_HOST)

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@contextmanager
def chromium(*resolver_rules: str) -> Iterator[Browser]:
    """Run the Chromium of this machine, headless; it finds no host but this machine.

    `resolver_rules`, like `MAP name address`, come before that. Raises LookupError when there is
    no Chromium: a test that was not run must not look like one that passed.
    """
    names = (os.environ.get("CHROMIUM") or "chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise LookupError(
            f"found none of {', '.join(names)}: install Chromium, or set CHROMIUM to its path"
        )
    rules = [*resolver_rules, *(f"MAP {host} 127.0.0.1" for host in LOCAL_HOSTS), "MAP * ~NOTFOUND"]
    arguments = [*ARGUMENTS, f"--host-resolver-rules={','.join(rules)}"]
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=path, args=arguments) as browser,
    ):
        yield browser
