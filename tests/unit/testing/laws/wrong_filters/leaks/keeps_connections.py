"""Keep all connections in a list."""

from filtered_websocket.filters.base import WebSocketConnectFilter


class Everybody(WebSocketConnectFilter):
    connections = []

    @classmethod
    def filter(cls, web_socket_instance, data):
        cls.connections.append(web_socket_instance)
