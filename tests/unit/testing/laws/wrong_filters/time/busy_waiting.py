"""Wait for something that only another turn of the event loop can bring."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class Turn(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        web_socket_instance.sendMessage("are you there?")
        web_socket_instance.state["waits"] = True
        while web_socket_instance.state["waits"] and len(msg) > 3:
            pass
