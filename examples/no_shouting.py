"""Drop messages that are all capitals; nobody gets them, and nothing is logged."""

from filtered_websocket.filters.base import DropMessage, WebSocketMessageFilter


class NoShoutingFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg.isupper():
            raise DropMessage
