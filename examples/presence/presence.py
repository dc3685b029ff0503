"""Tell everybody who is here, and who looks at something else: ws://localhost:9000/?name=Ada"""

import json
from typing import Any

from filtered_websocket.filters import base
from filtered_websocket.server import FilteredWebSocket


class Arrive(base.WebSocketConnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        name = web_socket_instance.request.query.get("name", "").strip()[:20] or "somebody"
        person = {"id": str(web_socket_instance.id), "name": name, "away": False}
        web_socket_instance.state["person"] = person
        users = web_socket_instance.users.values()
        here = [user.state["person"] for user in users if "person" in user.state]
        web_socket_instance.sendMessage(json.dumps({"you": person["id"], "here": here}))
        tell_others(web_socket_instance, {"changed": person})


class GoAway(base.WebSocketMessageFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, msg: base.Message) -> None:
        person = web_socket_instance.state["person"]
        is_away = {b"away": True, b"back": False}.get(bytes(msg))
        if is_away is not None and is_away != person["away"]:
            person["away"] = is_away
            tell_others(web_socket_instance, {"changed": person})


class Leave(base.WebSocketDisconnectFilter):
    @classmethod
    def filter(cls, web_socket_instance: FilteredWebSocket, data: None) -> None:
        tell_others(web_socket_instance, {"left": str(web_socket_instance.id)})


def tell_others(web_socket_instance: FilteredWebSocket, event: dict[str, Any]) -> None:
    web_socket_instance.users.broadcast(json.dumps(event), skip=web_socket_instance.id)
