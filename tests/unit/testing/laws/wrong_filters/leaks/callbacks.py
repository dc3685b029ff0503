"""Leave something behind that would greet a client that is gone."""

from filtered_websocket.filters.base import WebSocketMessageFilter

callbacks = []


class Callback(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        callbacks.append(lambda: web_socket_instance.sendMessage("hello"))
