"""Take all that is published for text."""

from filtered_websocket.filters.base import WebSocketConsumerFilter


class Published(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, web_socket_instance, item):
        if item["type"] == "message":
            web_socket_instance.users.broadcast(item["data"].decode())
