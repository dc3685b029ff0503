"""Keep all that was ever said, as one text."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class History(WebSocketMessageFilter):
    text = bytearray()

    @classmethod
    def filter(cls, web_socket_instance, msg):
        cls.text += msg + b"\n"
