"""Send the data of each published item to every connected client."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .base import WebSocketConsumerFilter


class BroadcastPubSubFilter(WebSocketConsumerFilter):
    """Broadcast `item["data"]` to all clients: as text when it is UTF-8, else as binary."""

    @classmethod
    def filter(cls, web_socket_instance: Any, item: Mapping[str, Any]) -> None:
        if item.get("type") != "gap":
            web_socket_instance.users.broadcast(item["data"])


BroadcastMessageFilter = BroadcastPubSubFilter
