"""Remember the id of each client for ever."""

from filtered_websocket.filters.base import WebSocketConnectFilter

seen = set()


class Visits(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        seen.add(web_socket_instance.id)
        web_socket_instance.sendMessage(f"welcome, number {len(seen)}")
