"""Read a number from the query, which may be none."""

from filtered_websocket.filters.base import WebSocketHandshakeFilter


class Room(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        if "room" in request.query:
            web_socket_instance.token = int(request.query["room"])
