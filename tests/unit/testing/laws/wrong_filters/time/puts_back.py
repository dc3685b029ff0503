"""Put each item back, to look at it again."""

from filtered_websocket.filters.base import WebSocketConsumerFilter


class Retry(WebSocketConsumerFilter):
    @classmethod
    def filter(cls, web_socket_instance, item):
        web_socket_instance.queue.put(item)
