"""Ask another server, and wait for the answer."""

import socket

from filtered_websocket.filters.base import WebSocketMessageFilter


class Ask(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        with socket.socket() as asking:
            asking.connect_ex(("127.0.0.1", 9))
