"""Take the first word of a message, which may have none."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class FirstWord(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        return msg.split()[0]
