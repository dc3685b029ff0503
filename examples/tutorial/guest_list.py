"""Let each nickname in once, and say who comes and goes."""

from filtered_websocket.filters.base import (
    DropMessage,
    WebSocketConnectFilter,
    WebSocketDisconnectFilter,
)


class LetIn(WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        nickname = web_socket_instance.state["nickname"]
        key = f"nickname:{nickname.casefold()}"
        if web_socket_instance.storage_object.get(key):
            web_socket_instance.loseConnection(4001, f"{nickname} is taken")
            raise DropMessage
        web_socket_instance.storage_object.add(key, web_socket_instance.id)
        web_socket_instance.state["key"] = key
        web_socket_instance.users.broadcast(f"{nickname} is here")


class LetGo(WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance, data):
        state = web_socket_instance.state
        if "key" in state:
            web_socket_instance.storage_object.remove(state["key"], web_socket_instance.id)
            web_socket_instance.users.broadcast(f"{state['nickname']} has left")
