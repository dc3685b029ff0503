"""Printing messages."""

from __future__ import annotations

import sys

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


def test_a_terminal_gets_no_control_characters(
    empty_chains: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a client could do with the screen what it likes; lines and tabs stay."""
    from filtered_websocket.filters.stdout_messages import StdoutMessageFilter

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    connection = FakeConnection()
    StdoutMessageFilter.filter(connection, Message("a\n\tb\x1b[2Jż\r".encode()))
    assert capsys.readouterr().out == f"--MESSAGE--\n{connection.id} => a\n\tb\\x1b[2Jż\\r\n"
