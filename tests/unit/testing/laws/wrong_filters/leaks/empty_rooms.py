"""Keep each room that ever was, also when nobody is in it."""

from collections import defaultdict

from filtered_websocket.filters.base import WebSocketDisconnectFilter, WebSocketMessageFilter

rooms = defaultdict(set)


class Enter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.state.setdefault("rooms", set()).add(bytes(msg))
        rooms[bytes(msg)].add(web_socket_instance.id)


class Leave(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        for room in web_socket_instance.state.get("rooms", ()):
            rooms[room].discard(web_socket_instance.id)
