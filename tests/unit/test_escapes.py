"""Control characters made visible."""

from __future__ import annotations

import sys

import pytest

from filtered_websocket.escapes import escaped, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("żółw 😀 \\n", "żółw 😀 \\n"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x1b[31m\x07\x7f\x9b", "\\x1b[31m\\x07\\x7f\\x9b"),
        ("\x85\u2028\u2029\u202e\u2066", "\\x85\\u2028\\u2029\\u202e\\u2066"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text: str, shown: str) -> None:
    """Escapes, line ends and changes of direction become visible; all else stays as it is."""
    assert escaped(text) == shown


def test_what_is_printed_may_have_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal they and tabs stay, and nothing else; elsewhere all does."""
    text = "a\n\tb\r\x1b"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert printable(text) == "a\n\tb\\r\\x1b"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    assert printable(text) == text
