"""Greet each browser by its name, which not all clients tell."""

from filtered_websocket.filters.base import WebSocketConnectFilter


class Greeting(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.sendMessage(web_socket_instance.request.headers["User-Agent"])
