"""Control characters made visible, for text of clients that a person reads."""

from __future__ import annotations

import sys

__all__ = ["escaped", "printable"]

# Those of a terminal, line ends of any alphabet, and what changes the direction of writing: with
# them a client could forge lines, hide a part of one, or change what the terminal does.
FORGING = [
    *range(0x20),
    *range(0x7F, 0xA0),
    *range(0x2028, 0x202F),
    *range(0x2066, 0x206A),
]
_escapes = {number: ascii(chr(number))[1:-1] for number in FORGING}
_but_lines = {number: text for number, text in _escapes.items() if chr(number) not in "\n\t"}


def escaped(text: str) -> str:
    """Return `text` with escapes like `\\x1b` for control characters, line ends included."""
    return text.translate(_escapes)


def printable(text: str) -> str:
    """Return what may be printed to stdout: all but line ends and tabs escaped on a terminal."""
    return text.translate(_but_lines) if sys.stdout.isatty() else text
