"""Take the first byte of each chunk for the first one of a frame."""

from filtered_websocket.filters.base import DropMessage, WebSocketDataFilter, WebSocketMessageFilter


class Opcode(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.state["is_text"] = data[0] & 0x0F == 1


class TextOnly(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if not web_socket_instance.state["is_text"]:
            raise DropMessage
