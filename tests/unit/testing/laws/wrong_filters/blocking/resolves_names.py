"""Look up a name, with a call that may take seconds."""

import socket

from filtered_websocket.filters.base import WebSocketConnectFilter


class Name(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.state["name"] = socket.gethostbyname("localhost")
