"""Take chunks for messages, and count them."""

from filtered_websocket.filters.base import WebSocketDataFilter


class Quota(WebSocketDataFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        state = web_socket_instance.state
        state["chunks"] = state.get("chunks", 0) + 1
        if state["chunks"] > 20:
            web_socket_instance.loseConnection(1008, "too many messages")
