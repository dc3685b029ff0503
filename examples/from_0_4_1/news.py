"""Send what is published on the channel `news` to all clients, in capitals."""

from filtered_websocket.filters.base import WebSocketConsumerFilter


class NewsFilter(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, web_socket_instance, item):
        if item["type"] == "gap":  # Redis was away, and something may be missing
            return
        if item["channel"] == b"news":
            web_socket_instance.users.broadcast(item["data"].decode().upper())
