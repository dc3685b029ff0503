"""Send each message back to its sender, as the test suite expects of a server."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class EchoFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage(msg)
