"""Sign each message with the nickname of its sender: ws://localhost:9000/?nickname=Ada"""

from filtered_websocket.filters.base import (
    DropMessage,
    WebSocketConnectFilter,
    WebSocketMessageFilter,
)


class TakeNickname(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        nickname = web_socket_instance.request.query.get("nickname", "")
        if not nickname.isalnum() or len(nickname) > 20:
            web_socket_instance.loseConnection(4000, "use 1 to 20 letters or digits")
            raise DropMessage
        web_socket_instance.state["nickname"] = nickname


class SignMessage(WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance, msg):
        if msg.is_binary:
            raise DropMessage
        nickname = web_socket_instance.state["nickname"]
        return f"{nickname}: {msg.decode()}"
