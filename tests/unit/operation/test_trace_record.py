"""How the trace of a message looks."""

from __future__ import annotations

import pytest

from .test_trace import Filter, Traced, broadcast, cut, drop, look, shout

pytestmark = pytest.mark.usefixtures("empty_chains")


def text_of(*filters: Filter, payload: bytes, is_binary: bool = False) -> list[str]:
    traced = Traced(*filters, as_json=False)
    traced.tracer.start(1)
    traced.run(payload, is_binary=is_binary)
    return traced.printed[0].splitlines()


def test_text() -> None:
    """A message is a block of lines, one for each filter, with the names in one column."""
    first, payload, *lines = text_of(shout, broadcast, drop, look, payload=b"h\x1bi\n")
    name = f"{shout.__module__}.Added"
    times = [line.split()[1] for line in lines]
    assert first.startswith("trace 1 of 1: text of 4 bytes from 192.0.2.1, connection ")
    assert payload == "  'h\\x1bi\\n'"
    assert [line.split() for line in lines] == [
        ["changed", times[0], "µs", f"{name}:", "'h\\x1bi\\n'", "->", "'H\\x1bI\\n'"],
        ["passed", times[1], "µs", "sent", "to", "2", name],
        ["dropped", times[2], "µs", name],
        ["not", "reached", name],
    ]
    assert len({line.index(name) for line in lines}) == 1


@pytest.mark.parametrize(
    ("payload", "body", "shown"),
    [
        ("x" * 100, cut, "…'xxxxxxxxxxx' -> …'xxxxxxxxxx'"),
        ("a" * 30, cut, f"'{'a' * 30}' -> '{'a' * 29}'"),
        ("ab" + "x" * 100, shout, f"'ab{'x' * 28}'… -> 'AB{'X' * 28}'…"),
        ("ö" * 50 + "a", cut, "…'öööööa' -> …'ööööö'"),
        ("€" * 50 + "a", cut, "…'€€€€a' -> …'€€€€'"),
        ("", lambda connection, msg: b"new", "'' -> 'new'"),
        ("old", lambda connection, msg: "", "'old' -> ''"),
    ],
)
def test_differences_are_short(payload: str, body: Filter, shown: str) -> None:
    """Of long messages the part around the first difference is shown, in whole characters."""
    assert text_of(body, payload=payload.encode())[2].endswith(f": {shown}")


def test_a_difference_in_binary_data_is_found() -> None:
    """Bytes that would be the middle of a character are not taken for one."""
    shown = text_of(cut, payload=b"\x80" * 100, is_binary=True)[2]
    assert shown.endswith(": …b'" + "\\x80" * 11 + "' -> …b'" + "\\x80" * 10 + "'")


@pytest.mark.parametrize(
    ("payload", "is_binary", "shown"),
    [
        (b"x" * 60, False, f"'{'x' * 60}'"),
        (b"x" * 61, False, f"'{'x' * 60}'…"),
        (("€" * 61).encode(), False, f"'{'€' * 60}'…"),
        (b"x" * 10_000, False, f"'{'x' * 60}'…"),
        (b"\xff" * 61, True, f"b'{chr(92)}xff" + "\\xff" * 59 + "'…"),
        ("\u202e".encode(), False, "'\\u202e'"),
    ],
)
def test_payloads_are_short_and_harmless(payload: bytes, is_binary: bool, shown: str) -> None:
    """They are cut off, and what could play with a terminal is escaped."""
    assert text_of(look, payload=payload, is_binary=is_binary)[1] == f"  {shown}"
