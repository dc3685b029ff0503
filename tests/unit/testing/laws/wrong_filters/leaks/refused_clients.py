"""Count the requests of each address that was refused."""

from filtered_websocket.filters.base import RejectHandshake, WebSocketHandshakeFilter

failures = {}


class Auth(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        if request.query.get("key") != "open-sesame":
            failures[request.peer] = failures.get(request.peer, 0) + 1
            raise RejectHandshake(403, "a valid key is needed")
