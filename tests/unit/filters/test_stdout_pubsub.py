"""Printing what was published."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from .fakes import FakeServer


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (
            {"type": "message", "pattern": None, "channel": b"news", "data": "żółw".encode()},
            "{'type': 'message', 'pattern': None, 'channel': 'news', 'data': 'żółw'}",
        ),
        ({"data": b"\xff"}, "{'data': '\\\\xff'}"),
        (b"bare", "bare"),
        (bytearray(b"bare"), "bare"),
        (["rubbish", 5], "['rubbish', 5]"),
    ],
)
def test_items_are_printed_as_text(
    item: Any, shown: str, empty_chains: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Any item can be shown, its bytes as text, and it stays as it is."""
    from filtered_websocket.filters.stdout_pubsub import StdoutPubSubFilter

    before = item.copy() if isinstance(item, dict) else item
    StdoutPubSubFilter.filter(FakeServer(), item)
    assert capsys.readouterr().out == f"--PUBSUB--\n{shown}\n"
    assert item == before


def test_a_terminal_gets_no_control_characters(
    empty_chains: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There whoever publishes could do with the screen what he likes; lines and tabs stay."""
    from filtered_websocket.filters.stdout_pubsub import StdoutPubSubFilter

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    StdoutPubSubFilter.filter(FakeServer(), b"a\n\tb\x1b[2J")
    assert capsys.readouterr().out == "--PUBSUB--\na\n\tb\\x1b[2J\n"
