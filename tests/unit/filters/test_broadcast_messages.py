"""Broadcasting to everybody else."""

from __future__ import annotations

from filtered_websocket.typing import Message

from .fakes import FakeConnection


def test_everybody_but_the_sender_gets_it(empty_chains: None) -> None:
    """The message goes out once, as it is, without its sender."""
    from filtered_websocket.filters.broadcast_messages import BroadcastMessagesFilter

    sender, msg = FakeConnection(), Message(b"hello")
    BroadcastMessagesFilter.filter(sender, msg)
    assert sender.users.broadcasts == [(msg, sender.id, None)]
    assert sender.users.broadcasts[0][0] is msg
    assert sender.sent == []
