"""Answer `last` with the last three messages of this client."""

from collections import deque

from filtered_websocket.filters.base import WebSocketMessageFilter


class LastThreeFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        last = web_socket_instance.state.setdefault("last", deque(maxlen=3))
        if msg == b"last":
            web_socket_instance.sendMessage(b", ".join(last))
        else:
            last.append(bytes(msg))
