"""Say farewell to a name that those who said nothing do not have."""

from filtered_websocket.filters.base import WebSocketDisconnectFilter, WebSocketMessageFilter

names = {}


class Name(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        names[web_socket_instance.id] = bytes(msg)


class Farewell(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        web_socket_instance.users.broadcast(names.pop(web_socket_instance.id) + b" has left")
