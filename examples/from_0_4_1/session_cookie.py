"""Let in those whose cookie `session` is known."""

from filtered_websocket.filters.base import RejectHandshake, WebSocketHandshakeFilter

GROUP_OF_SESSION = {"4711": "red"}


class SessionFilter(WebSocketHandshakeFilter):
    @classmethod
    def filter(cls, web_socket_instance, request):
        group = GROUP_OF_SESSION.get(request.cookies.get("session"))
        if group is None:
            raise RejectHandshake(403, "log in first")
        web_socket_instance.token = group
