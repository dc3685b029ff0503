"""Return what is no message."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class Length(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        return len(msg)
