"""Give each client of a chat a nickname of its own: ws://localhost:9000/?nickname=Ada"""

import json

from filtered_websocket.filters import base
from filtered_websocket.server import FilteredWebSocket

taken: set[str] = set()  # casefolded: ada is Ada


class TakeNickname(base.WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        nickname = web_socket_instance.request.query.get("nickname", "").strip()
        if not 1 <= len(nickname) <= 20 or not nickname.isprintable():
            web_socket_instance.loseConnection(4000, "a nickname has 1 to 20 characters")
        elif nickname.casefold() in taken:
            web_socket_instance.loseConnection(4001, f"{nickname} is taken")
        else:
            taken.add(nickname.casefold())
            web_socket_instance.state["nickname"] = nickname
            web_socket_instance.users.broadcast(json.dumps({"joined": nickname}))


class SignMessage(base.WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, msg: base.Message) -> str:
        if msg.is_binary or not msg.strip():
            raise base.DropMessage
        return json.dumps({"nickname": web_socket_instance.state["nickname"], "text": msg.decode()})


class FreeNickname(base.WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        nickname = web_socket_instance.state.get("nickname")
        if nickname is not None:  # who was not let in must not free the nickname of somebody else
            taken.discard(nickname.casefold())
            web_socket_instance.users.broadcast(json.dumps({"left": nickname}))
