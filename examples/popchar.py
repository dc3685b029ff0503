"""Cut the last byte off each message, for the filters after this one."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class PopCharFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        del msg[-1:]
