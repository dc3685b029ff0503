"""Turn each message into capitals, for the filters after this one."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class ShoutFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        return msg.upper()
