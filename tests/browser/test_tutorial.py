"""The page of the tutorial, where its last step has put it: behind nginx, with two servers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from playwright.sync_api import Page, expect

from ..integration.redis_server import RedisProcess
from ..tutorial import Reader, Terminal
from .conftest import Visit

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.redis]

Deployed = tuple[str, Terminal]


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[Deployed]:
    """The address of the page, and the server that nginx asks first."""
    with TemporaryDirectory() as home, RedisProcess(tmp_path / "redis") as redis:
        Path(home).chmod(0o755)  # what root starts as nginx serves it as somebody else
        reader = Reader(Path(home), redis.port)
        *_, first, _ = reader.follow("Two servers, one chat")
        redis.wait_for_servers(2)
        reader.follow("nginx in front")
        (address,) = reader.addresses("nginx in front")
        yield address, first
        reader.close()


def type_in(page: Page, label: str, text: str) -> None:
    page.get_by_label(label).fill(text)
    page.get_by_role("button").click()


def expect_state(page: Page, text: str) -> None:
    expect(page.get_by_role("status")).to_have_text(text, timeout=15_000)


def test_the_chat_goes_on_when_a_server_stops(
    deployed: Deployed, visit: Visit, complaints: list[str]
) -> None:
    """Two tabs talk, a third one learns that its nickname is taken; who is cut off comes back."""
    address, first = deployed
    ada, bob, impostor = (visit(address, ignore_https_errors=True) for _ in range(3))
    type_in(ada, "Your nickname", "Ada")
    expect_state(ada, "You are Ada.")
    type_in(bob, "Your nickname", "Bob")
    expect_state(bob, "You are Bob.")
    type_in(impostor, "Your nickname", "ada")
    expect_state(impostor, "ada is taken")
    type_in(ada, "Your message", "<b>hello</b>")
    expect(bob.get_by_role("listitem")).to_have_text(["Bob is here", "Ada: <b>hello</b>"])
    first.ctrl_c()
    expect(bob.get_by_role("listitem").nth(2)).to_have_text("Ada has left")
    expect(bob.get_by_role("listitem").nth(3)).to_have_text("Ada is here", timeout=15_000)
    expect_state(ada, "You are Ada.")
    type_in(bob, "Your message", "there you are")
    expect(ada.get_by_role("listitem").last).to_have_text("Bob: there you are")
    refused = re.compile(r"WebSocket connection to \S+ failed")
    complaints[:] = [text for text in complaints if not refused.match(text)]
