"""Cut off one space after the other, and copy the rest each time."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class Strip(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        text = bytes(msg)
        while text.endswith(b" "):
            text = text[:-1]
        return text
