"""Answer `ping`, and JSON such as {"add": [1, 2]}."""

import json

from filtered_websocket.filters.base import WebSocketMessageFilter


class CommandFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg == b"ping":
            web_socket_instance.sendMessage("pong")
        elif msg.startswith(b"{"):
            numbers = json.loads(msg)["add"]
            web_socket_instance.sendMessage(f"{sum(numbers)}")
