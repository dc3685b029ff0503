"""Throw out whoever swears; nobody gets the message."""

from filtered_websocket.filters.base import DropMessage, WebSocketMessageFilter


class ThrowOutFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if b"damn" in msg:
            web_socket_instance.loseConnection(4000, "mind your language")
            raise DropMessage
