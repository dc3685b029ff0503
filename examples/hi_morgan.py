"""Greet Morgan, who says his name without a handshake: echo Morgan | nc localhost 9000"""

from filtered_websocket.filters.base import WebSocketDataFilter


class HiMorganFilter(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        if data.strip().lower() == b"morgan":
            print("Hi Morgan!", flush=True)
