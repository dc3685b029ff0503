"""Send each message back to its sender."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class EchoFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage(msg)
