"""Broadcast among the clients that measure, and drop what attackers say."""

from filtered_websocket.filters.base import (
    DropMessage,
    WebSocketConnectFilter,
    WebSocketDisconnectFilter,
    WebSocketMessageFilter,
)

subscribers = set()


class ConnectFilter(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        if web_socket_instance.request.path == "/":
            subscribers.add(web_socket_instance.id)


class BroadcastFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if web_socket_instance.request.path != "/":
            raise DropMessage
        web_socket_instance.users.broadcast(msg, skip=web_socket_instance.id, to=subscribers)


class DisconnectFilter(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        subscribers.discard(web_socket_instance.id)
