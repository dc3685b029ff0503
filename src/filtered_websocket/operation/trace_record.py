"""What was seen of one message, and how it looks: as text for people, as JSON for machines.

What is not printable is escaped, and what is long cut off.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from ..filters.base import text_of
from ..typing import Message

__all__ = ["Trace", "Visit", "as_json_line", "as_text", "repr_of", "snapshot"]

SHOWN = 60  # characters of a payload, and of an error
SHOWN_OF_SIDE = 30  # of each side of a difference
SHOWN_OF_ITEM = 160  # one of Redis begins with 70 that say little
ITEM = "item"  # the type of what is no message
AROUND = 10  # characters before the first difference
LONGEST = 4  # bytes of a character in UTF-8

Snapshot = tuple[str, bytes]
"""Type and content of a message, or of an item."""


@dataclass(slots=True)
class Visit:
    """What one filter did to one message."""

    filter: str
    verdict: str = "passed"
    microseconds: int = 0
    sent: int = 0  # to so many clients of this server
    detail: str = ""  # the difference, or the error

    def compare(self, before: Snapshot, after: Snapshot) -> None:
        """Note in what a message differs from what it was before the filter."""
        if after != before:
            self.verdict, self.detail = "changed", _difference(before, after)

    def fail(self, error: BaseException) -> None:
        """Note the error that has ended the filter."""
        text = text_of(error)
        shown = repr(text[:SHOWN])[1:-1] + ("…" if len(text) > SHOWN else "")
        self.verdict, self.detail = "failed", f"{type(error).__name__}: {shown}"


@dataclass(slots=True)
class Trace:
    """The way of one message, or of one item of the queue."""

    number: int
    of: int
    connection: str
    peer: str
    type: str
    size: int | None  # in bytes; an item has none
    payload: str
    filters: list[Visit] = field(default_factory=list)
    not_reached: list[str] = field(default_factory=list)

    @classmethod
    def of_data(cls, data: Any, number: int, of: int, connection: str, peer: str) -> Trace:
        """Begin the trace of a message, or of an item, as it is now."""
        kind, content = snapshot(data)
        size = len(data) if isinstance(data, Message) else None
        payload = _excerpt(kind, content, SHOWN_OF_ITEM if kind == ITEM else SHOWN)
        return cls(number, of, connection, peer, kind, size, payload)


def as_text(trace: Trace) -> str:
    """Return a line for the message, and one for each filter."""
    unit = "byte" if trace.size == 1 else "bytes"
    size = "" if trace.size is None else f" of {trace.size} {unit}"
    peer = f" from {trace.peer}" if trace.peer else ""
    connection = f", connection {trace.connection}" if trace.connection else ""
    lines = [f"trace {trace.number} of {trace.of}: {trace.type}{size}{peer}{connection}"]
    lines.append(f"  {trace.payload}")
    for visit in trace.filters:
        sent = f"sent to {visit.sent}" if visit.sent else ""
        detail = f": {visit.detail}" if visit.detail else ""
        lines.append(
            f"  {visit.verdict:<11} {visit.microseconds:>8,} µs  {sent:<12}  {visit.filter}{detail}"
        )
    lines += [f"  {'not reached':<37}  {name}" for name in trace.not_reached]
    if not trace.filters and not trace.not_reached:
        lines.append("  there is no filter in this chain")
    return "\n".join(lines)


def as_json_line(trace: Trace) -> str:
    """Return one JSON object, with the keys of the log's."""
    fields = asdict(trace)
    moment = datetime.now(UTC).isoformat(timespec="milliseconds")
    head = {
        "time": moment.replace("+00:00", "Z"),
        "level": "info",
        "logger": f"{__package__}.trace",
        "event": f"trace {fields.pop('number')} of {fields.pop('of')}",
    }
    return json.dumps(head | fields)


def snapshot(data: Any) -> Snapshot:
    """Return type and content as they are now: a filter may change `data` in place."""
    if isinstance(data, Message):
        return "binary" if data.is_binary else "text", bytes(data)
    return ITEM, repr_of(data).encode(errors="backslashreplace")


def repr_of(item: Any) -> str:
    """Return an item as Python shows it, also one whose author got that wrong."""
    try:
        return repr(item)
    except Exception:
        return "(it cannot be shown)"


def _excerpt(kind: str, content: bytes, most: int, start: int = 0) -> str:
    """Return what begins at byte `start`: what is not printable is escaped, the rest cut off."""
    end = start + (most if kind == "binary" else LONGEST * most)
    part = content[start:end]
    text = part if kind == "binary" else part.decode(errors="backslashreplace")
    is_cut = len(text) > most or end < len(content)
    shown = str(text[:most]) if kind == ITEM else repr(text[:most])
    return f"{'…' if start else ''}{shown}{'…' if is_cut else ''}"


def _difference(before: Snapshot, after: Snapshot) -> str:
    (old_kind, old), (new_kind, new) = before, after
    if old == new:
        return f"{old_kind} -> {new_kind}"
    start = 0
    if max(len(old), len(new)) > SHOWN_OF_SIDE:
        start = max(0, _common(old, new) - AROUND)
        # Back to the beginning of a character, if this is text.
        steps = range(min(LONGEST, start + 1))
        start -= next((back for back in steps if old[start - back] & 0xC0 != 0x80), 0)
    sides = [_excerpt(kind, content, SHOWN_OF_SIDE, start) for kind, content in (before, after)]
    return " -> ".join(sides)


def _common(old: bytes, new: bytes) -> int:
    """Return how many bytes both begin with; by halves, since a loop over a megabyte takes long."""
    low, high = 0, min(len(old), len(new))
    while low < high:
        middle = (low + high + 1) // 2
        if old[:middle] == new[:middle]:
            low = middle
        else:
            high = middle - 1
    return low
