"""Send each message to every other client with a loop of one's own, as filters of 0.4.1 do."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class LoopFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        for id, user in web_socket_instance.users.items():
            if id != web_socket_instance.id:
                user.sendMessage(bytes(data))
