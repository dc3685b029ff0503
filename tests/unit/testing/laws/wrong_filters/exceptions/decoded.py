"""Take each message for text."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class Decoded(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        return msg.decode().strip()
