"""The copy of all shared sets that one server of a cluster answers from.

Redis puts all changes into one order, and every server hears of them in that order: its own ones
too. The copy is what Redis said, overlaid with own writes that Redis has not confirmed yet, so that
a filter sees what it has just written. A write is pending from the moment it is made until it comes
back as a change.

What belongs here: which values a key has. What does not: how changes travel (`redis`). Nothing here
waits or knows a network, so the rules can be tested alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from typing import NamedTuple
from uuid import UUID

__all__ = ["Change", "Replica"]

Pair = tuple[Hashable, Hashable]


class Change(NamedTuple):
    """One value that came into the set of a key, or left it (`present`).

    `server` and `number` name the write that did it: the number counts the writes of one server.
    """

    server: UUID
    number: int
    key: Hashable
    value: Hashable
    present: bool


class Replica:
    """Hold sets by key, and what this server itself has added as membership.

    A value that is a UUID is a membership: it means a connection, and goes when its server goes.
    """

    def __init__(self, server: UUID) -> None:
        self.server = server
        self.sets: dict[Hashable, set[Hashable]] = {}
        self.own: dict[Hashable, set[Hashable]] = {}
        self._pending: dict[Pair, dict[int, bool]] = {}
        self._confirmed: set[int] = set()
        self._since: list[Change] | None = None
        self._count = 0

    def next_change(self, key: Hashable, value: Hashable, present: bool) -> Change:
        """Return the next write of this server, which is not made yet."""
        return Change(self.server, self._count + 1, key, value, present)

    def write(self, change: Change) -> None:
        """Make a write of this server visible at once."""
        _, self._count, key, value, present = change
        self._pending.setdefault((key, value), {})[change.number] = present
        if isinstance(value, UUID):
            _set(self.own, key, value, present)
        _set(self.sets, key, value, present)

    def heard(self, change: Change) -> None:
        """Take in a change, in the order in which Redis made them."""
        if self._since is not None:
            self._since.append(change)
        pair = (change.key, change.value)
        if change.server == self.server:
            # Own writes are made in order: earlier ones that a gap has swallowed are made, too.
            for number in [n for n in self._pending.get(pair, ()) if n <= change.number]:
                self._settle(pair, number)
        if pair not in self._pending:
            _set(self.sets, change.key, change.value, change.present)

    def confirmed(self, change: Change) -> None:
        """Remember that Redis has made a write; hearing of it may fail with a connection."""
        if change.number in self._pending.get((change.key, change.value), ()):
            self._confirmed.add(change.number)

    def failed(self, change: Change) -> None:
        """Give up a write that Redis did not make; the next snapshot corrects the copy."""
        self._settle((change.key, change.value), change.number)

    def begin_snapshot(self) -> None:
        """Prepare for a snapshot, when changes are being heard: keep what comes from now on.

        Confirmed writes whose change has not come may have been missed, so nobody waits for it.
        """
        self._since = []
        for pair, writes in list(self._pending.items()):
            for number in self._confirmed.intersection(writes):
                self._settle(pair, number)
        self._confirmed.clear()

    def finish_snapshot(self, sets: Mapping[Hashable, set[Hashable]]) -> None:
        """Replace the copy by what Redis had at some time since `begin_snapshot`."""
        self.sets = {key: set(values) for key, values in sets.items() if values}
        since, self._since = self._since or [], None
        for change in since:
            _set(self.sets, change.key, change.value, change.present)
        for (key, value), writes in self._pending.items():
            _set(self.sets, key, value, list(writes.values())[-1])

    def memberships(self) -> Iterator[Pair]:
        """Yield key and value of each membership that this server holds."""
        for key, values in self.own.items():
            for value in values:
                yield key, value

    def _settle(self, pair: Pair, number: int) -> None:
        self._confirmed.discard(number)
        writes = self._pending.get(pair)
        if writes is not None and writes.pop(number, None) is not None and not writes:
            del self._pending[pair]


def _set(sets: dict[Hashable, set[Hashable]], key: Hashable, value: Hashable, here: bool) -> None:
    if here:
        sets.setdefault(key, set()).add(value)
        return
    values = sets.get(key)
    if values is not None:
        values.discard(value)
        if not values:
            del sets[key]
