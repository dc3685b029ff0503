"""Send each message to every other connected client."""

from __future__ import annotations

from typing import Any

from .base import Message, WebSocketMessageFilter


class BroadcastMessagesFilter(WebSocketMessageFilter):
    """Broadcast each message to all clients but its sender."""

    @classmethod
    def filter(cls, web_socket_instance: Any, msg: Message) -> None:
        web_socket_instance.users.broadcast(msg, skip=web_socket_instance.id)
