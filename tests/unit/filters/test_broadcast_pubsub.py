"""Broadcasting what was published."""

from __future__ import annotations

from typing import Any

import pytest

from .fakes import FakeServer


@pytest.mark.parametrize(
    "item",
    [
        {"type": "message", "pattern": None, "channel": b"news", "data": b"hello"},
        {"type": "pmessage", "pattern": b"n*", "channel": b"news", "data": b"\xff"},
        {"data": "hello"},
    ],
)
def test_the_data_of_each_item_goes_to_all(item: dict[str, Any], empty_chains: None) -> None:
    """Every client gets the data, as it is, and nothing else of the item."""
    from filtered_websocket.filters.broadcast_pubsub import BroadcastPubSubFilter

    server = FakeServer()
    BroadcastPubSubFilter.filter(server, item)
    assert server.users.broadcasts == [(item["data"], None, None)]


def test_a_gap_is_no_message(empty_chains: None) -> None:
    """The note that published items were missed is not for clients."""
    from filtered_websocket.filters.broadcast_pubsub import BroadcastPubSubFilter

    server = FakeServer()
    BroadcastPubSubFilter.filter(server, {"type": "gap"})
    assert server.users.broadcasts == []
