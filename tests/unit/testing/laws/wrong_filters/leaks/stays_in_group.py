"""Put clients into a group of the storage, and never take them out."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class Join(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.storage_object.add("all", web_socket_instance.id)
