"""Printing messages."""

from __future__ import annotations

import pytest

from filtered_websocket.typing import Message

from .fakes import FakeConnection


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"Test", "Test"),
        ("żółw 🐢".encode(), "żółw 🐢"),
        (b"", ""),
        (b"a\nb", "a\nb"),
        (b"\xff!", "\\xff!"),
    ],
)
def test_sender_and_text_are_printed(
    data: bytes, shown: str, empty_chains: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message is shown as text, bytes that are none escaped; it goes on unchanged."""
    from filtered_websocket.filters.stdout_messages import StdoutMessageFilter

    sender, msg = FakeConnection(), Message(data)
    StdoutMessageFilter.filter(sender, msg)
    assert capsys.readouterr().out == f"--MESSAGE--\n{sender.id} => {shown}\n"
    assert msg == data
