"""Take all bytes of a stream for text."""

from filtered_websocket.filters.base import WebSocketDataFilter


class RawText(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.state["heard"] = data.decode()[-80:]
