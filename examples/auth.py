"""Let in those who know a key: ws://localhost:9000/?key=open-sesame"""

from filtered_websocket.filters.base import RejectHandshake, WebSocketHandshakeFilter

USER_OF_KEY = {"open-sesame": "ali"}


class AuthFilter(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        user = USER_OF_KEY.get(request.query.get("key", ""))
        if user is None:
            raise RejectHandshake(403, "a valid ?key= is needed")
        web_socket_instance.state["user"] = user
