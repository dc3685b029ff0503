"""Errors of the wire."""

from __future__ import annotations

from typing import Any

import pytest

from filtered_websocket.server_protocol.exception import FrameError, ProtocolError, WireError


@pytest.mark.parametrize(
    ("arguments", "status", "headers"),
    [
        (("bad",), 400, {}),
        (("bad", 431), 431, {}),
        (("bad", 503, {"Retry-After": "1"}), 503, {"Retry-After": "1"}),
    ],
)
def test_protocol_error_carries_its_answer(
    arguments: Any, status: int, headers: dict[str, str]
) -> None:
    """Whoever catches it knows what to answer: a status, 400 unless told otherwise, and why."""
    error = ProtocolError(*arguments)
    assert (str(error), error.reason, error.status) == ("bad", "bad", status)
    assert error.headers == headers


def test_errors_are_told_apart() -> None:
    """Code that waits for more bytes of a frame does not swallow a broken protocol."""
    assert not issubclass(ProtocolError, FrameError)


def test_wire_error_carries_its_close_code() -> None:
    """Whoever catches it knows what to close the connection with."""
    error = WireError(1009, "over 10 bytes")
    assert (error.code, error.reason) == (1009, "over 10 bytes")
