"""Printing raw bytes."""

from __future__ import annotations

import sys

import pytest

from .fakes import FakeConnection


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (b"Morgan\n", "Morgan\n"),
        (b"GET / HTTP/1.1\r\n", "GET / HTTP/1.1\r\n"),
        (b"\x81\x05", "\\x81\x05"),
    ],
)
def test_what_was_read_is_printed(
    data: bytes, shown: str, empty_chains: None, capsys: pytest.CaptureFixture[str]
) -> None:
    """A chunk is shown as text; bytes that are none are escaped."""
    from filtered_websocket.filters.stdout_rawdata import StdoutRawDataFilter

    StdoutRawDataFilter.filter(FakeConnection(), bytearray(data))
    assert capsys.readouterr().out == f"--RAWDATA--\n{shown}\n"


def test_a_terminal_gets_no_control_characters(
    empty_chains: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a client could do with the screen what it likes; lines and tabs stay."""
    from filtered_websocket.filters.stdout_rawdata import StdoutRawDataFilter

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    StdoutRawDataFilter.filter(FakeConnection(), bytearray(b"a\n\tb\x1b[2J\x81"))
    assert capsys.readouterr().out == "--RAWDATA--\na\n\tb\\x1b[2J\\x81\n"
