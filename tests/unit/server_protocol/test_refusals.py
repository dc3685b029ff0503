"""What the log says of refused handshakes."""

from __future__ import annotations

import asyncio
import logging

import pytest

from filtered_websocket.server_protocol import refusals
from filtered_websocket.server_protocol.refusals import Refusals


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def test_each_reason_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """In one period a reason is one line with the first client, and each other one too."""
    log = Refusals()
    for peer in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        log.log(peer, 400, "no Host")
        log.log(peer, 403, "no entry", "open the door")
    assert caplog.messages == [
        "refused 192.0.2.1: 400 no Host",
        "refused 192.0.2.1: 403 no entry; open the door",
    ]


async def test_repeats_are_counted(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the end of the period the log tells how often a reason came again; then it starts anew."""
    monkeypatch.setattr(refusals, "PERIOD", 0)
    log = Refusals()
    for _ in range(3):
        log.log("192.0.2.1", 400, "no Host")
    await asyncio.sleep(0.001)
    log.log("192.0.2.1", 400, "no Host")
    assert caplog.messages == [
        "refused 192.0.2.1: 400 no Host",
        "refused 2 more: 400 no Host",
        "refused 192.0.2.1: 400 no Host",
    ]


async def test_reasons_without_number_are_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """A filter that makes up a reason for each client fills neither log nor memory."""
    log = Refusals()
    for number in range(1000):
        log.log("192.0.2.1", 403, f"not you, {number}")
    assert len(caplog.messages) == refusals.MAX_REASONS
