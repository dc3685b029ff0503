"""Take the last chunk for the whole message."""

from filtered_websocket.filters.base import DropMessage, WebSocketDataFilter, WebSocketMessageFilter


class Length(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.state["length"] = len(data)


class TooShort(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if web_socket_instance.state["length"] < 9:
            raise DropMessage
