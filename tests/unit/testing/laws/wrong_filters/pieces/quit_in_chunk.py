"""Look for a word in chunks, where it may be cut in two."""

from filtered_websocket.filters.base import WebSocketDataFilter


class Quit(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        if b"/quit" in data:
            web_socket_instance.loseConnection()
