"""Send each message to all other clients: a chat in ten lines."""

from filtered_websocket.filters.base import WebSocketMessageFilter


class ChatFilter(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        users = web_socket_instance.users
        users.broadcast(msg, skip=web_socket_instance.id)
