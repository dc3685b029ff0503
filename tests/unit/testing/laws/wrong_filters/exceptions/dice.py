"""Roll as many dice as a client says, if it says a number."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class Dice(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg.startswith(b"/roll "):
            return "rolled " * min(int(msg[6:]), 6)
